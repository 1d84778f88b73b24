package redisstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// The prefixes of the board's keys for uses of at least half a limit, and for resets.
const (
	useKey   = "use/"
	resetKey = "reset/"
)

// ageSlack is by how much the age of a reset may differ when it is received twice.
const ageSlack = 100 * time.Millisecond

func (k usageKey) key() string {
	return fmt.Sprintf("%s%d/%s", useKey, k.window.Milliseconds(), k.subject)
}

// runPublish publishes twice a second which subjects have used half of a limit, and at
// once which have reached one or were reset, and values set by Tell. It reads what changed on
// the board when Redis sends a message, and at least twice a second.
func (s *Store) runPublish(ctx context.Context) {
	notified := make(chan struct{}, 1)
	var listener sync.WaitGroup
	defer listener.Wait()
	listener.Go(func() { s.listen(ctx, notified) })
	tick := time.NewTicker(beatEvery / 2)
	defer tick.Stop()
	for {
		short, cancel := context.WithTimeout(ctx, 2*s.options.Timeout)
		s.poll(short)
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-notified:
		case <-s.usage.urgent:
			s.publish(ctx)
		case <-tick.C:
			now := s.clock.now()
			s.usage.prune(now)
			s.board.prune(time.Now())
			s.outbox.counts.Horizon(now) // sets its clock
			s.outbox.counts.Sweep()
			s.publish(ctx)
		}
	}
}

// listen passes on Redis's messages that the board has changed. If one is missed, the
// next poll sees the change.
func (s *Store) listen(ctx context.Context, notified chan<- struct{}) {
	for ctx.Err() == nil {
		if l := s.servers.linkOf(boardSlot); l != nil && l.alive() {
			s.listenTo(ctx, l, notified)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

func (s *Store) listenTo(ctx context.Context, l *link, notified chan<- struct{}) {
	sub := l.client.Subscribe(ctx, boardKeys[0])
	defer sub.Close()
	messages := sub.Channel()
	for l.alive() {
		select {
		case <-ctx.Done():
			return
		case _, open := <-messages:
			if !open {
				return
			}
			signal(notified)
		case <-time.After(beatEvery):
		}
	}
}

// publish puts the unsent uses and resets on the board, resets first.
func (s *Store) publish(ctx context.Context) {
	l := s.servers.linkOf(boardSlot)
	if l == nil || !l.alive() {
		return
	}
	s.publishValues(ctx, l)
	unsent, resets := s.usage.takeUnsent()
	args, err := s.resetArgs(ctx, l, resets)
	if err != nil {
		s.usage.putBack(unsent, resets)
		return
	}
	for key, v := range unsent {
		args = append(args, key.key(), v.String(), max(1, v.till.Sub(s.clock.now()).Milliseconds()))
	}
	for part := range slices.Chunk(args, 3*boardPage) {
		short, cancel := context.WithTimeout(ctx, s.options.Timeout)
		_, errs := l.run(short, []call{boardCall("put", part...)})
		cancel()
		if errs[0] != nil {
			s.usage.putBack(unsent, resets)
			return
		}
	}
}

// Tell sets a value that expires after lives, in place of the one its key has. Other nodes get it
// at once, or as soon as the board can be reached. It does not wait.
func (s *Store) Tell(key string, value []byte, lives time.Duration) {
	s.board.mu.Lock()
	s.board.untold[key] = entry{Value: value, Till: time.Now().Add(lives)}
	s.board.mu.Unlock()
	signal(s.usage.urgent)
}

// expires reports whether an entry is a value that a node has told.
func (e entry) expires() bool { return len(e.Value) > 0 && !e.Till.IsZero() }

// publishValues puts the values set by Tell on the board. What fails is tried again later.
func (s *Store) publishValues(ctx context.Context, l *link) {
	b := s.board
	b.mu.Lock()
	told := b.untold
	b.untold = map[string]entry{}
	b.mu.Unlock()
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(told)), boardPage/4) {
		var args []any
		for _, key := range keys {
			args = append(args, key, string(told[key].Value), max(1, time.Until(told[key].Till).Milliseconds()))
		}
		short, cancel := context.WithTimeout(ctx, s.options.Timeout)
		_, errs := l.run(short, []call{boardCall("put", args...)})
		cancel()
		if errs[0] != nil {
			break
		}
		for _, key := range keys {
			delete(told, key)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, e := range told {
		if _, newer := b.untold[key]; !newer && time.Now().Before(e.Till) {
			b.untold[key] = e
		}
	}
}

// resetArgs are the arguments that put resets on the board. A reset's entry expires
// removedFor after the reset. From that, and Redis's clock, each node finds the age of
// the reset, on whatever server. It is wrong by two round trips at most, then too old
// rather than too young.
func (s *Store) resetArgs(ctx context.Context, l *link, resets map[string]localReset) (args []any, err error) {
	if len(resets) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	reply, err := l.runOne(ctx, boardCall("time"))
	if err != nil {
		return nil, err
	}
	times, err := integers(reply)
	if err != nil || len(times) != 1 {
		return nil, errReply
	}
	now := s.clock.now()
	for subject, r := range resets {
		till := times[0] + (removedFor - now.Sub(r.at)).Milliseconds()
		args = append(args, resetKey+subject, fmt.Sprintf("%s %d", s.namesakes.instance, r.epoch), -till)
	}
	return args, nil
}

// receiveUse takes a use that a node has published.
func (s *Store) receiveUse(key string, e entry) {
	length, subject, _ := strings.Cut(strings.TrimPrefix(key, useKey), "/")
	var ms int64
	if _, err := fmt.Sscan(length, &ms); err != nil {
		return
	}
	v := usage{till: s.clock.now().Add(time.Until(e.Till))}
	v.parse(string(e.Value))
	if s.usage.receive(usageKey{subject, time.Duration(ms) * time.Millisecond}, v) {
		s.notifyChanged(subject)
	}
}

// receiveReset resets a subject that another node has reset.
func (s *Store) receiveReset(subject string, e entry) {
	var instance string
	var epoch int64
	if _, err := fmt.Sscan(string(e.Value), &instance, &epoch); err != nil || instance == s.namesakes.instance {
		return
	}
	now := s.clock.now()
	age := max(0, removedFor-time.Until(e.Till))
	// It may be known: ages are not exact, and after a start the whole board is read.
	if known := time.UnixMilli(s.ledger.Standing(now, subject).Epoch); now.Add(-age).Sub(known) < ageSlack {
		return
	}
	s.outbox.counts.ResetAsOf(now, subject, age)
	s.usage.forget(subject, epoch)
	s.ledger.ResetAsOf(now, subject, age)
	s.notifyChanged(subject)
}

func (s *Store) notifyChanged(subjects ...string) {
	if s.options.Changed == nil {
		return
	}
	for _, subject := range subjects {
		s.options.Changed(subject)
	}
}
