package redisstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
)

// Arrears are what this node knows and Redis must yet be told: sends accepted
// and outcomes told while it did not answer, charges that were given up, and
// resets. Each is a note, so that it survives a crash, until Redis has it.
type arrears struct {
	ledger Ledger
	kick   func()

	// counts are the accepted sends that are not merged yet, by subject and
	// window: by them a share is measured.
	counts *ratelimit.Ledger

	mu      sync.Mutex
	seq     int64
	entries map[int64]*arrear
	undone  map[ratelimit.Token]int
	undos   atomic.Int64 // entries that undo
}

// An arrear is one thing to be told.
type arrear struct {
	seq int64

	// Tokens are to be told as the ledger has them then; with Undo set, they
	// are to be taken back from Subjects as far as attempts up to it charged them.
	Tokens   []ratelimit.Token   `json:",omitempty"`
	Subjects []ratelimit.Subject `json:",omitempty"`
	Undo     int64               `json:",omitempty"`
	Charged  bool                `json:",omitempty"` // Tokens are new charges, which count for the share

	// Reset is a subject to be reset as of At, Unix milliseconds.
	Reset string `json:",omitempty"`
	At    int64  `json:",omitempty"`
	Seen  int64  `json:",omitempty"`
}

const noteArrear = "redis/arrear/"

// newArrears reads back what was to be told before the start.
func newArrears(l Ledger, now time.Time, kick func()) *arrears {
	a := &arrears{
		ledger: l, kick: kick, counts: ratelimit.NewLedger(ratelimit.Options{Keep: ratelimit.MaxWindow}),
		entries: map[int64]*arrear{}, undone: map[ratelimit.Token]int{},
	}
	l.Notes(noteArrear, func(key string, value []byte) {
		e := &arrear{}
		if _, err := fmt.Sscanf(strings.TrimPrefix(key, noteArrear), "%x", &e.seq); err != nil || json.Unmarshal(value, e) != nil {
			l.Forget(key) // a note of ours that cannot be read was damaged: the ledger still has the sends
			return
		}
		a.seq = max(a.seq, e.seq)
		a.keep(e)
		if !e.Charged {
			return
		}
		for _, g := range group(l.Charged(now, e.Tokens)) {
			a.counts.Take(now, ratelimit.Take{Subjects: g.Subjects, Tokens: g.Tokens, Age: g.Age, Force: true})
		}
	})
	return a
}

func noteKey(seq int64) string { return fmt.Sprintf("%s%016x", noteArrear, seq) }

// add keeps one more thing to be told; when it returns, that survives a crash.
// mu is held.
func (a *arrears) add(e *arrear) error {
	a.seq++
	e.seq = a.seq
	value, err := json.Marshal(e)
	if err == nil {
		err = a.ledger.Note(noteKey(e.seq), value)
	}
	if err != nil {
		return fmt.Errorf("note what Redis must yet be told: %w", err)
	}
	a.keep(e)
	a.kick()
	return nil
}

func (a *arrears) keep(e *arrear) {
	a.entries[e.seq] = e
	if e.Undo == 0 {
		return
	}
	a.undos.Add(1)
	for _, t := range e.Tokens {
		a.undone[t]++
	}
}

// settled forgets what Redis has been told.
func (a *arrears) settled(now time.Time, e *arrear) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.entries, e.seq)
	a.ledger.Forget(noteKey(e.seq))
	if e.Charged {
		a.counts.Uncharge(now, e.Tokens)
	}
	if e.Undo == 0 {
		return
	}
	a.undos.Add(-1)
	for _, t := range e.Tokens {
		if a.undone[t]--; a.undone[t] == 0 {
			delete(a.undone, t)
		}
	}
}

// owe has sends told to Redis as soon as it answers.
func (a *arrears) owe(tokens []ratelimit.Token) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.add(&arrear{Tokens: tokens})
}

// undo has what an attempt may have charged, or may yet charge, taken back.
func (a *arrears) undo(subjects []ratelimit.Subject, tokens []ratelimit.Token, attempt int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.add(&arrear{Subjects: subjects, Tokens: tokens, Undo: attempt})
}

// undoing tells whether one of the tokens is to be taken back.
func (a *arrears) undoing(tokens []ratelimit.Token) bool {
	if a.undos.Load() == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(tokens, func(t ratelimit.Token) bool { return a.undone[t] > 0 })
}

// list is all that is to be told, the oldest first.
func (a *arrears) list() []*arrear {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]*arrear, 0, len(a.entries))
	for _, e := range a.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(x, y *arrear) int { return int(x.seq - y.seq) })
	return all
}

func (a *arrears) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.entries)
}

// A sendGroup is sends that one call can charge.
type sendGroup struct {
	Subjects []ratelimit.Subject
	Tokens   []ratelimit.Token
	Age      time.Duration
	Outcome  ratelimit.Outcome
}

// group puts together the sends that differ in nothing but the token.
func group(sends []ratelimit.Send) (all []*sendGroup) {
	index := map[string]*sendGroup{}
	for _, s := range sends {
		key := fmt.Sprint(s.Subjects, s.Age, s.Outcome)
		g := index[key]
		if g == nil || len(g.Tokens) == maxTokens {
			g = &sendGroup{Subjects: s.Subjects, Age: s.Age, Outcome: s.Outcome}
			index[key] = g
			all = append(all, g)
		}
		g.Tokens = append(g.Tokens, s.Token)
	}
	return all
}

// maxTokens is for how many sends one call is made, so that none takes long.
const maxTokens = 256

// puts are the calls that make Redis hold sends as the ledger has them.
func (s *Store) puts(now time.Time, sends []ratelimit.Send) (all []linkCall) {
	for _, g := range group(sends) {
		terms := s.terms(now, nil)
		terms.again = s.arrears.undoing(g.Tokens)
		t := ratelimit.Take{Subjects: g.Subjects, Tokens: g.Tokens, Age: g.Age, Outcome: g.Outcome, Force: true}
		steps, _ := s.steps(g.Subjects)
		for _, st := range steps {
			t.Subjects = st.subjects
			all = append(all, linkCall{st.link, takeCall(terms, t), st.subjects})
		}
	}
	return all
}

// A linkCall is a call and where it goes; link is nil where nobody knows.
type linkCall struct {
	link     *link
	call     call
	subjects []ratelimit.Subject // of a take, whose uses are then seen
}

// drops are the calls that take sends back.
func (s *Store) drops(terms terms, subjects []ratelimit.Subject, tokens []ratelimit.Token) (all []linkCall) {
	steps, _ := s.steps(subjects)
	for _, st := range steps {
		all = append(all, linkCall{link: st.link, call: dropCall(terms, st.subjects, tokens)})
	}
	return all
}

// calls are what telling an arrear takes.
func (s *Store) calls(now time.Time, e *arrear) []linkCall {
	switch {
	case e.Reset != "":
		age := now.Sub(time.UnixMilli(e.At))
		return []linkCall{{link: s.servers.of(slotOf(e.Reset)), call: resetCall(s.terms(now, nil), e.Reset, age, e.Seen)}}
	case e.Undo > 0:
		terms := s.terms(now, nil)
		terms.attempt = e.Undo
		return s.drops(terms, e.Subjects, e.Tokens)
	}
	return s.puts(now, s.ledger.Charged(now, e.Tokens))
}

// atOnce has calls run at once, if their masters are ready, and tells whether all were.
func (s *Store) atOnce(ctx context.Context, calls []linkCall) bool {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	for _, c := range calls {
		if c.link == nil || !c.link.ready.Load() {
			return false
		}
		reply, err := c.link.do(ctx, c.call)
		if err != nil || !done(reply) {
			return false
		}
	}
	return true
}

// done tells whether a take, drop or reset was not given up.
func done(reply any) bool {
	numbers, err := integers(reply)
	return err == nil && len(numbers) > 0 && numbers[0] != statusBuried
}
