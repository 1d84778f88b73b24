package delivery

import (
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/notes"
)

// A record is what is known from the log of messages that are still on their
// way.
type record struct {
	notes    notes.Map[arrivalNote] // by id
	mu       sync.Mutex
	arrivals map[string]*Arrived
	last     *Arrived // that was asked for: lines of one message often follow each other
	senders  Sources
	early    map[string][]sidecar.LogEntry // outcomes that came before their arrival
	unnoted  []*Arrived                    // arrivals since the last Checkpoint
	gone     []string                      // ids of noted arrivals whose messages have left
	expired  time.Time                     // when arrivals were last looked through
	batch    Batch
}

// arrived is a message's arrival line, as far as it says who is charged. It is
// kept until the message has left the queue, over restarts too.
type Arrived struct {
	id       string
	At       time.Time
	Sender   *Source
	entries  []spelled
	only     [1]spelled      // room for one
	Distinct bool            // no two of its recipients fold to one address; false if that is not known
	queued   *postfixMessage // of a message of Postfix; nil if nothing more is known
	noted    bool
	stale    bool // noted, and changed since
	left     bool
}

// An arrivalNote is an arrival as it is noted.
type arrivalNote struct {
	At time.Time `json:"at"`
	origin
	Postfix *postfixMessage `json:"postfix,omitempty"`
}

const (
	positionNote = "log/position"

	// maxEarly bounds outcomes that wait for their arrival: cutthrough deliveries,
	// which Exim logs just before it.
	maxEarly = 1000
	// arrivalFor is how long a message may be on its way. Exim's queues end long
	// before; what left behind the log's back is forgotten then.
	arrivalFor = 32 * 24 * time.Hour
)

func newRecord(store sidecar.Notes, events event.Sink) *record {
	r := &record{notes: notes.New[arrivalNote](store, "arrival", 1, event.Unread(events, event.NoteUnread)), arrivals: map[string]*Arrived{}, early: map[string][]sidecar.LogEntry{}, senders: Sources{Known: map[string]*Source{}}}
	r.notes.Load(func(name []string, note arrivalNote) error {
		id := name[0]
		r.arrivals[id] = &Arrived{id: id, At: note.At, Sender: r.senders.Get(note.origin), queued: note.Postfix, noted: true}
		return nil
	})
	return r
}

// arrive copies what it keeps: the block of the log would stay in memory otherwise.
func (r *record) arrive(l *Judged) {
	from := l.From
	if from == nil { // nobody has prepared it
		from = r.senders.Get(OriginOf(l.LogEntry))
	}
	if a := r.arrivals[l.ID]; a != nil { // told again
		a.At, a.Sender, a.queued = l.At, from, nil // or its queue id is used again
		r.changed(a)
		return
	}
	a := &Arrived{id: strings.Clone(l.ID), At: l.At, Sender: from}
	r.arrivals[a.id], r.last = a, a
	r.unnoted = append(r.unnoted, a)
}

// of is a message's arrival; nil if it is not known.
func (r *record) of(id string) *Arrived {
	if r.last == nil || r.last.left || r.last.id != id {
		r.last = r.arrivals[id]
	}
	return r.last
}

func (r *record) leave(id string) {
	a := r.of(id)
	if a == nil {
		return
	}
	a.left = true
	if a.noted {
		r.gone = append(r.gone, a.id)
	}
	delete(r.arrivals, id)
}

// wait keeps an outcome until its arrival is told, if that can still come.
func (r *record) wait(e *sidecar.LogEntry) {
	began, known := envelope.IDTime(e.ID)
	if e.Kind != sidecar.LogDelivered || known && e.At.Sub(began) > 10*time.Minute {
		return
	}
	if len(r.early) >= maxEarly {
		clear(r.early)
	}
	c := e.Clone()
	r.early[c.ID] = append(r.early[c.ID], c)
}

// A spelled is a recipient of a message as its sender has written it. Entries
// that fold to one address differ in that, and Exim delivers to each: it shows
// <BoB@far.example> behind bob@far.example, at every attempt.
type spelled struct {
	first ratelimit.Token // of all that fold to this address
	as    uint64          // as of judgement
}

// maxSpelled bounds the recipients of a message of which this is known. Those
// beyond are charged once, however they are spelled.
const maxSpelled = 2000

// entry is which of a message's entries a recipient is, of those that fold to
// its address: the first that the log shows is 0. What an alias or list has made
// of another address is none of its own, and so are entries that are written in
// the same way: the log cannot tell them from the same line read again, so they
// are charged once rather than too often. For the same reason nothing is added
// after a restart in between, of which this is forgotten: there are never more
// numbers than spellings.
func (a *Arrived) entry(o *Outcome) (n int) {
	if o.Spelled == 0 {
		return 0
	}
	for _, s := range a.entries {
		if s.first != o.First {
			continue
		}
		if s.as == o.Spelled {
			return n
		}
		n++
	}
	if len(a.entries) == maxSpelled {
		return 0
	}
	if a.entries == nil {
		a.entries = a.only[:0]
	}
	a.entries = append(a.entries, spelled{o.First, o.Spelled})
	return n
}

// spellings is how many entries of a message are known to fold to an address.
func (a *Arrived) spellings(first ratelimit.Token) (n int) {
	for _, s := range a.entries {
		if s.first == first {
			n++
		}
	}
	return n
}

// Checkpoint keeps how far the log was read, and with it what is needed to go
// on from there: the arrivals of messages that are still on their way.
func (d *Recorder) Checkpoint(now time.Time, position []byte) error {
	return d.checkpoint(now, positionNote, position)
}

func (d *Recorder) checkpoint(now time.Time, note string, position []byte) error {
	r := d.record
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	for _, a := range r.unnoted {
		if a.left || a.noted && !a.stale { // most have left already
			continue
		}
		if err := r.notes.Put(arrivalNote{At: a.At, origin: a.Sender.origin, Postfix: a.queued}, a.id); err != nil {
			return err
		}
		a.noted, a.stale = true, false
	}
	clear(r.unnoted)
	r.unnoted = r.unnoted[:0]
	if err := d.notes.Note(note, position); err != nil {
		return err
	}
	for len(r.gone) > 0 { // behind the position: an outcome read again needs it
		if err := r.notes.Drop(r.gone[0]); err != nil {
			return err
		}
		r.gone = r.gone[1:]
	}
	return nil
}

// Forget forgets arrivals that are too old, where there is no Checkpoint to do it.
func (d *Recorder) Forget(now time.Time) { d.record.forget(now) }

func (r *record) forget(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	clear(r.unnoted)
	r.unnoted = r.unnoted[:0]
}

func (r *record) expire(now time.Time) {
	if now.Sub(r.expired) < time.Hour {
		return
	}
	r.expired = now
	for id, a := range r.arrivals {
		if now.Sub(a.At) > arrivalFor {
			r.leave(id)
		}
	}
}

// Position is what Checkpoint was last given; nil at the first start.
func (d *Recorder) Position() []byte { return d.position(positionNote) }

func (d *Recorder) position(note string) (position []byte) {
	d.notes.Notes(note, func(_ string, value []byte) { position = value })
	return position
}
