package ratelimit

import (
	"context"
	"time"
)

// A Clock turns a time that was read from the system's clock into the time of the store.
// The store's time runs evenly even if somebody sets the system's clock: so counts are
// neither forgotten early nor kept for hours too long.
type Clock struct {
	Start time.Time // with a monotonic reading
	base  time.Time // the store's time at Start
}

// A looker is the part of a store that a Clock needs.
type looker interface {
	Look(ctx context.Context, now time.Time, t Take) (Result, error)
}

// NewClock starts at now, which has a monotonic reading; or at the store's own time, if
// that is later because the system's clock was set back.
func NewClock(now time.Time, s looker) Clock {
	base := now
	if r, err := s.Look(context.Background(), time.Time{}, Take{}); err == nil && r.At.After(now) {
		base = r.At
	}
	return Clock{Start: now, base: base}
}

// Store returns the store's time for a time that was just read.
func (c Clock) Store(now time.Time) time.Time { return c.base.Add(now.Sub(c.Start)) }

// SetOff is by how much the system's clock was set forward, or back if it is negative,
// since Start.
func (c Clock) SetOff(now time.Time) time.Duration {
	return now.Round(0).Sub(c.Start.Round(0)) - now.Sub(c.Start)
}

// Wall turns a time of the store into one of the system's clock, to the second.
func (c Clock) Wall(now, at time.Time) time.Time {
	return now.Round(0).Add(at.Sub(c.Store(now))).Round(time.Second)
}
