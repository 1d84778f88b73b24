package redisstore

import (
	"context"
	"slices"
	"time"
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
				if s.outbox.len() > 0 && slices.ContainsFunc(s.servers.masters(), (*link).alive) {
					s.wakeMerge()
				}
			}
		}
	}
}

// merge gives Redis the outbox. Masters that have everything by then decide again. It
// reports whether the outbox is empty.
func (s *Store) merge(ctx context.Context) bool {
	s.merging.Lock()
	defer s.merging.Unlock()
	for range 1000 {
		for some := range slices.Chunk(s.outbox.list(), batch) {
			if ctx.Err() != nil {
				break
			}
			s.mergeSome(ctx, s.clock.now(), some)
		}
		if s.rejoin() || ctx.Err() != nil || !s.anyCatching() {
			break
		}
	}
	return s.outbox.len() == 0
}

// anyCatching reports whether a master answers and is not ready yet.
func (s *Store) anyCatching() bool {
	return slices.ContainsFunc(s.servers.masters(), func(l *link) bool { return l.alive() && !l.ready.Load() })
}

// mergeSome gives Redis some entries, and removes those that all their masters have.
// It reports whether those are all.
func (s *Store) mergeSome(ctx context.Context, now time.Time, some []*pendingWrite) bool {
	byLink := map[*link][]entryCall{}
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
			byLink[c.link] = append(byLink[c.link], entryCall{c, i})
		}
	}
	for l, calls := range byLink {
		for some := range slices.Chunk(calls, batch) {
			s.runPipeline(ctx, now, l, some, failed)
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

// An entryCall is a call that is part of an entry, and the number of the entry.
type entryCall struct {
	linkCall
	entry int
}

// runPipeline runs calls, and marks the entries of those that fail.
func (s *Store) runPipeline(ctx context.Context, now time.Time, l *link, some []entryCall, failed []bool) {
	short, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	calls := make([]call, len(some))
	for k := range some {
		calls[k] = some[k].call
	}
	replies, errs := l.run(short, calls)
	for k, c := range some {
		failed[c.entry] = failed[c.entry] || errs[k] != nil || !carriedOut(replies[k])
		if a, err := answerOf(replies[k], c.subjects); err == nil {
			s.notifyChanged(s.usage.observeMerged(now, a.Result)...)
		}
	}
}

// rejoin lets those masters decide again that answer and have everything. It reports
// whether all masters decide now.
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
