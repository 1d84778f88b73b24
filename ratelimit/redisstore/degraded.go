package redisstore

import (
	"context"
	"slices"
	"time"

	"sluice/ratelimit"
)

// What a node accepts while it cannot reach Redis, if a limit is max and there are N
// nodes:
//
//	share   per subject and window floor((max - h)/N) sends that are not merged
//	        yet; h is the larger of max/2 and the use that the node last saw in
//	        Redis. If no node reaches Redis, all together accept at most max, and
//	        what others accepted since a node last saw the use; if k of N nodes are
//	        cut off, at most max*(1 + k/2N). Beyond the share: ratelimit.ErrUncounted. Of what a
//	        limit withholds, each node withholds its Nth part.
//	local   up to max by the node's own count, so at most N*max together
//	open    everything
//	closed  nothing (ratelimit.ErrUncounted), so never more than max
//
// What is accepted is put in the outbox first, and merged exactly once when Redis
// answers again.

// takeDegraded decides without Redis. attempt is the number of a call that Redis may
// have run or may yet run; 0: there is none.
func (s *Store) takeDegraded(ctx context.Context, now time.Time, t ratelimit.Take, attempt int64) (ratelimit.Result, error) {
	a := s.outbox
	a.mu.Lock()
	defer a.mu.Unlock()
	defer s.wakeMerge()
	r, err := s.decideDegraded(ctx, now, t, s.options.Outage)
	if err == nil && r.OK {
		return r, s.acceptDegraded(ctx, now, t, &r)
	}
	if attempt > 0 {
		if err := a.addLocked(&pendingWrite{Subjects: t.Subjects, Tokens: t.Tokens, Undo: attempt}); err != nil {
			return r, err
		}
	}
	return r, err
}

// acceptDegraded puts accepted sends in the outbox, then charges them in this node's
// ledger, to the same subjects as in outbox.counts.
func (s *Store) acceptDegraded(ctx context.Context, now time.Time, t ratelimit.Take, r *ratelimit.Result) error {
	if err := s.outbox.addLocked(&pendingWrite{Tokens: t.Tokens, Charged: true}); err != nil {
		return err
	}
	r.Charged, r.Moved = 0, 0
	for _, g := range groupSends(s.outbox.counts.Charged(now, t.Tokens)) {
		t.Subjects, t.Tokens = within(t.Subjects, g.Subjects), g.Tokens
		charged, moved, err := s.recordLocally(ctx, now, t, nil)
		if err != nil {
			return err
		}
		r.Charged, r.Moved = r.Charged+charged, r.Moved+moved
	}
	return nil
}

// within returns those of subjects whose names are also in some.
func within(subjects, some []ratelimit.Subject) []ratelimit.Subject {
	return slices.DeleteFunc(slices.Clone(subjects), func(sub ratelimit.Subject) bool {
		return !slices.ContainsFunc(some, func(s ratelimit.Subject) bool { return s.Name == sub.Name })
	})
}

// decideDegraded finds out whether this node alone accepts, and counts what it accepts
// in outbox.counts.
func (s *Store) decideDegraded(ctx context.Context, now time.Time, t ratelimit.Take, o Outage) (ratelimit.Result, error) {
	switch {
	case t.Force || o == OutageOpen:
		return s.countDegraded(now, t), nil
	case o == OutageLocal:
		look := ratelimit.Take{Subjects: t.Subjects, Marks: t.Marks, Ahead: t.Ahead}
		if len(look.Marks) != len(t.Tokens) {
			look.Marks = t.Tokens
		}
		r, err := s.ledger.Look(ctx, now, look)
		if err == nil && r.OK {
			r = s.countDegraded(now, t)
		}
		return r, err
	case o == OutageClosed:
		return ratelimit.Result{}, ratelimit.ErrUncounted
	}
	shared := t
	shared.Subjects = s.shares(t.Subjects)
	r := s.outbox.counts.Take(now, shared)
	if !r.OK {
		return s.withheld(r, t.Subjects)
	}
	return s.withLastUsage(r, t.Subjects), nil
}

// withheld answers for sends that this node's share has no room for: with a refusal, if
// it had room but for what is withheld from them.
func (s *Store) withheld(r ratelimit.Result, subjects []ratelimit.Subject) (ratelimit.Result, error) {
	if slices.ContainsFunc(r.Uses, func(u ratelimit.Use) bool { return u.Full && !u.Watched && !u.Withheld }) {
		return ratelimit.Result{}, ratelimit.ErrUncounted
	}
	full := slices.Clone(r.Uses)
	r = s.withLastUsage(r, subjects)
	for i := range r.Uses {
		r.Uses[i].Full, r.Uses[i].Withheld = full[i].Withheld, full[i].Withheld
	}
	return r, nil
}

// countDegraded accepts without regard to limits.
func (s *Store) countDegraded(now time.Time, t ratelimit.Take) ratelimit.Result {
	t.Force = true
	return s.withLastUsage(s.outbox.counts.Take(now, t), t.Subjects)
}

// lookDegraded finds out what takeDegraded would accept.
func (s *Store) lookDegraded(ctx context.Context, now time.Time, t ratelimit.Take, o Outage) (ratelimit.Result, error) {
	switch o {
	case OutageOpen:
		r := s.outbox.counts.Look(now, ratelimit.Take{Subjects: unlimited(t.Subjects)})
		return s.withLastUsage(r, t.Subjects), nil
	case OutageLocal:
		return s.ledger.Look(ctx, now, t)
	case OutageClosed:
		return ratelimit.Result{}, ratelimit.ErrUncounted
	}
	shared := ratelimit.Take{Subjects: s.shares(t.Subjects), Ahead: t.Ahead, Marks: t.Marks}
	r := s.outbox.counts.Look(now, shared)
	if !r.OK {
		return s.withheld(r, t.Subjects)
	}
	for i := range r.Uses {
		u := &r.Uses[i]
		if room := u.Room(); u.Limit.Max > 0 {
			u.Limit, u.Used = limitOf(t.Subjects, i), 0
			u.Used = u.Room() - room
		}
	}
	return r, nil
}

// limitOf is the limit of the i-th use.
func limitOf(subjects []ratelimit.Subject, i int) ratelimit.Limit {
	for _, sub := range subjects {
		if i < len(sub.Limits) {
			return sub.Limits[i]
		}
		i -= len(sub.Limits)
	}
	return ratelimit.Limit{}
}

// unlimited returns subjects with the same windows and Max 0.
func unlimited(subjects []ratelimit.Subject) []ratelimit.Subject {
	all := make([]ratelimit.Subject, len(subjects))
	for i, sub := range subjects {
		all[i].Name, all[i].Watched = sub.Name, sub.Watched
		for _, l := range sub.Limits {
			all[i].Limits = append(all[i].Limits, ratelimit.Limit{Window: l.Window})
		}
	}
	return all
}

// shares returns subjects with this node's shares as limits. If nothing is left of a
// limit it is -1, for 0 would be unlimited.
func (s *Store) shares(subjects []ratelimit.Subject) []ratelimit.Subject {
	all, nodes := unlimited(subjects), int64(s.nodes.count(s.options.Nodes))
	for i, sub := range subjects {
		for j, l := range sub.Limits {
			if l.Max <= 0 {
				all[i].Limits[j].Max = l.Max
				continue
			}
			h := max((l.Max+1)/2, s.usage.used(sub.Name, l.Window))
			all[i].Limits[j].Withheld = (max(0, min(l.Withheld, l.Max)) + nodes - 1) / nodes
			if all[i].Limits[j].Max = max(0, l.Max-h) / nodes; all[i].Limits[j].Max == 0 {
				all[i].Limits[j].Max = -1
			}
		}
	}
	return all
}

// withLastUsage adds to each Use of what this node accepted alone the use that it last
// saw in Redis.
func (s *Store) withLastUsage(r ratelimit.Result, subjects []ratelimit.Subject) ratelimit.Result {
	for i := range r.Uses {
		u := &r.Uses[i]
		u.Limit = limitOf(subjects, i)
		u.Used += s.usage.used(u.Subject, u.Limit.Window)
		u.Full, u.Withheld, u.Refused, u.Frees = false, false, 0, time.Time{}
	}
	return r
}
