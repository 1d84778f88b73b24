package redisstore

import (
	"context"
	"slices"
	"time"

	"sluice/ratelimit"
)

// runMerge merges the outbox whenever wakeMerge is called.
func (s *Store) runMerge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		if !s.merge(ctx) {
			select { // what failed is tried again soon
			case <-ctx.Done():
				return
			case <-time.After(retryEvery / 4):
				if s.outbox.len() > 0 && s.anyAlive() {
					s.wakeMerge()
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

// merge gives Redis the outbox, then has those masters decide again that have
// everything. It reports whether the outbox is empty.
func (s *Store) merge(ctx context.Context) bool {
	s.merging.Lock()
	defer s.merging.Unlock()
	for range 1000 {
		before := s.outbox.list()
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
	return s.outbox.len() == 0
}

// anyCatching reports whether a master answers and is not ready yet.
func (s *Store) anyCatching() bool {
	for _, l := range s.servers.masters() {
		if l.alive() && !l.ready.Load() {
			return true
		}
	}
	return false
}

// mergeSome gives Redis some entries, and removes those that all their masters have.
// It reports whether those are all.
func (s *Store) mergeSome(ctx context.Context, now time.Time, some []*pendingWrite) bool {
	byLink := map[*link]*pipeline{}
	failed := make([]bool, len(some))
	for i, e := range some {
		if e.Reset != "" { // first: it decides which of the sends count
			failed[i] = !s.mergeReset(ctx, e)
		}
	}
	for i, e := range some {
		if e.Reset != "" {
			continue
		}
		for _, c := range s.callsFor(now, e) {
			if c.link == nil || !c.link.alive() {
				failed[i] = true
				continue
			}
			if byLink[c.link] == nil {
				byLink[c.link] = &pipeline{}
			}
			byLink[c.link].add(c, i)
		}
	}
	for l, o := range byLink {
		for len(o.calls) > 0 {
			s.runPipeline(ctx, now, l, o.takeFirst(batch), failed)
		}
	}
	all := true
	for i, e := range some {
		if failed[i] {
			all = false
			continue
		}
		s.outbox.remove(now, e)
	}
	return all
}

// mergeReset gives Redis a reset, and reports whether that succeeded.
func (s *Store) mergeReset(ctx context.Context, e *pendingWrite) bool {
	l := s.servers.linkOf(slotOf(e.Reset))
	return l != nil && l.alive() && s.writeReset(ctx, l, e.Reset, time.UnixMilli(e.At), e.Seen) == nil
}

// A pipeline is the calls to one master.
type pipeline struct {
	calls    []call
	of       []int // number of the entry that a call is part of
	subjects [][]ratelimit.Subject
}

func (o *pipeline) add(c linkCall, of int) {
	o.calls, o.of, o.subjects = append(o.calls, c.call), append(o.of, of), append(o.subjects, c.subjects)
}

// takeFirst removes and returns the first calls, at most n.
func (o *pipeline) takeFirst(n int) pipeline {
	n = min(n, len(o.calls))
	first := pipeline{o.calls[:n], o.of[:n], o.subjects[:n]}
	o.calls, o.of, o.subjects = o.calls[n:], o.of[n:], o.subjects[n:]
	return first
}

// runPipeline runs calls, and marks the entries of those that fail.
func (s *Store) runPipeline(ctx context.Context, now time.Time, l *link, o pipeline, failed []bool) {
	short, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	replies, errs := l.run(short, o.calls)
	for k, i := range o.of {
		failed[i] = failed[i] || errs[k] != nil || !carriedOut(replies[k])
		if a, err := answerOf(replies[k], o.subjects[k]); err == nil {
			s.notifyChanged(s.usage.observeMerged(now, a.Result)...)
		}
	}
}

// rejoin has those masters decide again that answer and have everything. It reports
// whether all masters decide.
func (s *Store) rejoin() bool {
	if !s.anyCatching() {
		return !slices.ContainsFunc(s.servers.masters(), func(l *link) bool { return !l.ready.Load() })
	}
	s.outbox.mu.Lock() // so that takeDegraded accepts nothing meanwhile
	defer s.outbox.mu.Unlock()
	owed := map[*link]bool{}
	for _, e := range s.outbox.entries {
		for _, name := range s.subjectsOf(e) {
			owed[s.servers.linkOf(slotOf(name))] = true
		}
		if s.servers.single != nil {
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

// subjectsOf returns the names of the subjects of an entry.
func (s *Store) subjectsOf(e *pendingWrite) (names []string) {
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
