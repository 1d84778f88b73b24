package redisstore

import (
	"context"
	"time"

	"sluice/ratelimit"
)

// Settle sets the outcomes of sends that this node accepted, and charges those that
// are not known; see ratelimit.Ledger.Settle.
func (s *Store) Settle(ctx context.Context, now time.Time, reports []ratelimit.Report) error {
	s.clock.set(now)
	e := &pendingWrite{}
	for i := range reports {
		e.Tokens = append(e.Tokens, reports[i].Token)
	}
	if err := s.outbox.prepare(e); err != nil { // first, in case of a crash
		return err
	}
	if err := s.ledger.Settle(ctx, now, reports); err != nil {
		return err
	}
	e.Tokens = e.Tokens[:0]
	for i := range reports {
		switch r := &reports[i]; {
		case r.Charged:
			e.fresh = append(e.fresh, charged(r))
		case r.Moved:
			e.Tokens = append(e.Tokens, r.Token)
		}
	}
	if !s.mergeSome(ctx, now, []*pendingWrite{e}) {
		for _, send := range e.fresh {
			e.Tokens = append(e.Tokens, send.Token)
		}
		e.fresh = nil // their ages would be wrong later
		s.outbox.commit(e)
		s.wakeMerge()
	}
	return nil
}

// charged is the send that a report has charged.
func charged(r *ratelimit.Report) ratelimit.Send {
	send := ratelimit.Send{Token: r.Token, Age: r.Age, Subjects: r.Subjects}
	if r.Moved {
		send.Outcome = r.Outcome
	}
	return send
}

// settle sets one outcome of several sends, and returns how many have changed.
func (s *Store) settle(ctx context.Context, now time.Time, tokens []ratelimit.Token, o ratelimit.Outcome) (moved int, err error) {
	reports := make([]ratelimit.Report, len(tokens))
	for i, token := range tokens {
		reports[i] = ratelimit.Report{Token: token, Outcome: o}
	}
	err = s.Settle(ctx, now, reports)
	for i := range reports {
		if reports[i].Moved {
			moved++
		}
	}
	return moved, err
}

// Uncharge takes sends of this node off all counts.
func (s *Store) Uncharge(ctx context.Context, now time.Time, tokens []ratelimit.Token) error {
	s.clock.set(now)
	var all []*pendingWrite
	for _, g := range groupSends(s.ledger.Charged(now, tokens)) {
		e := &pendingWrite{Subjects: g.Subjects, Tokens: g.Tokens, Undo: s.attempts.Add(1)}
		if err := s.outbox.add(e); err != nil {
			return err
		}
		all = append(all, e)
	}
	if err := s.ledger.Uncharge(ctx, now, tokens); err != nil {
		return err
	}
	if !s.mergeSome(ctx, now, all) {
		s.wakeMerge()
	}
	return nil
}
