package alert

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/incident"
)

// These bound the delivery of notices.
const (
	firstPause = 10 * time.Second // after a failure; doubles with each
	lastPause  = time.Hour
	maxAge     = 24 * time.Hour // then a notice is dropped
	maxWaiting = 10_000         // files of all channels; what is more is told in digests
)

// A pending notice is not delivered yet.
type pending struct {
	number int64
	notice Notice
	tries  int
}

// A queue is what one channel was told, and what is still to be delivered to it. Each has a
// goroutine of its own: a webhook that hangs delays no mail.
type queue struct {
	dir    string
	send   func(context.Context, config.Channel, Notice) error
	events event.Sink
	wake   chan struct{} // has an element after a notice was added

	// Of the goroutine that decides which notices are due.
	record record
	untold undue
	offer  offer

	mu      sync.Mutex
	channel config.Channel // its target is always the same
	waiting []*pending     // the oldest first
	counts  Counts
}

// undue is what waits for a notice until there is room for one.
type undue struct {
	moreSince, leftSince time.Time     // when the first that waits for a digest began to; zero: none waits
	acted                []event.Event // what operators have done
}

// An offer is all that is open, to a channel that takes all at once.
type offer struct {
	at     time.Time   // of the last one
	notice chan Notice // which nobody has taken yet
}

// Counts are what became of the notices of a channel since the start.
type Counts struct {
	Channel   string
	Delivered int64
	Failed    int64 // attempts
	Dropped   int64 // after 24 hours, or refused for good
	Waiting   int64
}

// openQueue goes on with what the disk has of a channel, or begins. What cannot be read is an
// error too, and left out: without its record a channel is told again of all that is open.
func openQueue(dir string, c config.Channel, now time.Time) (*queue, error) {
	q := &queue{dir: filepath.Join(dir, c.Key()), wake: make(chan struct{}, 1), offer: offer{notice: make(chan Notice, 1)}, channel: c}
	if err := os.MkdirAll(q.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of notices: %w", err)
	}
	read, known, err := readRecord(q.dir)
	if q.record = read; !known {
		q.record = record{Since: now}
	}
	if q.record.Last == nil {
		q.record.Last = map[string]incident.Notified{}
	}
	waiting, bad := readNotices(q.dir)
	if q.waiting = waiting; len(waiting) > 0 {
		q.record.Next = max(q.record.Next, waiting[len(waiting)-1].number+1)
	}
	if !known {
		bad = errors.Join(bad, q.save(now))
	}
	return q, errors.Join(err, bad)
}

// save writes what was told.
func (q *queue) save(now time.Time) error {
	q.record.forget(now)
	return writeFile(filepath.Join(q.dir, recordName), q.record)
}

// add writes a notice, and has it delivered. What it tells is not yet told on the record: after a
// crash it would be written again, under the same number and id.
func (q *queue) add(n Notice) error {
	if q.waits(n.ID) {
		return nil // from before a crash
	}
	p := &pending{number: q.record.Next, notice: n}
	if err := writeFile(noticePath(q.dir, p.number), n); err != nil {
		return err
	}
	q.record.Next++
	q.mu.Lock()
	q.waiting = append(q.waiting, p)
	q.mu.Unlock()
	return nil
}

// waits reports whether a notice is not delivered yet.
func (q *queue) waits(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.waiting, func(p *pending) bool { return p.notice.ID == id })
}

// deliverSoon has the goroutine of the channel look at what waits.
func (q *queue) deliverSoon() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next is the notice to deliver now, and the channel; nil if nothing waits. That is the oldest of
// those that were tried least, but never one before another of the same incident: what an
// incident's end says comes after what its begin says.
func (q *queue) next(now time.Time) (*pending, config.Channel) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropOld(now)
	before := map[string]bool{}
	var first *pending
	for _, p := range q.waiting {
		free := true
		for _, incident := range p.notice.about() {
			free = free && !before[incident]
			before[incident] = true
		}
		if free && (first == nil || p.tries < first.tries) {
			first = p
		}
	}
	return first, q.channel
}

// dropOld drops what could not be delivered for a day.
func (q *queue) dropOld(now time.Time) {
	q.waiting = slices.DeleteFunc(q.waiting, func(p *pending) bool {
		old := now.Sub(p.notice.At) >= maxAge
		if old {
			q.drop(p, fmt.Errorf("it is %v old", maxAge))
		}
		return old
	})
}

// drop removes the file of a notice that will not be delivered.
func (q *queue) drop(p *pending, why error) {
	q.counts.Dropped++
	q.removeFile(p) // if it stays, it is dropped again after a start
	q.events.Emit(event.Event{Kind: event.NoticeDropped, Attrs: event.Attrs("channel", q.channel.Name, "notice", p.notice.ID), Err: why})
}

// removeFile removes the file of a notice. If it stays, the notice comes twice, with the same id.
func (q *queue) removeFile(p *pending) { os.Remove(noticePath(q.dir, p.number)) }

// A refused error says that a notice was refused for what it is, and always will be.
type refused struct{ error }

// maxRefused is how often a notice may be refused.
const maxRefused = 3

// done records what became of an attempt.
func (q *queue) done(p *pending, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	remove := func() { q.waiting = slices.DeleteFunc(q.waiting, func(o *pending) bool { return o == p }) }
	p.tries++
	if err == nil {
		q.counts.Delivered++
		remove()
		q.removeFile(p) // if that fails it comes twice, with the same id
		return
	}
	q.counts.Failed++
	if _, is := err.(refused); is && p.tries >= maxRefused {
		remove()
		q.drop(p, err)
		return
	}
	q.events.Emit(event.Event{Kind: event.NoticeFailed, Attrs: event.Attrs("channel", q.channel.Name, "notice", p.notice.ID), Err: err})
}

// run delivers notices, one after the other, until ctx is done. After a failure the channel
// pauses.
func (q *queue) run(ctx context.Context) {
	if q.configured().Format == config.FormatAlertmanager {
		q.runLatest(ctx)
		return
	}
	pause := time.Duration(0)
	for {
		p, channel := q.next(time.Now())
		if p == nil {
			select {
			case <-ctx.Done():
				return
			case <-q.wake:
			case <-time.After(time.Minute): // for what is too old
			}
			continue
		}
		err := q.send(ctx, channel, p.notice)
		if ctx.Err() != nil {
			return // it stays
		}
		if q.done(p, err); err == nil {
			pause = 0
			continue
		}
		pause = min(lastPause, max(firstPause, 2*pause))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// configured is the channel as it is configured now.
func (q *queue) configured() config.Channel {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.channel
}

// now are the counts of the channel.
func (q *queue) now() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.counts
	c.Channel, c.Waiting = q.channel.Name, int64(len(q.waiting))
	return c
}
