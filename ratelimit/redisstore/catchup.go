package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/ratelimit"
)

// While this node catches up with a server, which answers and may lack what this or
// another node has accepted, a Take is charged there as well as in this node's share, and
// accepted if both allow it. So nothing is left to be merged, and where there was nothing
// to catch up with, the limit is exact.

// A stage is how far this node has come with the server that answers.
type stage int

const (
	unmet    stage = iota // it may lack everything
	replayed              // it has what this node accepted, but for the outbox, which can be merged
	complete              // the other nodes have done so too, or were waited for
)

// advance sets the stage, unless another server answers by now, or this one was emptied:
// changes is what serverChanges was.
func (l *link) advance(server string, changes int64, to stage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server == server && l.serverChanges.Load() == changes {
		l.stage = to
	}
}

func (l *link) stageNow() stage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stage
}

// answers reports whether the server can be asked, as far as is known.
func (l *link) answers() bool { return !l.open.Load() && !l.refuses.Load() }

// answering reports whether all servers of some steps can be asked.
func answering(steps []step) bool {
	return !slices.ContainsFunc(steps, func(st step) bool { return st.link == nil || !st.link.answers() })
}

// allComplete reports whether what the servers of some steps have counted is complete.
func allComplete(steps []step) bool {
	return !slices.ContainsFunc(steps, func(st step) bool { return st.link.stageNow() < complete })
}

// reserve takes the sends of t out of what this node may accept alone, if it may.
func (s *Store) reserve(ctx context.Context, now time.Time, t ratelimit.Take, o Outage) (ratelimit.Result, error) {
	s.outbox.mu.Lock()
	defer s.outbox.mu.Unlock()
	return s.decideDegraded(ctx, now, t, o)
}

// endReservation is called after the servers were asked. What they accepted stays out of this
// node's share until they all decide again: other nodes may not have told them yet what
// they had accepted before.
func (s *Store) endReservation(now time.Time, steps []step, t ratelimit.Take, accepted bool) {
	o := s.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	if accepted && !allComplete(steps) {
		o.reserved = append(o.reserved, t.Tokens...)
		return
	}
	o.counts.Uncharge(now, t.Tokens)
}

// tighter returns of two answers to a Look, in the order of the limits, each use that has
// less room.
func tighter(a, b ratelimit.Result) ratelimit.Result {
	b.Uses = slices.Clone(b.Uses)
	for i := range b.Uses {
		if i < len(a.Uses) && a.Uses[i].Limit.Max > 0 && a.Uses[i].Room() < b.Uses[i].Room() {
			b.Uses[i] = a.Uses[i]
		}
	}
	return b
}

// catchUp gives a server everything that it may lack, until it can decide.
func (s *Store) catchUp(ctx context.Context, l *link) error {
	changes, server := l.serverChanges.Load(), l.serverNow()
	if l.stageNow() == unmet {
		if l.everReady {
			s.announce(l, nil)
		}
		if s.hasReplayed(server) {
			l.advance(server, changes, complete)
		} else if err := s.replay(ctx, l); err != nil {
			return err
		}
		l.advance(server, changes, max(l.stageNow(), replayed))
	}
	s.merge(ctx)
	if l.stageNow() == replayed {
		if err := s.awaitOthers(ctx, l); err != nil {
			return err
		}
		if err := s.noteReplayed(l, server); err != nil {
			return err
		}
		l.advance(server, changes, complete)
		s.merge(ctx)
	}
	return nil
}

// awaitOthers publishes when a server has all that this node accepted, and waits until it has that
// of all nodes, at most for replayWait. A node that has never shared a Redis before waits only for
// nodes that are alive.
func (s *Store) awaitOthers(ctx context.Context, l *link) error {
	first := s.neverShared && l.serverChanges.Load() == 0
	start := time.Now()
	for {
		short, cancel := context.WithTimeout(ctx, s.options.Timeout)
		signs, err := s.beat(short, l)
		cancel()
		if err != nil && !l.aboutKey(err) {
			return err
		}
		told := err == nil && s.isReplayed(l) && (signs.told >= s.options.Nodes || first && signs.behind == 0)
		if told || time.Since(start) > cmp.Or(s.options.replayWait, replayWait) {
			s.report.RedisReplayed(l.name, l.replayedSends, signs.told, s.options.Nodes)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// isReplayed reports whether a server has all that this node accepted.
func (s *Store) isReplayed(l *link) bool {
	at := l.stageNow()
	return at == complete || at == replayed && !s.mergeTargets()[l]
}

// hasReplayed reports whether a server has what this node accepted, except the outbox.
func (s *Store) hasReplayed(server string) (yes bool) {
	s.ledger.Notes(noteServer+server, func(string, []byte) { yes = server != "" })
	return yes
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

// lookAgain finds out what is used of what was seen while counts were not complete. If this
// node is cut off again, it decides by that.
func (s *Store) lookAgain(ctx context.Context) error {
	names := s.usage.takeAgain()
	defer func() { s.usage.putAgain(names) }()
	for name := range names {
		l := s.servers.linkOf(slotOf(name))
		if l == nil || !l.ready.Load() {
			continue
		}
		short, cancel := context.WithTimeout(ctx, s.options.Timeout)
		now := s.clock.now()
		reply, err := l.runOne(short, standingCall(s.terms(now, nil), name))
		cancel()
		if err != nil && !l.aboutKey(err) {
			return err
		}
		delete(names, name)
		st, at, err := standingOf(reply, name)
		if err != nil {
			continue
		}
		r := ratelimit.Result{At: at}
		for _, w := range st.Windows {
			r.Uses = append(r.Uses, ratelimit.Use{Subject: name, Limit: ratelimit.Limit{Window: w.Window}, Used: w.Sent, Epoch: st.Epoch})
		}
		s.notifyChanged(s.usage.observeMerged(now, r, true)...)
	}
	return nil
}
