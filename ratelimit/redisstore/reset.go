package redisstore

import (
	"context"
	"math"
	"time"

	"sluice/ratelimit"
)

// Reset restarts a subject at zero on all nodes, unless its epoch is later than seen;
// with a negative seen in any case. While Redis does not answer, this node is reset at
// once and Redis, as of now, when it answers again.
func (s *Store) Reset(ctx context.Context, now time.Time, subject string, seen int64) (int64, error) {
	s.clock.set(now)
	if l := s.servers.linkOf(slotOf(subject)); l != nil && l.answers() { // also while this node catches up with it
		deadline := s.deadline()
		reply, err := l.do(deadline, resetCall(s.terms(now, nil), subject, s.latest(l, deadline), seen))
		numbers, bad := integers(reply)
		switch {
		case err == nil && bad == nil && len(numbers) == 2:
			if numbers[0] == statusOK {
				s.outbox.counts.Reset(now, subject, -1)
				s.usage.forget(subject, numbers[1])
				s.usage.reset(now, subject, numbers[1])
				_, err = s.ledger.Reset(ctx, now, subject, -1)
			}
			return numbers[1], err
		case err == nil:
			return 0, errReply
		}
	}
	return s.resetDegraded(ctx, now, subject, seen)
}

// latest is the latest date, by Redis's clock, that a reset with a deadline may get; zero
// if that is not known. A frozen server may run the call much later, and must then not
// forget what this node has accepted since the deadline. As Redis's clock is known to
// within a millisecond, the date is two earlier than the deadline.
func (s *Store) latest(l *link, deadline time.Time) time.Time {
	if at, ok := l.timeAt(deadline); ok && s.options.RedisTime == nil {
		return at.Add(-2 * time.Millisecond)
	}
	return time.Time{}
}

func (s *Store) resetDegraded(ctx context.Context, now time.Time, subject string, seen int64) (int64, error) {
	if known := s.usage.epoch(subject); seen >= 0 && known > seen {
		return known, nil
	}
	a := s.outbox
	a.mu.Lock() // so that takeDegraded accepts nothing meanwhile
	defer a.mu.Unlock()
	e := &pendingWrite{Reset: subject, At: now.UnixMilli(), Seen: seen}
	if err := a.note(e); err != nil {
		return 0, err
	}
	at, err := s.ledger.Reset(ctx, now, subject, -1)
	e.At = max(e.At, at) // the ledger's clock may be ahead
	a.counts.Reset(now, subject, -1)
	a.insert(e)
	s.wakeMerge()
	epoch := e.At - s.clockShift.Load()
	s.usage.forget(subject, math.MaxInt64)
	s.usage.reset(now, subject, epoch)
	return epoch, err
}

// writeReset has Redis reset a subject as of a time of this node's clock.
//
// Redis dates merged sends a little late, because their age does not include the time
// that the call takes. If the reset got an even later date, sends made just after it
// would not count. So Redis is asked for its time first, and the date is reckoned back
// from that: it is never too late. Sends before the reset are marked as Past.
func (s *Store) writeReset(ctx context.Context, l *link, subject string, at time.Time, seen int64) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	reply, err := l.runOne(ctx, standingCall(s.terms(s.clock.now(), nil), subject))
	if err != nil {
		return err
	}
	_, redisNow, err := standingOf(reply, subject)
	if err != nil {
		return err
	}
	l.observeTime(redisNow)
	now := s.clock.now()
	reply, err = l.runOne(ctx, resetCall(s.terms(now, nil), subject, redisNow.Add(-max(0, now.Sub(at))), seen))
	if err != nil {
		return err
	}
	numbers, err := integers(reply)
	if err != nil || len(numbers) != 2 {
		return errReply
	}
	s.usage.setEpoch(subject, numbers[1])
	return nil
}

// Epoch is when a subject was last reset by Redis's clock, as of the last answer about it, so that of
// one that was just decided on it is right. It waits for nothing.
func (s *Store) Epoch(subject string) int64 { return s.usage.epoch(subject) }

// Standing is what all nodes have counted for a subject or, while Redis does not
// answer, what this node knows.
func (s *Store) Standing(now time.Time, subject string) ratelimit.Standing {
	if l := s.servers.linkOf(slotOf(subject)); l != nil && l.ready.Load() {
		if reply, err := l.do(s.deadline(), standingCall(s.terms(now, nil), subject)); err == nil {
			if st, _, err := standingOf(reply, subject); err == nil {
				return st
			}
		}
	}
	return s.standingDegraded(now, subject)
}

// standingDegraded is what this node has counted or, if that is more, the use that it
// last saw in Redis and what it has accepted since.
func (s *Store) standingDegraded(now time.Time, name string) ratelimit.Standing {
	st := s.ledger.Standing(now, name)
	st.Epoch = s.usage.epoch(name) // that of the ledger is by this node's clock
	st.Partial = true
	unmerged := s.outbox.counts.Standing(now, name)
	for i := range st.Windows {
		w := &st.Windows[i]
		seen := s.usage.used(name, w.Window)
		for _, u := range unmerged.Windows {
			if u.Window == w.Window {
				seen += u.Sent
			}
		}
		w.Sent = max(w.Sent, seen)
	}
	return st
}

// page is how many subjects Standings asks for at once.
const page = 64

// Standings calls f for each subject that this node has charged, and for those of which
// half a limit is used by others, until f returns false.
func (s *Store) Standings(now time.Time, f func(ratelimit.Standing) bool) {
	pages := map[*link][]string{}
	told := map[string]bool{}
	flush := func(l *link) bool {
		names := pages[l]
		delete(pages, l)
		for _, st := range s.pageOf(now, l, names) {
			if !f(st) {
				return false
			}
		}
		return true
	}
	more := true
	add := func(name string) bool {
		l := s.servers.linkOf(slotOf(name))
		if pages[l] = append(pages[l], name); len(pages[l]) == page {
			more = flush(l)
		}
		return more
	}
	foreign := s.usage.subjects()
	s.ledger.Standings(now, func(st ratelimit.Standing) bool {
		if foreign[st.Name] {
			told[st.Name] = true
		}
		return add(st.Name)
	})
	for name := range foreign {
		if more && !told[name] {
			add(name)
		}
	}
	for l := range pages {
		if more {
			more = flush(l)
		}
	}
}

// pageOf asks one master for subjects in one pipeline.
func (s *Store) pageOf(now time.Time, l *link, names []string) []ratelimit.Standing {
	all := make([]ratelimit.Standing, len(names))
	var replies []any
	var errs []error
	if l != nil && l.ready.Load() {
		ctx, cancel := context.WithTimeout(context.Background(), s.options.Timeout)
		defer cancel()
		calls := make([]call, len(names))
		for i, name := range names {
			calls[i] = standingCall(s.terms(now, nil), name)
		}
		replies, errs = l.run(ctx, calls)
	}
	for i, name := range names {
		st, err := ratelimit.Standing{}, errUnsent
		if i < len(replies) && errs[i] == nil {
			st, _, err = standingOf(replies[i], name)
		}
		if err != nil {
			st = s.standingDegraded(now, name)
		}
		all[i] = st
	}
	return all
}
