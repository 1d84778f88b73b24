package sidecar

import (
	"context"
	"time"

	"sluice/ratelimit"
)

// A Clock turns the time that a caller read into the time of the store. It
// runs evenly: what is counted must neither be forgotten early nor kept for
// hours because somebody set the system's clock.
type Clock struct {
	Start time.Time // with a monotonic reading
	base  time.Time // what the store's time was then
}

// A Looker is a store as far as a Clock needs it.
type Looker interface {
	Look(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
}

// NewClock goes on from where the store's clock stood, if the system's was
// set back since. now has a monotonic reading.
func NewClock(now time.Time, s Looker) Clock {
	base := now
	if r, err := s.Look(context.Background(), time.Time{}, ratelimit.Take{}); err == nil && r.At.After(now) {
		base = r.At
	}
	return Clock{Start: now, base: base}
}

// Store returns the store's time for a time that was just read.
func (c Clock) Store(now time.Time) time.Time { return c.base.Add(now.Sub(c.Start)) }

// SetOff is by how much the system's clock was set forward or back since the
// start.
func (c Clock) SetOff(now time.Time) time.Duration {
	return now.Round(0).Sub(c.Start.Round(0)) - now.Sub(c.Start)
}

// Wall returns what a time of the store's is called on the wall, given both
// readings of now.
func (c Clock) Wall(now, at time.Time) time.Time {
	return now.Round(0).Add(at.Sub(c.Store(now))).Round(time.Second)
}
