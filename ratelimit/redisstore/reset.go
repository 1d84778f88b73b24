package redisstore

import (
	"context"
	"math"
	"time"

	"sluice/ratelimit"
)

// Reset restarts a subject at zero on all nodes, unless its epoch is past seen;
// a negative seen always does. While Redis does not answer it is done here, and
// there as of now when it answers again.
func (s *Store) Reset(ctx context.Context, now time.Time, subject string, seen int64) (int64, error) {
	s.clock.set(now)
	if l := s.servers.of(slotOf(subject)); l != nil && l.ready.Load() {
		reply, err := l.do(s.deadline(), resetCall(s.terms(now, nil), subject, s.latest(l), seen))
		numbers, bad := integers(reply)
		switch {
		case err == nil && bad == nil && len(numbers) == 2:
			if numbers[0] == statusOK {
				s.arrears.counts.Reset(now, subject, -1)
				s.sights.forget(subject, numbers[1])
				s.sights.reset(now, subject, numbers[1])
				_, err = s.ledger.Reset(ctx, now, subject, -1)
			}
			return numbers[1], err
		case err == nil:
			return 0, errReply
		}
	}
	return s.resetAlone(ctx, now, subject, seen)
}

// latest is as of when a reset counts at the latest that is made now. A server that
// stands still may run it much later, and what was accepted here meanwhile, because
// it had not answered, must count.
func (s *Store) latest(l *link) time.Time {
	if at, ok := l.timeIn(s.options.Timeout); ok && s.options.redisTime == nil {
		return at
	}
	return time.Time{}
}

func (s *Store) resetAlone(ctx context.Context, now time.Time, subject string, seen int64) (int64, error) {
	if known := s.sights.epoch(subject); seen >= 0 && known > seen {
		return known, nil
	}
	a := s.arrears
	a.mu.Lock() // nothing is accepted alone meanwhile
	defer a.mu.Unlock()
	e := &arrear{Reset: subject, At: now.UnixMilli(), Seen: seen}
	if err := a.note(e); err != nil {
		return 0, err
	}
	at, err := s.ledger.Reset(ctx, now, subject, -1)
	e.At = max(e.At, at) // the ledger's clock may be ahead
	a.counts.Reset(now, subject, -1)
	a.keep(e)
	s.kick()
	epoch := e.At - s.shift.Load()
	s.sights.forget(subject, math.MaxInt64)
	s.sights.reset(now, subject, epoch)
	return epoch, err
}

// tellReset has Redis reset a subject as of a time of this node's clock.
//
// Sends are told with their age, which is short by the time that the call takes, so
// that Redis dates them late. The reset must not be late by more than any of them,
// or what was sent just after it would count nothing. So Redis is asked for its time
// first: what was sent before a reset here is then told as Past.
func (s *Store) tellReset(ctx context.Context, l *link, subject string, at time.Time, seen int64) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	reply, err := l.runOne(ctx, standingCall(s.terms(s.clock.now(), nil), subject))
	if err != nil {
		return err
	}
	_, told, err := standingOf(reply, subject)
	if err != nil {
		return err
	}
	now := s.clock.now()
	reply, err = l.runOne(ctx, resetCall(s.terms(now, nil), subject, told.Add(-max(0, now.Sub(at))), seen))
	if err != nil {
		return err
	}
	numbers, err := integers(reply)
	if err != nil || len(numbers) != 2 {
		return errReply
	}
	s.sights.setEpoch(subject, numbers[1])
	return nil
}

// Standing is what all nodes have counted for one subject; while Redis does not
// answer, what this node knows.
func (s *Store) Standing(now time.Time, subject string) ratelimit.Standing {
	if l := s.servers.of(slotOf(subject)); l != nil && l.ready.Load() {
		if reply, err := l.do(s.deadline(), standingCall(s.terms(now, nil), subject)); err == nil {
			if st, _, err := standingOf(reply, subject); err == nil {
				return st
			}
		}
	}
	return s.standingAlone(now, subject)
}

// standingAlone is what this node counted, or what it last saw and accepted
// since, where that is more.
func (s *Store) standingAlone(now time.Time, name string) ratelimit.Standing {
	st := s.ledger.Standing(now, name)
	st.Epoch = s.sights.epoch(name) // that of the ledger is by this node's clock
	st.Partial = true
	unmerged := s.arrears.counts.Standing(now, name)
	for i := range st.Windows {
		w := &st.Windows[i]
		seen := s.sights.used(name, w.Window)
		for _, u := range unmerged.Windows {
			if u.Window == w.Window {
				seen += u.Sent
			}
		}
		w.Sent = max(w.Sent, seen)
	}
	return st
}

// page is for how many subjects is asked at once.
const page = 64

// Standings calls f for every subject that this node has charged, and for
// those that others have brought to half of a limit, until f returns false.
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
		l := s.servers.of(slotOf(name))
		if pages[l] = append(pages[l], name); len(pages[l]) == page {
			more = flush(l)
		}
		return more
	}
	foreign := s.sights.subjects()
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

// pageOf asks one master for subjects, in one pipeline.
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
			st = s.standingAlone(now, name)
		}
		all[i] = st
	}
	return all
}
