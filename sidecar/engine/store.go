package engine

import (
	"context"
	"time"

	"sluice/ratelimit"
)

// A Store keeps the counts. The embedded one is a journal.Store.
type Store interface {
	// Take charges, all or nothing. A Take with a known token is accepted
	// and charges that token nothing.
	Take(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	// Look decides like Take, for as many sends as there are marks and at
	// least one, and charges nothing. Marks that it refuses are counted.
	Look(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	// Settle tells what became of sends, in this order, charges by force those
	// that are not known and have Subjects, and fills in what each has changed;
	// see ratelimit.Ledger.
	Settle(ctx context.Context, now time.Time, reports []ratelimit.Report) error
	// Known tells whether the token was charged and is still kept.
	Known(now time.Time, token ratelimit.Token) bool
	// Horizon is the time since when every charge is still known, once the
	// store's clock has been set to now.
	Horizon(now time.Time) time.Time
	// Reset restarts the subject at zero, unless its epoch is past seen,
	// and returns the epoch then in force. A negative seen always resets.
	Reset(ctx context.Context, now time.Time, subject string, seen int64) (int64, error)
	// Standing is what is counted for one subject.
	Standing(now time.Time, subject string) ratelimit.Standing
	// Size tells how many subjects and sends are kept, and how many sends
	// passed uncounted for the memory ceiling.
	Size() (subjects, sends, uncounted int64)
	// Failure tells why what is answered would not survive a crash, if so.
	Failure() error
	// Standings calls f for every subject that is counted now.
	Standings(now time.Time, f func(ratelimit.Standing) bool)
}
