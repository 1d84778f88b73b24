package redisstore

import (
	"context"
	"slices"
	"time"

	"sluice/ratelimit"
)

// What a node accepts while it cannot reach Redis, of a limit max, with N nodes:
//
//	share   floor((max - h)/N) sends that are not merged yet, per subject and
//	        window; h is the larger of max/2 and the use it last saw. If no
//	        node reaches Redis, all accept at most max and what the others
//	        accepted since a node's last sight; if k of N are cut off, at most
//	        max*(1 + k/2N). Past the share: ErrUncounted.
//	local   up to max by its own count, so at most N*max
//	open    everything
//	closed  nothing: never over max. ErrUncounted.
//
// All of it is noted first and merged when Redis answers again, exactly once.

// alone decides without Redis. attempt is that of a call which Redis may have
// run, or may yet run; 0 is none.
func (s *Store) alone(ctx context.Context, now time.Time, t ratelimit.Take, attempt int64) (ratelimit.Result, error) {
	a := s.arrears
	a.mu.Lock()
	defer a.mu.Unlock()
	defer s.kick()
	r, err := s.aloneDecision(ctx, now, t)
	if err == nil && r.OK {
		return r, s.accept(ctx, now, t, &r)
	}
	if attempt > 0 {
		if err := a.add(&arrear{Subjects: t.Subjects, Tokens: t.Tokens, Undo: attempt}); err != nil {
			return r, err
		}
	}
	return r, err
}

// accept notes what was accepted, for Redis, then keeps it: charged to those to
// whom it is charged among what is not merged yet.
func (s *Store) accept(ctx context.Context, now time.Time, t ratelimit.Take, r *ratelimit.Result) error {
	if err := s.arrears.add(&arrear{Tokens: t.Tokens, Charged: true}); err != nil {
		return err
	}
	r.Charged, r.Moved = 0, 0
	for _, g := range group(s.arrears.counts.Charged(now, t.Tokens)) {
		t.Subjects, t.Tokens = within(t.Subjects, g.Subjects), g.Tokens
		charged, moved, err := s.own(ctx, now, t, nil)
		if err != nil {
			return err
		}
		r.Charged, r.Moved = r.Charged+charged, r.Moved+moved
	}
	return nil
}

// within are those of subjects that are among some.
func within(subjects, some []ratelimit.Subject) []ratelimit.Subject {
	return slices.DeleteFunc(slices.Clone(subjects), func(sub ratelimit.Subject) bool {
		return !slices.ContainsFunc(some, func(s ratelimit.Subject) bool { return s.Name == sub.Name })
	})
}

// aloneDecision finds whether the node accepts by itself, and counts what it
// accepts among the sends that are not merged.
func (s *Store) aloneDecision(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	switch {
	case t.Force || s.options.Outage == OutageOpen:
		return s.countAlone(now, t), nil
	case s.options.Outage == OutageLocal:
		look := ratelimit.Take{Subjects: t.Subjects, Marks: t.Marks, Ahead: t.Ahead}
		if len(look.Marks) != len(t.Tokens) {
			look.Marks = t.Tokens
		}
		r, err := s.ledger.Look(ctx, now, look)
		if err == nil && r.OK {
			r = s.countAlone(now, t)
		}
		return r, err
	case s.options.Outage == OutageClosed:
		return ratelimit.Result{}, ErrUncounted
	}
	shared := t
	shared.Subjects = s.shares(t.Subjects)
	r := s.arrears.counts.Take(now, shared)
	if !r.OK {
		return ratelimit.Result{}, ErrUncounted
	}
	return s.seen(r, t.Subjects), nil
}

func (s *Store) countAlone(now time.Time, t ratelimit.Take) ratelimit.Result {
	t.Force = true
	return s.seen(s.arrears.counts.Take(now, t), t.Subjects)
}

// lookAlone looks what alone would accept.
func (s *Store) lookAlone(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	switch s.options.Outage {
	case OutageOpen:
		r := s.arrears.counts.Look(now, ratelimit.Take{Subjects: unlimited(t.Subjects)})
		return s.seen(r, t.Subjects), nil
	case OutageLocal:
		return s.ledger.Look(ctx, now, t)
	case OutageClosed:
		return ratelimit.Result{}, ErrUncounted
	}
	shared := ratelimit.Take{Subjects: s.shares(t.Subjects), Ahead: t.Ahead, Marks: t.Marks}
	r := s.arrears.counts.Look(now, shared)
	if !r.OK {
		return ratelimit.Result{}, ErrUncounted
	}
	for i := range r.Uses {
		u := &r.Uses[i]
		if room := u.Room(); u.Limit.Max > 0 {
			u.Limit = limitOf(t.Subjects, i)
			u.Used = u.Limit.Max - room
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

// shares are the limits that this node keeps to by itself. One of which
// nothing is left is negative: 0 would be unlimited.
func (s *Store) shares(subjects []ratelimit.Subject) []ratelimit.Subject {
	all := unlimited(subjects)
	for i, sub := range subjects {
		for j, l := range sub.Limits {
			if l.Max <= 0 {
				all[i].Limits[j].Max = l.Max
				continue
			}
			h := max((l.Max+1)/2, s.sights.used(sub.Name, l.Window))
			if all[i].Limits[j].Max = max(0, l.Max-h) / int64(s.options.Nodes); all[i].Limits[j].Max == 0 {
				all[i].Limits[j].Max = -1
			}
		}
	}
	return all
}

// seen tells uses as far as this node knows: what it last saw, and what it
// accepted since.
func (s *Store) seen(r ratelimit.Result, subjects []ratelimit.Subject) ratelimit.Result {
	for i := range r.Uses {
		u := &r.Uses[i]
		u.Limit = limitOf(subjects, i)
		u.Used += s.sights.used(u.Subject, u.Limit.Window)
		u.Full, u.Refused, u.Frees = false, 0, time.Time{}
	}
	return r
}
