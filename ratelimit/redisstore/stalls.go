package redisstore

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Where a machine has too much to do, this process may not run for longer than the timeout of
// a call. Redis has answered by then, and nobody was there to read it: that is no failure
// of Redis. A timer that runs beside the calls tells: how late it fires is how long the
// process was not let run.

// errStalled stands in the breaker for an error that says nothing about the server.
var errStalled = errors.New("this process was not let run")

// maxExcused is how many pipelines in a row may fail without counting: a server may be dead
// as well.
const maxExcused = 30

// stalls has when this process was not let run, of the last time.
type stalls struct {
	mu   sync.Mutex
	due  time.Time // when the timer is to fire next; zero: there is none
	last [64]stall // a ring
	next int
}

type stall struct{ from, to time.Time }

// within is how much of a stall lies between two times.
func (x stall) within(from, to time.Time) time.Duration {
	if x.from.After(from) {
		from = x.from
	}
	if x.to.Before(to) {
		to = x.to
	}
	return max(0, to.Sub(from))
}

// run keeps the timer until ctx is done. It fires some times within each timeout.
func (s *stalls) run(ctx context.Context, timeout time.Duration) {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.fired(time.Now(), time.Time{})
			return
		case <-tick.C:
			now, every := time.Now(), max(5*time.Millisecond, timeout/4)
			s.fired(now, now.Add(every))
			tick.Reset(every)
		}
	}
}

// fired notes how late the timer fires, and when it is due again.
func (s *stalls) fired(now, again time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.due.IsZero() && now.After(s.due) {
		s.last[s.next%len(s.last)] = stall{s.due, now}
		s.next++
	}
	s.due = again
}

// between is for how long this process was not let run between two times. Who asks may be
// let run before the timer is.
func (s *stalls) between(from, to time.Time) (sum time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.last {
		sum += x.within(from, to)
	}
	if !s.due.IsZero() {
		sum += stall{s.due, to}.within(from, to)
	}
	return sum
}

// excused reports whether err is a timeout of a call within which this process did not run for
// a fourth of the time.
func (l *link) excused(err error) bool {
	var late interface{ Timeout() bool }
	if l.stalls == nil || l.open.Load() || !errors.As(err, &late) || !late.Timeout() {
		return false
	}
	now := time.Now()
	return l.stalls.between(now.Add(-l.timeout), now) >= l.timeout/4 && l.excuses.Add(1) <= maxExcused
}
