package sidecar

import (
	"context"
	"time"

	"sluice/ratelimit"
)

// Counts reads the counters of a store.
type Counts interface {
	// Standing returns the counters of one subject.
	Standing(now time.Time, subject string) ratelimit.Standing
	// Standings calls f for every subject that is counted now.
	Standings(now time.Time, f func(ratelimit.Standing) bool)
}

// A Reconciler checks domains in the background, and resets them: a reconcile.Loop.
type Reconciler interface {
	// ReconcileSoon has domains checked as soon as possible. It never waits.
	ReconcileSoon(domains ...string)
	// ReconcileAtTick has domains checked within a second. It never waits.
	ReconcileAtTick(domains ...string)
	// Reset starts the counts of a domain at zero, on all nodes, unless the domain was
	// reset already after the epoch seen; see Reset.Epoch. A negative seen always resets.
	Reset(ctx context.Context, now time.Time, domain string, seen int64) error
}

// A Reset says that the counts of a subject have started at zero. Each owner of state
// drops what it has recorded of the subject under an earlier epoch. It may get the same
// Reset twice.
type Reset struct {
	Subject   string
	Epoch     int64 // time of the reset by the store's clock, in Unix milliseconds: the counts since then carry it
	Elsewhere bool  // another node has reset it, and informed all others
}
