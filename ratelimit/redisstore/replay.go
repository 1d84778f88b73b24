package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/ratelimit"
)

// replayed reports whether a server has what this node accepted, except the outbox.
func (s *Store) replayed(server string) (yes bool) {
	s.ledger.Notes(noteServer+server, func(string, []byte) { yes = server != "" })
	return yes
}

// replay gives a server all resets and sends that this node has, and waits until the
// other nodes have done so too.
func (s *Store) replay(ctx context.Context, l *link, server string) error {
	s.report.RedisReplaced(l.name)
	start := time.Now()
	sends := 0
	if err := s.writeResets(ctx, l, s.clock.now()); err != nil {
		return err
	}
	var part []ratelimit.Token
	var err error
	s.ledger.Sends(s.clock.now(), func(send ratelimit.Send) bool {
		if part = append(part, send.Token); len(part) == batch {
			sends += len(part)
			err = s.writeSends(ctx, l, part)
			part = part[:0]
		}
		return err == nil && ctx.Err() == nil
	})
	if err == nil {
		sends += len(part)
		err = s.writeSends(ctx, l, part)
	}
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	nodes, err := s.awaitOthers(ctx, l, start)
	if err != nil {
		return err
	}
	s.report.RedisReplayed(l.name, sends, nodes, s.options.Nodes)
	return s.noteReplayed(l, server)
}

// awaitOthers waits until all nodes have replayed, or for replayWait, and returns how
// many have.
func (s *Store) awaitOthers(ctx context.Context, l *link, start time.Time) (nodes int, err error) {
	for {
		short, cancel := context.WithTimeout(ctx, s.options.Timeout)
		nodes, err = s.beat(short, l, true)
		cancel()
		if err != nil || nodes >= s.options.Nodes || time.Since(start) > replayWait {
			return nodes, err
		}
		select {
		case <-ctx.Done():
			return nodes, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// noteReplayed notes that a server has had a replay, in place of those before it.
func (s *Store) noteReplayed(l *link, server string) error {
	var old []string
	s.ledger.Notes(noteServer, func(key string, value []byte) {
		if string(value) == l.name {
			old = append(old, key)
		}
	})
	if err := s.ledger.Note(noteServer+server, []byte(l.name)); err != nil {
		return fmt.Errorf("note that %s was told: %w", l.name, err)
	}
	for _, key := range old {
		if key != noteServer+server {
			s.ledger.Forget(key)
		}
	}
	return nil
}

// writeResets gives a server the resets that this node's ledger has.
func (s *Store) writeResets(ctx context.Context, l *link, now time.Time) (err error) {
	s.ledger.Standings(now, func(st ratelimit.Standing) bool {
		if st.Epoch > 0 && s.servers.linkOf(slotOf(st.Name)) == l {
			err = s.writeReset(ctx, l, st.Name, time.UnixMilli(st.Epoch), -1)
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
