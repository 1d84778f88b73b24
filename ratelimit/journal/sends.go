package journal

import (
	"time"

	"sluice/ratelimit"
)

// Charged is Ledger.Charged.
func (s *Store) Charged(now time.Time, tokens []ratelimit.Token) []ratelimit.Send {
	return s.ledger.Charged(now, tokens)
}

// Sends is Ledger.Sends.
func (s *Store) Sends(now time.Time, f func(ratelimit.Send) bool) { s.ledger.Sends(now, f) }

// ResetAsOf is Ledger.ResetAsOf.
func (s *Store) ResetAsOf(now time.Time, subject string, age time.Duration) {
	s.ledger.ResetAsOf(now, subject, age)
}

// Kept is Ledger.Kept.
func (s *Store) Kept(now time.Time, subjects []ratelimit.Subject) (keep, known time.Duration) {
	return s.ledger.Kept(now, subjects)
}
