package redisstore

import (
	"encoding/json"
	"fmt"
	"maps"
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

	// fresh are sends that were charged just now, told before Tokens are: which
	// windows they began to count in the ledger does not tell.
	fresh []ratelimit.Send

	// Reset is a subject to be reset as of At, Unix milliseconds.
	Reset string `json:",omitempty"`
	At    int64  `json:",omitempty"`
	Seen  int64  `json:",omitempty"`
}

const noteArrear = "redis/arrear/"

// newArrears reads back what was to be told before the start.
func newArrears(l Ledger, now time.Time) *arrears {
	a := &arrears{
		ledger: l, counts: ratelimit.NewLedger(ratelimit.Options{Keep: ratelimit.MaxWindow}),
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
			subjects := slices.DeleteFunc(g.Subjects, func(s ratelimit.Subject) bool { return s.Past })
			a.counts.Take(now, ratelimit.Take{Subjects: subjects, Tokens: g.Tokens, Age: g.Age, Force: true})
		}
	})
	return a
}

func noteKey(seq int64) string { return fmt.Sprintf("%s%016x", noteArrear, seq) }

// add keeps one more thing to be told; when it returns, that survives a crash.
// mu is held.
func (a *arrears) add(e *arrear) error {
	if err := a.note(e); err != nil {
		return err
	}
	a.keep(e)
	return nil
}

// note has a thing survive a crash. mu is held.
func (a *arrears) note(e *arrear) error {
	a.seq++
	e.seq = a.seq
	value, err := json.Marshal(e)
	if err == nil {
		err = a.ledger.Note(noteKey(e.seq), value)
	}
	if err != nil {
		return fmt.Errorf("note what Redis must yet be told: %w", err)
	}
	return nil
}

// intend notes what the ledger does not have yet: before it does, nothing must
// be told. Then it is told, or admitted.
func (a *arrears) intend(e *arrear) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.note(e)
}

func (a *arrears) admit(e *arrear) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keep(e)
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
	a.ledger.Forget(noteKey(e.seq))
	if a.entries[e.seq] == nil {
		return // told at once, or twice at the same time
	}
	delete(a.entries, e.seq)
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

// owe is add without mu.
func (a *arrears) owe(e *arrear) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.add(e)
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
	all := slices.Collect(maps.Values(a.entries))
	a.mu.Unlock() // who decides alone does not wait until many are sorted
	slices.SortFunc(all, func(x, y *arrear) int { return int(x.seq - y.seq) })
	return all
}

func (a *arrears) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.entries)
}
