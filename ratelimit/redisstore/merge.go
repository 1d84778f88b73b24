package redisstore

import (
	"context"
	"slices"
	"time"
)

// runMerge merges the outbox whenever wakeMerge is called, and until it is empty.
func (s *Store) runMerge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		for !s.merge(ctx) && s.awaitRetry(ctx) {
		}
	}
}

// awaitRetry waits a while, and until a master answers, before what failed is merged again.
// It reports false if there is nothing to merge any more.
func (s *Store) awaitRetry(ctx context.Context) bool {
	for s.outbox.len() > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(retryEvery / 4):
		}
		if slices.ContainsFunc(s.servers.masters(), (*link).alive) {
			return true
		}
	}
	return false
}

// merge gives Redis the outbox. Masters that have everything by then decide again. It
// reports whether the outbox is empty.
func (s *Store) merge(ctx context.Context) bool {
	s.merging.Lock()
	defer s.merging.Unlock()
	for range 1000 {
		list := s.outbox.list()
		for some := range slices.Chunk(list, batch) {
			if ctx.Err() != nil {
				break
			}
			s.mergeSome(ctx, s.clock.now(), some)
		}
		if s.rejoin() || ctx.Err() != nil || len(list) == 0 || !s.anyCatching() {
			break
		}
	}
	return s.outbox.len() == 0
}

// anyCatching reports whether a master answers and is not ready yet.
func (s *Store) anyCatching() bool {
	return slices.ContainsFunc(s.servers.masters(), func(l *link) bool { return l.alive() && !l.ready.Load() })
}

// A result is what became of an entry.
type result int

const (
	merged result = iota
	failed
	failedByKey // only for its own keys; see aboutKey
)

func (r *result) join(l *link, err error) {
	if err == nil || *r == failed {
		return
	}
	*r = failed
	if l.aboutKey(err) {
		*r = failedByKey
	}
}

// mergeSome gives Redis some entries, and removes those that all their masters have.
// It reports whether those are all.
func (s *Store) mergeSome(ctx context.Context, now time.Time, some []*pendingWrite) bool {
	byLink := map[*link][]entryCall{}
	results := make([]result, len(some))
	for i, e := range some {
		if e.Reset != "" { // first: it decides which of the sends count
			results[i] = s.mergeReset(ctx, e)
		}
	}
	for i, e := range some {
		if e.Reset != "" {
			continue
		}
		for _, c := range s.callsFor(now, e) {
			if c.link == nil || !c.link.alive() {
				results[i] = failed
				continue
			}
			byLink[c.link] = append(byLink[c.link], entryCall{c, &results[i]})
		}
	}
	for l, calls := range byLink {
		for some := range slices.Chunk(calls, batch) {
			s.runPipeline(ctx, now, l, some)
		}
	}
	var postponed []*pendingWrite
	all := true
	for i, e := range some {
		switch results[i] {
		case merged:
			s.outbox.remove(now, e)
			continue
		case failedByKey:
			postponed = append(postponed, e)
		}
		all = false
	}
	s.outbox.postpone(postponed)
	return all
}

// mergeReset gives Redis a reset.
func (s *Store) mergeReset(ctx context.Context, e *pendingWrite) result {
	l := s.servers.linkOf(slotOf(e.Reset))
	if l == nil || !l.alive() {
		return failed
	}
	r := merged
	r.join(l, s.writeReset(ctx, l, e.Reset, time.UnixMilli(e.At), e.Seen))
	return r
}

// An entryCall is a call that is part of an entry, and what became of the entry.
type entryCall struct {
	linkCall
	result *result
}

// runPipeline runs calls to one master.
func (s *Store) runPipeline(ctx context.Context, now time.Time, l *link, some []entryCall) {
	short, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	calls := make([]call, len(some))
	for k := range some {
		calls[k] = some[k].call
	}
	replies, errs := l.run(short, calls)
	for k, c := range some {
		err := errs[k]
		if err == nil && !carriedOut(replies[k]) {
			err = errReply
		}
		c.result.join(l, err)
		if a, err := answerOf(replies[k], c.subjects); err == nil {
			s.notifyChanged(s.usage.observeMerged(now, a.Result, l.stageNow() == complete)...)
		}
	}
}

// rejoin lets those masters decide again whose counts are complete. It reports whether all
// masters decide now.
func (s *Store) rejoin() bool {
	masters := s.servers.masters()
	undecided := func(l *link) bool { return !l.ready.Load() }
	if !slices.ContainsFunc(masters, undecided) {
		return true
	}
	s.outbox.mu.Lock() // so that takeDegraded accepts nothing meanwhile
	defer s.outbox.mu.Unlock()
	owed := s.mergeTargetsLocked()
	for _, l := range masters {
		if !l.ready.Load() && !owed[l] && !s.namesakes.live.Load() {
			l.rejoin()
		}
	}
	if slices.ContainsFunc(masters, undecided) {
		return false
	}
	s.outbox.counts.Uncharge(s.clock.now(), s.outbox.reserved)
	s.outbox.reserved = nil
	return true
}

// mergeTargets are the masters to which something in the outbox is to go that they can take.
func (s *Store) mergeTargets() map[*link]bool {
	s.outbox.mu.Lock()
	defer s.outbox.mu.Unlock()
	return s.mergeTargetsLocked()
}

func (s *Store) mergeTargetsLocked() map[*link]bool {
	owed := map[*link]bool{}
	for _, e := range s.outbox.entries {
		if e.waits() {
			continue
		}
		for _, name := range s.subjectsOf(e) {
			owed[s.servers.linkOf(slotOf(name))] = true
		}
		if s.servers.single != nil {
			break
		}
	}
	return owed
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
