package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/ratelimit"
)

// replayed tells whether a server knows what this node accepted, but for the arrears.
func (s *Store) replayed(server string) (yes bool) {
	s.ledger.Notes(noteServer+server, func(string, []byte) { yes = server != "" })
	return yes
}

// replay tells a server all that this node keeps, and waits until the other
// nodes have done so.
func (s *Store) replay(ctx context.Context, l *link, server string) error {
	s.report.RedisReplaced(l.name)
	start := time.Now()
	sends := 0
	if err := s.tellResets(ctx, l, s.clock.now()); err != nil {
		return err
	}
	var part []ratelimit.Token
	var err error
	s.ledger.Sends(s.clock.now(), func(send ratelimit.Send) bool {
		if part = append(part, send.Token); len(part) == batch {
			sends += len(part)
			err = s.tellSends(ctx, l, part)
			part = part[:0]
		}
		return err == nil && ctx.Err() == nil
	})
	if err == nil {
		sends += len(part)
		err = s.tellSends(ctx, l, part)
	}
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	told, err := s.awaitOthers(ctx, l, start)
	if err != nil {
		return err
	}
	s.report.RedisReplayed(l.name, sends, told, s.options.Nodes)
	return s.remember(l, server)
}

// awaitOthers waits until all nodes have told the server, or for replayWait.
func (s *Store) awaitOthers(ctx context.Context, l *link, start time.Time) (told int, err error) {
	for {
		short, cancel := context.WithTimeout(ctx, s.options.Timeout)
		told, err = s.beat(short, l, true)
		cancel()
		if err != nil || told >= s.options.Nodes || time.Since(start) > replayWait {
			return told, err
		}
		select {
		case <-ctx.Done():
			return told, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// remember notes that a server has been told, in place of those before.
func (s *Store) remember(l *link, server string) error {
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

// tellResets tells a server of the resets that this node's ledger knows.
func (s *Store) tellResets(ctx context.Context, l *link, now time.Time) (err error) {
	s.ledger.Standings(now, func(st ratelimit.Standing) bool {
		if st.Epoch > 0 && s.servers.of(slotOf(st.Name)) == l {
			err = s.tellReset(ctx, l, st.Name, time.UnixMilli(st.Epoch), -1)
		}
		return err == nil
	})
	return err
}

// tellSends tells a server of some sends as the ledger has them now: much later
// their ages would be wrong.
func (s *Store) tellSends(ctx context.Context, l *link, tokens []ratelimit.Token) error {
	now := s.clock.now()
	var mine []linkCall
	for _, c := range s.puts(now, s.ledger.Charged(now, tokens)) {
		if c.link == l {
			mine = append(mine, c)
		}
	}
	return runAll(ctx, s.options.Timeout, mine)
}

// runAll runs calls to one master in pipelines, one after the other.
func runAll(ctx context.Context, timeout time.Duration, calls []linkCall) error {
	for len(calls) > 0 {
		n := min(len(calls), batch)
		var some []call
		for _, c := range calls[:n] {
			some = append(some, c.call)
		}
		short, cancel := context.WithTimeout(ctx, timeout)
		_, errs := calls[0].link.run(short, some)
		cancel()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		calls = calls[n:]
	}
	return nil
}

// widen has Redis keep the sends of all slots for as long as the ledger does
// since a longer limit was set. By itself a slot learns of that with the next
// charge, when sends that this node still knows may be forgotten there.
func (s *Store) widen(ctx context.Context) error {
	now := time.Time{} // whatever the ledger's clock says
	keep, _ := s.ledger.Kept(now, nil)
	if keep <= time.Duration(s.widened.Load()) {
		return nil
	}
	calls := map[*link][]linkCall{}
	s.ledger.Standings(now, func(st ratelimit.Standing) bool {
		l := s.servers.of(slotOf(st.Name))
		calls[l] = append(calls[l], linkCall{link: l, call: standingCall(s.terms(now, nil), st.Name)})
		return true
	})
	for l, some := range calls {
		if l == nil || !l.alive() {
			return nil // again with the next sign of life
		}
		if err := runAll(ctx, s.options.Timeout, some); err != nil {
			return err
		}
	}
	s.widened.Store(int64(keep))
	return nil
}
