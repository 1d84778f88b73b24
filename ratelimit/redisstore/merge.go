package redisstore

import (
	"context"
	"slices"
	"time"

	"sluice/ratelimit"
)

// runMerge tells Redis what it is to be told whenever there is something.
func (s *Store) runMerge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		if !s.merge(ctx) {
			select { // those that failed are tried again soon
			case <-ctx.Done():
				return
			case <-time.After(retryEvery / 4):
				if s.arrears.len() > 0 && s.anyAlive() {
					s.kick()
				}
			}
		}
	}
}

func (s *Store) anyAlive() bool {
	for _, l := range s.servers.masters() {
		if l.alive() {
			return true
		}
	}
	return false
}

// merge tells Redis all that it is to be told, then has the masters that know
// all decide again. It tells whether nothing is left.
func (s *Store) merge(ctx context.Context) bool {
	s.merging.Lock()
	defer s.merging.Unlock()
	for range 1000 {
		before := s.arrears.list()
		for len(before) > 0 && ctx.Err() == nil {
			n := min(len(before), batch)
			s.mergeSome(ctx, s.clock.now(), before[:n])
			before = before[n:]
		}
		if s.rejoin() || ctx.Err() != nil {
			break
		}
		if !s.anyCatching() {
			break
		}
	}
	return s.arrears.len() == 0
}

// anyCatching tells whether a master answers and is not yet ready.
func (s *Store) anyCatching() bool {
	for _, l := range s.servers.masters() {
		if l.alive() && !l.ready.Load() {
			return true
		}
	}
	return false
}

// mergeSome tells some things, in pipelines, and forgets those that all their
// masters have. It tells whether that is so for all.
func (s *Store) mergeSome(ctx context.Context, now time.Time, some []*arrear) bool {
	byLink := map[*link]*owed{}
	failed := make([]bool, len(some))
	for i, e := range some {
		if e.Reset != "" { // before all sends, of which some are Past by it
			failed[i] = !s.resetOwed(ctx, e)
		}
	}
	for i, e := range some {
		if e.Reset != "" {
			continue
		}
		for _, c := range s.calls(now, e) {
			if c.link == nil || !c.link.alive() {
				failed[i] = true
				continue
			}
			if byLink[c.link] == nil {
				byLink[c.link] = &owed{}
			}
			byLink[c.link].add(c, i)
		}
	}
	for l, o := range byLink {
		for len(o.calls) > 0 {
			s.tellOwed(ctx, now, l, o.cut(batch), failed)
		}
	}
	all := true
	for i, e := range some {
		if failed[i] {
			all = false
			continue
		}
		s.arrears.settled(now, e)
	}
	return all
}

// resetOwed tells a reset, and whether that went well.
func (s *Store) resetOwed(ctx context.Context, e *arrear) bool {
	l := s.servers.of(slotOf(e.Reset))
	return l != nil && l.alive() && s.tellReset(ctx, l, e.Reset, time.UnixMilli(e.At), e.Seen) == nil
}

// owed is what one master is to be told.
type owed struct {
	calls    []call
	of       []int // what of
	subjects [][]ratelimit.Subject
}

func (o *owed) add(c linkCall, of int) {
	o.calls, o.of, o.subjects = append(o.calls, c.call), append(o.of, of), append(o.subjects, c.subjects)
}

// cut takes off at most n.
func (o *owed) cut(n int) owed {
	n = min(n, len(o.calls))
	first := owed{o.calls[:n], o.of[:n], o.subjects[:n]}
	o.calls, o.of, o.subjects = o.calls[n:], o.of[n:], o.subjects[n:]
	return first
}

// tellOwed runs calls in one pipeline, and notes which things have failed.
func (s *Store) tellOwed(ctx context.Context, now time.Time, l *link, o owed, failed []bool) {
	short, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	replies, errs := l.run(short, o.calls)
	for k, i := range o.of {
		failed[i] = failed[i] || errs[k] != nil || !done(replies[k])
		if a, err := answerOf(replies[k], o.subjects[k]); err == nil {
			s.turned(s.sights.merged(now, a.Result)...)
		}
	}
}

// rejoin has the masters decide again that answer and know all. It tells
// whether all do.
func (s *Store) rejoin() bool {
	if !s.anyCatching() {
		return !slices.ContainsFunc(s.servers.masters(), func(l *link) bool { return !l.ready.Load() })
	}
	s.arrears.mu.Lock() // nothing is accepted alone meanwhile
	defer s.arrears.mu.Unlock()
	owed := map[*link]bool{}
	for _, e := range s.arrears.entries {
		for _, name := range s.concerns(e) {
			owed[s.servers.of(slotOf(name))] = true
		}
		if s.servers.one != nil {
			break
		}
	}
	all := true
	for _, l := range s.servers.masters() {
		if !l.ready.Load() && !owed[l] {
			l.rejoin()
		}
		all = all && l.ready.Load()
	}
	return all
}

// concerns are the subjects of what is to be told.
func (s *Store) concerns(e *arrear) (names []string) {
	if e.Reset != "" {
		return []string{e.Reset}
	}
	subjects := e.Subjects
	if e.Undo == 0 {
		for _, send := range s.ledger.Charged(s.clock.now(), e.Tokens) {
			subjects = append(subjects, send.Subjects...)
		}
	}
	for _, sub := range subjects {
		names = append(names, sub.Name)
	}
	return names
}
