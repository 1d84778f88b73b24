// Package redisstore shares the counts of several nodes in a Redis, and lets
// no mail notice when that is gone.
//
// Every node keeps its own ledger as well, which holds the sends that this
// node accepted. What it knows is accepted without asking; all else is decided
// in Redis, by one script call on Redis's own clock (store.lua). So a retry
// after a lost reply, the merge after an outage and the replay after a failover
// are one operation with the same token: charge again, by force, with an age.
//
// A subject is only a name here; where it is counted, see slotOf. On a Redis
// Cluster the subjects of a Take may lie on several masters. They are charged
// one after the other, accounts first, and taken back by token if a later one
// refuses: never over, but a concurrent send may be refused for a round trip.
//
// A call gets to Redis by link.go; run.go finds out whether it decides. What
// happens while it does not is in alone.go, what follows when it does again in
// merge.go, and where it is another server then in replay.go. What nodes tell one
// another of uses and resets is in sights.go and feed.go, and goes by the board.
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

// A Ledger is the node's own: a journal.Store.
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

	// Notes survive a crash together with the counts. Keys that begin with
	// "redis/" are this package's.
	Note(key string, value []byte) error
	Forget(key string) error
	Notes(prefix string, f func(key string, value []byte))
}

// An Outage says what a node accepts while it cannot reach Redis.
type Outage string

// The outage modes; see alone.go for the bounds.
const (
	OutageShare  Outage = "share"  // its share of what is left
	OutageLocal  Outage = "local"  // up to the limit by its own count
	OutageOpen   Outage = "open"   // everything
	OutageClosed Outage = "closed" // nothing
)

// Options are what a Store is opened with.
type Options struct {
	URL      string        // see parseURL
	Timeout  time.Duration // within it a call is answered, whatever Redis does
	Outage   Outage
	Node     string // name of this node, unique in the cluster
	Nodes    int    // how many nodes share the Redis
	Ledger   Ledger
	Reporter Reporter

	// Turned is called when a subject was seen to reach a limit or to be below
	// one again, here or by another node, and when another one has reset it. nil
	// if nobody wants to know.
	Turned func(subject string)

	// redisTime, in tests, is the time in place of Redis's own.
	redisTime func() time.Time
	// answered, in tests, is told what Redis made of a Take, and when it was asked.
	answered func(t ratelimit.Take, began time.Time, a answer)
}

// ErrUncounted says that a send can be neither accepted nor refused now: Redis
// does not answer, and the node's share is used up or it is to accept nothing.
// A client is to come again.
var ErrUncounted = errors.New("cannot be counted now: Redis does not answer, and this node's share is used up")

// A Store counts in Redis. Its methods may be called concurrently, and Take,
// Look, Reset and Standing are done within Options.Timeout.
type Store struct {
	options Options
	ledger  Ledger
	report  Reporter
	servers *servers
	arrears *arrears
	sights  *sights
	board   *board
	nodes   nodes
	clock   clock

	attempts atomic.Int64
	changes  atomic.Int64 // of the mode
	shift    atomic.Int64 // by how much this node's clock is ahead of Redis's, milliseconds
	widened  atomic.Int64 // for how long all slots keep sends, nanoseconds
	wake     chan struct{}
	merging  sync.Mutex
}

// Open opens a store, whether Redis answers or not. Run has to be running for
// it to notice that Redis answers.
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
		at = r.At // the system's clock was set back
	}
	s.clock.set(at)
	s.attempts.Store(at.UnixMicro())
	keep, _ := o.Ledger.Kept(now, nil)
	s.widened.Store(int64(keep))
	s.sights, s.board = newSights(), newBoard(o.Ledger)
	s.arrears = newArrears(o.Ledger, at)
	s.servers = newServers(a, o.Timeout, s.linkChanged)
	return s, nil
}

// Close closes the connections. No call may be under way, nor Run. The Ledger
// stays open.
func (s *Store) Close() error {
	s.servers.close()
	return nil
}

// A clock is the time that callers tell, which runs evenly and need not be
// that of the system.
type clock struct{ last atomic.Pointer[[2]time.Time] }

// set goes on from a time that a caller told, which may have been read a moment
// ago or be no time at all: it never goes back.
func (c *clock) set(now time.Time) {
	if last := c.last.Load(); last == nil || now.After(last[0]) {
		c.last.Store(&[2]time.Time{now, time.Now()})
	}
}

// now is the time for what no caller asked for.
func (c *clock) now() time.Time {
	last := c.last.Load()
	return last[0].Add(time.Since(last[1]))
}

// terms are those of the next call. A Take with longer windows has sends kept
// for longer.
func (s *Store) terms(now time.Time, subjects []ratelimit.Subject) terms {
	t := terms{attempt: s.attempts.Add(1)}
	t.keep, t.horizon = s.ledger.Kept(now, subjects)
	if s.options.redisTime != nil {
		t.now = s.options.redisTime()
	}
	return t
}

// A step is what of a call goes to one master.
type step struct {
	link     *link
	subjects []ratelimit.Subject
}

// steps divides subjects among the masters, accounts first: what is most often
// refused, the domain, comes last, and then little has to be taken back. ok is
// false if one of the masters cannot be asked.
func (s *Store) steps(subjects []ratelimit.Subject) (all []step, ok bool) {
	if l := s.servers.one; l != nil {
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
			l := s.servers.of(slot)
			ok = ok && l != nil && l.ready.Load()
			all = append(all, step{link: l})
		}
		all[i].subjects = append(all[i].subjects, sub)
	}
	slices.SortStableFunc(all, func(a, b step) int { return rank(a) - rank(b) })
	return all, ok
}

func rank(s step) int {
	if slotOf(s.subjects[0].Name) == s.subjects[0].Name && isAccount(s.subjects[0].Name) {
		return 0
	}
	return 1
}

// Take charges t, all or nothing. Sends that this node accepted before are
// accepted without asking anybody.
func (s *Store) Take(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	s.clock.set(now)
	deadline := s.deadline()
	fresh, known := s.fresh(now, t)
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

// fresh is what of a Take this node has not accepted yet; known is the rest.
func (s *Store) fresh(now time.Time, t ratelimit.Take) (_ ratelimit.Take, known []ratelimit.Token) {
	tokens, marks := t.Tokens, t.Marks
	t.Tokens, t.Marks, t.Uses = nil, nil, nil
	t.Subjects = slices.Clone(t.Subjects) // they may be kept until Redis answers again
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

// deadline is until when who asks now waits for Redis, however often it is asked
// for him.
func (s *Store) deadline() time.Time { return time.Now().Add(s.options.Timeout) }

// decide has Redis decide, or this node alone where Redis does not answer.
func (s *Store) decide(ctx context.Context, now, deadline time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	steps, ok := s.steps(t.Subjects)
	if !ok {
		return s.alone(ctx, now, t, 0)
	}
	terms := s.terms(now, t.Subjects)
	terms.again = s.arrears.undoing(t.Tokens)
	began := time.Now()
	a, err := s.ask(deadline, terms, steps, t, takeCall)
	if err == nil && s.options.answered != nil {
		s.options.answered(t, began, a)
	}
	switch {
	case err == nil:
		s.turned(s.sights.see(now, a.Result)...)
		r := s.local(now, a.Result)
		if r.OK {
			r.Charged, r.Moved, err = s.own(ctx, now, t, a.fits)
		}
		return r, err
	case errors.Is(err, errUnsent):
		return s.alone(ctx, now, t, 0)
	}
	return s.alone(ctx, now, t, terms.attempt)
}

// own puts what was accepted into this node's ledger; fits tells for how many of
// the sends those subjects are charged that are charged for fewer than all.
func (s *Store) own(ctx context.Context, now time.Time, t ratelimit.Take, fits map[string]int) (charged, moved int, err error) {
	t.Force = true
	if len(fits) > 0 { // for how long sends are kept follows from the limits of those left out too
		if _, err := s.ledger.Take(ctx, now, ratelimit.Take{Subjects: t.Subjects}); err != nil {
			return 0, 0, fmt.Errorf("keep what was accepted: %w", err)
		}
	}
	for from, to := 0, 0; from < len(t.Tokens); from = to {
		to = len(t.Tokens)
		part := t
		part.Subjects = nil
		for _, sub := range t.Subjects {
			switch n, fewer := fits[sub.Name]; {
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

// ask runs the steps of a Take or a Look one after the other, until one
// refuses; what those before had charged is then taken back.
func (s *Store) ask(deadline time.Time, terms terms, steps []step, t ratelimit.Take,
	make func(terms, ratelimit.Take) call) (all answer, err error) {
	all.OK = true
	for i, st := range steps {
		part := t
		part.Subjects = st.subjects
		reply, err := st.link.do(deadline, make(terms, part))
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
		st.link.heard(a.At)
		if a.status == statusBuried {
			return all, errors.New("take: the attempt was given up")
		}
		all.join(a)
		if !a.OK && len(t.Tokens) > 0 {
			return all, s.takeBack(steps[:i], t.Tokens, terms.attempt)
		}
	}
	if len(steps) > 1 {
		all.Uses = inOrder(all.Uses, t.Subjects)
	}
	return all, nil
}

// takeBack has what the first steps have charged taken back. If it cannot be
// noted, the whole is taken back as a failed attempt.
func (s *Store) takeBack(steps []step, tokens []ratelimit.Token, attempt int64) error {
	for _, st := range steps {
		if err := s.arrears.owe(&arrear{Subjects: st.subjects, Tokens: tokens, Undo: attempt}); err != nil {
			return err
		}
	}
	s.kick()
	return nil
}

// join adds what another step came to.
func (a *answer) join(b answer) {
	a.At, a.OK = b.At, a.OK && b.OK
	a.Uses = append(a.Uses, b.Uses...)
	if a.fits == nil {
		a.fits = b.fits
		return
	}
	maps.Copy(a.fits, b.fits)
}

// inOrder puts uses in the order asked. Those of subjects that were not asked,
// because another had refused already, are there without counts.
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

// local turns Redis's times into the caller's: the clocks of nodes and of Redis
// may be minutes apart. Epochs stay Redis's.
func (s *Store) local(now time.Time, r ratelimit.Result) ratelimit.Result {
	if s.options.redisTime != nil {
		return r
	}
	shift := now.Sub(r.At)
	s.shift.Store(shift.Milliseconds())
	for i := range r.Uses {
		if u := &r.Uses[i]; !u.Frees.IsZero() {
			u.Frees = u.Frees.Add(shift)
		}
	}
	r.At = now
	return r
}

// Look decides like Take and charges nothing. While Redis does not answer, Room
// of what it finds is what the node's share has left.
func (s *Store) Look(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	s.clock.set(now)
	deadline := s.deadline()
	if len(t.Subjects) == 0 {
		return s.ledger.Look(ctx, now, t)
	}
	steps, ok := s.steps(t.Subjects)
	if !ok {
		return s.lookAlone(ctx, now, t)
	}
	a, err := s.ask(deadline, s.terms(now, nil), steps, t, lookCall)
	if err != nil {
		return s.lookAlone(ctx, now, t)
	}
	s.turned(s.sights.see(now, a.Result)...)
	return s.local(now, a.Result), nil
}

// Known tells whether this node charged a send, and still keeps it.
func (s *Store) Known(now time.Time, token ratelimit.Token) bool { return s.ledger.Known(now, token) }

// Horizon is Ledger.Horizon.
func (s *Store) Horizon(now time.Time) time.Time {
	s.clock.set(now)
	return s.ledger.Horizon(now)
}

// Size is Ledger.Size: what this node keeps.
func (s *Store) Size() (subjects, sends, uncounted int64) { return s.ledger.Size() }

// Failure is Ledger.Failure. That Redis does not answer is no such failure.
func (s *Store) Failure() error { return s.ledger.Failure() }
