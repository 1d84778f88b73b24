package engine

import (
	"context"
	"time"

	"sluice/ratelimit"
)

// A Store keeps the counts. The one within the process is a journal.Store.
type Store interface {
	// Take charges all sends of a Take, or none. A token that is known already is
	// accepted and not charged again.
	Take(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	// Look decides like Take, for as many sends as there are marks and at
	// least one, and charges nothing. It counts the marks that it refuses.
	Look(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	// Settle records what became of sends, in this order. It charges, over any limit,
	// those that are not known and have Subjects, and sets in each report what it has
	// changed; see ratelimit.Ledger.
	Settle(ctx context.Context, now time.Time, reports []ratelimit.Report) error
	// Uncharge takes sends off all counts and forgets them. It ignores unknown tokens.
	Uncharge(ctx context.Context, now time.Time, tokens []ratelimit.Token) error
	// Known reports whether the token was charged and is still kept.
	Known(now time.Time, token ratelimit.Token) bool
	// Horizon sets the store's clock to now, and returns the time since when every
	// charge is still known.
	Horizon(now time.Time) time.Time
	// Reset restarts the subject at zero, unless its epoch is past seen,
	// and returns the epoch then in force. A negative seen always resets.
	Reset(ctx context.Context, now time.Time, subject string, seen int64) (int64, error)
	// Epoch returns when a subject was last reset, as far as it is known without asking
	// anybody: of one that was just decided on it is right. It must not wait.
	Epoch(subject string) int64
	// Standing returns what is counted for one subject.
	Standing(now time.Time, subject string) ratelimit.Standing
	// Size returns how many subjects and sends are kept, and how many sends
	// passed uncounted because of the memory ceiling.
	Size() (subjects, sends, uncounted int64)
	// Failure returns why what is answered would not survive a crash, or nil.
	Failure() error
	// Standings calls f for every subject that is counted now, until it returns false.
	Standings(now time.Time, f func(ratelimit.Standing) bool)
}
