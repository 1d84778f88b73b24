package redisstore

import (
	"context"
	"errors"
	"slices"
	"time"

	"sluice/ratelimit"
)

// replayTries is how often a part of a replay is tried. That goes on for longer than the
// breaker stays open.
const replayTries = 10

// replay gives a server all resets and sends that this node has.
func (s *Store) replay(ctx context.Context, l *link) error {
	s.report.RedisReplaced(l.name)
	l.replayedSends = 0
	if err := s.writeResets(ctx, l, s.clock.now()); err != nil {
		return err
	}
	var part []ratelimit.Token
	var err error
	s.ledger.Sends(s.clock.now(), func(send ratelimit.Send) bool {
		if part = append(part, send.Token); len(part) == batch {
			l.replayedSends += len(part)
			err = s.insist(ctx, l, func() error { return s.writeSends(ctx, l, part) })
			part = part[:0]
		}
		return err == nil && ctx.Err() == nil
	})
	if err == nil {
		l.replayedSends += len(part)
		err = s.insist(ctx, l, func() error { return s.writeSends(ctx, l, part) })
	}
	return errors.Join(err, ctx.Err())
}

// insist does a part of a replay again until it succeeds, at most replayTries times. Without
// that one late answer among thousands would have all told anew, and on a busy machine a
// replay would never end.
func (s *Store) insist(ctx context.Context, l *link, part func() error) error {
	changes := l.serverChanges.Load()
	for try := 1; ; try++ {
		err := part()
		if err == nil || l.aboutKey(err) || try == replayTries || l.serverChanges.Load() != changes {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.options.Timeout):
		}
	}
}

// writeResets gives a server the resets that this node's ledger has.
func (s *Store) writeResets(ctx context.Context, l *link, now time.Time) (err error) {
	s.ledger.Standings(now, func(st ratelimit.Standing) bool {
		if st.Epoch > 0 && s.servers.linkOf(slotOf(st.Name)) == l {
			err = s.insist(ctx, l, func() error { return s.writeReset(ctx, l, st.Name, time.UnixMilli(st.Epoch), -1) })
			if l.aboutKey(err) {
				err = s.outbox.add(&pendingWrite{Reset: st.Name, At: st.Epoch, Seen: -1})
			}
		}
		return err == nil
	})
	return err
}

// writeSends gives a server some sends as the ledger has them now; much later their
// ages would be wrong. Those that fail by their keys are left to the outbox.
func (s *Store) writeSends(ctx context.Context, l *link, tokens []ratelimit.Token) error {
	now := s.clock.now()
	var mine []linkCall
	for _, c := range s.chargeCalls(now, s.ledger.Charged(now, tokens)) {
		if c.link == l {
			mine = append(mine, c)
		}
	}
	err := runAll(ctx, s.options.Timeout, mine)
	if l.aboutKey(err) {
		err = s.outbox.add(&pendingWrite{Tokens: slices.Clone(tokens)})
	}
	return err
}

// runAll runs calls to one master, in one pipeline after the other. If it returns an error
// about a key, all others have been run.
func runAll(ctx context.Context, timeout time.Duration, calls []linkCall) (byKey error) {
	for part := range slices.Chunk(calls, batch) {
		var some []call
		for _, c := range part {
			some = append(some, c.call)
		}
		short, cancel := context.WithTimeout(ctx, timeout)
		_, errs := calls[0].link.run(short, some)
		cancel()
		for _, err := range errs {
			switch {
			case err == nil:
			case calls[0].link.aboutKey(err):
				byKey = err
			default:
				return err
			}
		}
	}
	return byKey
}

// extendRetention has Redis keep sends for longer in all slots, after a longer limit
// was set. Otherwise a slot would do so from its next charge on, and might by then have
// forgotten sends that this node still has.
func (s *Store) extendRetention(ctx context.Context) error {
	now := time.Time{} // the ledger then uses its clock
	keep, _ := s.ledger.Kept(now, nil)
	if keep <= time.Duration(s.retention.Load()) {
		return nil
	}
	calls := map[*link][]linkCall{}
	s.ledger.Standings(now, func(st ratelimit.Standing) bool {
		l := s.servers.linkOf(slotOf(st.Name))
		calls[l] = append(calls[l], linkCall{link: l, call: standingCall(s.terms(now, nil), st.Name)})
		return true
	})
	for l, some := range calls {
		if l == nil || !l.alive() {
			return nil // tried again with the next heartbeat
		}
		if err := runAll(ctx, s.options.Timeout, some); err != nil && !beginsWith(err, unusable...) {
			return err
		}
	}
	s.retention.Store(int64(keep))
	return nil
}
