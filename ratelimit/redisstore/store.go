package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
)

// A Ledger is the node's own store: a journal.Store.
type Ledger interface {
	Take(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	Look(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	Known(now time.Time, token ratelimit.Token) bool
	Horizon(now time.Time) time.Time
	Kept(now time.Time, subjects []ratelimit.Subject) (keep, known time.Duration)
	Settle(ctx context.Context, now time.Time, reports []ratelimit.Report) error
	Uncharge(ctx context.Context, now time.Time, tokens []ratelimit.Token) error
	Reset(ctx context.Context, now time.Time, subject string, seen int64) (int64, error)
	ResetAsOf(now time.Time, subject string, age time.Duration)
	Standing(now time.Time, subject string) ratelimit.Standing
	Standings(now time.Time, f func(ratelimit.Standing) bool)
	Charged(now time.Time, tokens []ratelimit.Token) []ratelimit.Send
	Sends(now time.Time, f func(ratelimit.Send) bool)
	Size() (subjects, sends, uncounted int64)
	Failure() error

	// Notes survive a crash together with the counts. This package uses keys that
	// begin with "redis/".
	Note(key string, value []byte) error
	Forget(key string) error
	Notes(prefix string, f func(key string, value []byte))
}

// An Outage is what a node accepts while it cannot reach Redis.
type Outage string

// The outage modes; see degraded.go for what they guarantee.
const (
	OutageShare  Outage = "share"  // its share of what is left
	OutageLocal  Outage = "local"  // up to the limit by its own count
	OutageOpen   Outage = "open"   // everything
	OutageClosed Outage = "closed" // nothing
)

// Options are the options of Open.
type Options struct {
	URL      string        // see parseURL
	Timeout  time.Duration // a call is answered within it, whatever Redis does
	Outage   Outage
	Node     string // name of this node, unique in the cluster
	Nodes    int    // how many nodes share the Redis
	Ledger   Ledger
	Reporter Reporter

	// Changed is called when this or another node sees that a subject has reached a
	// limit or is below one again, and when another node has reset it. May be nil.
	Changed func(subject string)

	// Called is called after each pipeline of calls, with how long it took and why it failed. It
	// must not wait. May be nil.
	Called func(took time.Duration, err error)

	// RedisTime, in tests, replaces Redis's clock. Must be nil elsewhere.
	RedisTime func() time.Time
	// replayWait, in tests, replaces the constant.
	replayWait time.Duration
	// answered, in tests, is called with Redis's answer to a Take, and when it was asked.
	answered func(t ratelimit.Take, began time.Time, a answer)
}

// A Store counts in Redis. Its methods may be called concurrently. Take, Look, Reset
// and Standing return within Options.Timeout.
type Store struct {
	options Options
	ledger  Ledger
	report  Reporter
	servers *servers
	outbox  *outbox
	usage   *usageCache
	board   *board
	nodes   nodes

	namesakes namesakes

	neverShared bool // when it was opened, this node had never worked with a Redis

	clock clock
	numbers

	wake    chan struct{} // has an element when the outbox is to be merged
	merging sync.Mutex
}

// numbers are those numbers of a Store that change.
type numbers struct {
	attempts    atomic.Int64 // number of the last attempt; see terms
	modeChanges atomic.Int64 // see Status
	clockShift  atomic.Int64 // by how much this node's clock is ahead of Redis's, milliseconds
	retention   atomic.Int64 // for how long all slots keep sends, nanoseconds
}

// Open opens a store, whether Redis answers or not. Only while Run runs does the store
// use Redis.
func Open(o Options) (*Store, error) {
	a, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	o.Nodes = max(o.Nodes, 1)
	o.Timeout -= o.Timeout / 10 // the rest is for deciding without Redis
	s := &Store{options: o, ledger: o.Ledger, report: o.Reporter, wake: make(chan struct{}, 1)}
	now := time.Now()
	at := now
	if r, err := o.Ledger.Look(context.Background(), time.Time{}, ratelimit.Take{}); err == nil && r.At.After(at) {
		at = r.At // the system's clock has been set back
	}
	s.clock.set(at)
	s.attempts.Store(at.UnixMicro())
	keep, _ := o.Ledger.Kept(now, nil)
	s.retention.Store(int64(keep))
	s.usage, s.board = newUsageCache(), newBoard(o.Ledger)
	s.outbox = newOutbox(o.Ledger, at)
	s.namesakes.instance = newInstance()
	s.neverShared = true
	o.Ledger.Notes(noteServer, func(string, []byte) { s.neverShared = false })
	s.servers = newServers(a, o.Timeout, s.wakeMerge, s.keyFailed, o.Called)
	return s, nil
}

// Close closes the connections, but not the Ledger. No call may be under way, nor
// Run.
func (s *Store) Close() error {
	s.servers.close()
	return nil
}

// A clock continues the time that callers pass, which need not be the system's, for
// work that no caller asked for.
type clock struct{ last atomic.Pointer[[2]time.Time] } // the latest time passed, and the system's then

// set takes the time that a caller passed, if it is later than those before.
func (c *clock) set(now time.Time) {
	if last := c.last.Load(); last == nil || now.After(last[0]) {
		c.last.Store(&[2]time.Time{now, time.Now()})
	}
}

// now is the latest time that was passed, and what has gone by since.
func (c *clock) now() time.Time {
	last := c.last.Load()
	return last[0].Add(time.Since(last[1]))
}

// terms returns the terms of the next call, which charges subjects; nil if none.
func (s *Store) terms(now time.Time, subjects []ratelimit.Subject) terms {
	t := terms{attempt: s.attempts.Add(1)}
	t.keep, t.horizon = s.ledger.Kept(now, subjects)
	if s.options.RedisTime != nil {
		t.now = s.options.RedisTime()
	}
	return t
}

// A step is the part of a call that goes to one master.
type step struct {
	link     *link
	subjects []ratelimit.Subject
}

// steps divides subjects among the masters, accounts first. ok is false if one of the
// masters does not decide.
func (s *Store) steps(subjects []ratelimit.Subject) (all []step, ok bool) {
	if l := s.servers.single; l != nil {
		return []step{{l, subjects}}, l.ready.Load()
	}
	ok = true
	bySlot := map[string]int{}
	for _, sub := range subjects {
		slot := slotOf(sub.Name)
		i, seen := bySlot[slot]
		if !seen {
			i = len(all)
			bySlot[slot] = i
			l := s.servers.linkOf(slot)
			ok = ok && l != nil && l.ready.Load()
			all = append(all, step{link: l})
		}
		all[i].subjects = append(all[i].subjects, sub)
	}
	slices.SortStableFunc(all, func(a, b step) int { return rank(a) - rank(b) })
	return all, ok
}

// rank orders accounts before domains: when a step refuses, the steps before it must be
// undone, and accounts seldom refuse.
func rank(s step) int {
	if slotOf(s.subjects[0].Name) == s.subjects[0].Name && isAccount(s.subjects[0].Name) {
		return 0
	}
	return 1
}

// Take charges t, all or nothing. Sends that this node has accepted before are
// accepted without asking Redis.
func (s *Store) Take(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	s.clock.set(now)
	deadline := s.deadline()
	fresh, known := s.splitKnown(now, t)
	moved := 0
	if t.Outcome != 0 && len(known) > 0 {
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		var err error
		if moved, err = s.settle(ctx, now, known, t.Outcome); err != nil {
			return ratelimit.Result{}, err
		}
	}
	if len(fresh.Tokens) == 0 {
		r, err := s.ledger.Take(ctx, now, t)
		r.Moved = moved
		return r, err
	}
	r, err := s.decide(ctx, now, deadline, fresh)
	r.Moved += moved
	return r, err
}

// splitKnown returns the part of a Take that this node has not accepted yet, and the
// tokens of the rest.
func (s *Store) splitKnown(now time.Time, t ratelimit.Take) (_ ratelimit.Take, known []ratelimit.Token) {
	tokens, marks := t.Tokens, t.Marks
	t.Tokens, t.Marks, t.Uses = nil, nil, nil
	t.Subjects = slices.Clone(t.Subjects) // the outbox may keep them until Redis answers again
	seen := make(map[ratelimit.Token]bool, len(tokens))
	for i, token := range tokens {
		if seen[token] {
			continue
		}
		seen[token] = true
		if token == 0 || s.ledger.Known(now, token) {
			known = append(known, token)
			continue
		}
		t.Tokens = append(t.Tokens, token)
		if i < len(marks) {
			t.Marks = append(t.Marks, marks[i])
		}
	}
	return t, known
}

// deadline is until when a caller who asks now waits for Redis, in all of its calls.
func (s *Store) deadline() time.Time { return time.Now().Add(s.options.Timeout) }

// decide has Redis decide or, if it does not answer, this node alone.
func (s *Store) decide(ctx context.Context, now, deadline time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	steps, ready := s.steps(t.Subjects)
	if !ready {
		if !answering(steps) {
			return s.takeDegraded(ctx, now, t, 0)
		}
		outage := s.outageWith(steps)
		if r, err := s.reserve(ctx, now, t, outage); err != nil || !r.OK {
			return r, err
		}
		t.Force = t.Force || outage == OutageOpen
	}
	terms := s.terms(now, t.Subjects)
	terms.again = s.outbox.undoes(t.Tokens)
	began := time.Now()
	a, err := s.ask(deadline, terms, steps, t, takeCall)
	if err == nil && s.options.answered != nil {
		s.options.answered(t, began, a)
	}
	if !ready {
		s.endReservation(now, steps, t, err == nil && a.OK)
	}
	switch {
	case err == nil:
		s.notifyChanged(s.usage.observe(now, a.Result, ready || allComplete(steps))...)
		r := s.inLocalTime(now, a.Result)
		if r.OK {
			r.Charged, r.Moved, err = s.recordLocally(ctx, now, t, a.admitted)
			for i, u := range r.Uses {
				if admitted, fewer := a.admitted[u.Subject]; fewer && admitted < r.Charged {
					r.Uses[i].Over = int64(a.over[u.Subject])
				}
			}
		}
		return r, err
	case errors.Is(err, errUnsent):
		return s.takeDegraded(ctx, now, t, 0)
	}
	return s.takeDegraded(ctx, now, t, terms.attempt)
}

// recordLocally charges accepted sends in this node's ledger. admitted has the
// subjects that are charged for fewer than all sends, and for how many.
func (s *Store) recordLocally(ctx context.Context, now time.Time, t ratelimit.Take, admitted map[string]int) (charged, moved int, err error) {
	t.Force = true
	if len(admitted) > 0 { // charges nothing: all windows of t, also of those who pay nothing, say how long sends are kept
		if _, err := s.ledger.Take(ctx, now, ratelimit.Take{Subjects: t.Subjects}); err != nil {
			return 0, 0, fmt.Errorf("keep what was accepted: %w", err)
		}
	}
	for from, to := 0, 0; from < len(t.Tokens); from = to {
		to = len(t.Tokens)
		part := t
		part.Subjects = nil
		for _, sub := range t.Subjects {
			switch n, fewer := admitted[sub.Name]; {
			case !fewer:
			case n <= from:
				continue
			default:
				to = min(to, n)
			}
			part.Subjects = append(part.Subjects, sub)
		}
		part.Tokens = t.Tokens[from:to]
		own, err := s.ledger.Take(ctx, now, part)
		if err != nil {
			return charged, moved, fmt.Errorf("keep what was accepted: %w", err)
		}
		charged, moved = charged+own.Charged, moved+own.Moved
	}
	return charged, moved, nil
}

// ask runs the steps of a Take or a Look one after the other until one refuses. What
// the steps before have charged is then undone.
func (s *Store) ask(deadline time.Time, terms terms, steps []step, t ratelimit.Take,
	make func(terms, ratelimit.Take) call) (all answer, err error) {
	all.OK = true
	for i := range steps {
		st, part := &steps[i], t
		part.Subjects = st.subjects
		c := make(terms, part)
		reply, err := st.link.do(deadline, c)
		if err != nil {
			reply, err = s.follow(deadline, st, c, err)
		}
		if err != nil {
			if i > 0 && errors.Is(err, errUnsent) {
				err = fmt.Errorf("after a first step: %v", err)
			}
			return all, err
		}
		a, err := answerOf(reply, st.subjects)
		if err != nil {
			return all, err
		}
		st.link.observeTime(a.At)
		if a.status == statusBuried {
			return all, errors.New("take: the attempt was given up")
		}
		all.join(a)
		if !a.OK && len(t.Tokens) > 0 {
			return all, s.undoSteps(steps[:i], t.Tokens, terms.attempt)
		}
	}
	if len(steps) > 1 {
		all.Uses = inOrder(all.Uses, t.Subjects)
	}
	return all, nil
}

// undoSteps has the charges of the first steps undone. If it returns an error, the
// caller has the whole attempt undone.
func (s *Store) undoSteps(steps []step, tokens []ratelimit.Token, attempt int64) error {
	for _, st := range steps {
		if err := s.outbox.add(&pendingWrite{Subjects: st.subjects, Tokens: tokens, Undo: attempt}); err != nil {
			return err
		}
	}
	s.wakeMerge()
	return nil
}

// join adds the answer to another step.
func (a *answer) join(b answer) {
	a.At, a.OK = b.At, a.OK && b.OK
	a.Uses = append(a.Uses, b.Uses...)
	if a.admitted == nil {
		a.admitted, a.over = b.admitted, b.over
		return
	}
	maps.Copy(a.admitted, b.admitted)
	maps.Copy(a.over, b.over)
}

// inOrder puts uses in the order asked. If a step has refused, the later ones were not
// asked, and their uses have no counts.
func inOrder(uses []ratelimit.Use, subjects []ratelimit.Subject) (all []ratelimit.Use) {
	for _, sub := range subjects {
		for _, l := range sub.Limits {
			u := ratelimit.Use{Subject: sub.Name, Limit: l}
			if i := slices.IndexFunc(uses, func(u ratelimit.Use) bool { return u.Subject == sub.Name && u.Limit == l }); i >= 0 {
				u = uses[i]
			}
			all = append(all, u)
		}
	}
	return all
}

// inLocalTime turns times of Redis's clock into those of the caller's, which may be
// minutes apart. Epochs stay as they are.
func (s *Store) inLocalTime(now time.Time, r ratelimit.Result) ratelimit.Result {
	if s.options.RedisTime != nil {
		return r
	}
	shift := now.Sub(r.At)
	s.clockShift.Store(shift.Milliseconds())
	for i := range r.Uses {
		if u := &r.Uses[i]; !u.Frees.IsZero() {
			u.Frees = u.Frees.Add(shift)
		}
	}
	r.At = now
	return r
}

// Look decides like Take but charges nothing. While Redis does not answer, the Room of
// its Uses is what is left of this node's share.
func (s *Store) Look(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	s.clock.set(now)
	deadline := s.deadline()
	if len(t.Subjects) == 0 {
		return s.ledger.Look(ctx, now, t)
	}
	steps, ready := s.steps(t.Subjects)
	var own ratelimit.Result
	if !ready {
		outage := s.outageWith(steps)
		var err error
		if own, err = s.lookDegraded(ctx, now, t, outage); err != nil || !own.OK || !answering(steps) || outage == OutageOpen {
			return own, err
		}
	}
	a, err := s.ask(deadline, s.terms(now, nil), steps, t, lookCall)
	switch {
	case err != nil && ready:
		return s.lookDegraded(ctx, now, t, s.options.Outage)
	case err != nil:
		return own, nil
	}
	s.notifyChanged(s.usage.observe(now, a.Result, ready || allComplete(steps))...)
	r := s.inLocalTime(now, a.Result)
	if !ready && r.OK {
		r = tighter(own, r)
	}
	return r, nil
}

// Known reports whether this node has charged a send and still keeps it.
func (s *Store) Known(now time.Time, token ratelimit.Token) bool { return s.ledger.Known(now, token) }

// Horizon is Ledger.Horizon.
func (s *Store) Horizon(now time.Time) time.Time {
	s.clock.set(now)
	return s.ledger.Horizon(now)
}

// Size is Ledger.Size, about what this node keeps.
func (s *Store) Size() (subjects, sends, uncounted int64) { return s.ledger.Size() }

// Failure is Ledger.Failure. It is nil while only Redis does not answer.
func (s *Store) Failure() error { return s.ledger.Failure() }
