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

// The outbox has what Redis must still be given: sends accepted and outcomes reported
// while it did not answer, calls to be undone because their replies were lost, and
// resets. Each is also a note in the ledger, so that it survives a crash.
type outbox struct {
	ledger Ledger
	// counts has the accepted sends that are not merged yet, for the node's share.
	counts *ratelimit.Ledger

	mu        sync.Mutex
	reserved  []ratelimit.Token // sends in counts that Redis has; see endReservation
	seq       int64
	entries   map[int64]*pendingWrite
	undoing   map[ratelimit.Token]int // how many entries undo a token
	undoCount atomic.Int64            // how many entries undo anything
}

// A pendingWrite is an entry of the outbox, stored as JSON.
type pendingWrite struct {
	seq   int64
	later time.Time // it waits until then, because it failed by a key of its own; see aboutKey

	// Tokens are sends to be charged as the ledger has them when it is merged. If
	// Undo is set, charges of Subjects by attempts up to that number are undone.
	Tokens   []ratelimit.Token   `json:",omitempty"`
	Subjects []ratelimit.Subject `json:",omitempty"`
	Undo     int64               `json:",omitempty"`
	Charged  bool                `json:",omitempty"` // Tokens are new charges, which are in outbox.counts

	// fresh are sends that were charged just now. They go before Tokens and with
	// the limits of their Report, for the ledger does not say which windows were new.
	fresh []ratelimit.Send

	// Reset is a subject to be reset as of At, in Unix milliseconds, unless its
	// epoch is later than Seen; see Store.Reset.
	Reset string `json:",omitempty"`
	At    int64  `json:",omitempty"`
	Seen  int64  `json:",omitempty"`
}

// own makes the entry's slices its own: a caller uses those of a Take again, for another question,
// while the entry waits for Redis.
func (e *pendingWrite) own() {
	e.Tokens, e.Subjects = slices.Clone(e.Tokens), slices.Clone(e.Subjects)
	for i := range e.Subjects {
		e.Subjects[i].Limits = slices.Clone(e.Subjects[i].Limits)
	}
}

const notePending = "redis/arrear/"

// newOutbox reads the entries of before the start.
func newOutbox(l Ledger, now time.Time) *outbox {
	o := &outbox{
		ledger: l, counts: ratelimit.NewLedger(ratelimit.Options{Keep: ratelimit.MaxWindow}),
		entries: map[int64]*pendingWrite{}, undoing: map[ratelimit.Token]int{},
	}
	l.Notes(notePending, func(key string, value []byte) {
		e := &pendingWrite{}
		if _, err := fmt.Sscanf(strings.TrimPrefix(key, notePending), "%x", &e.seq); err != nil || json.Unmarshal(value, e) != nil {
			l.Forget(key) // it is damaged; the ledger still has the sends
			return
		}
		o.seq = max(o.seq, e.seq)
		o.insert(e)
		if !e.Charged {
			return
		}
		for _, g := range groupSends(l.Charged(now, e.Tokens)) {
			subjects := slices.DeleteFunc(g.Subjects, func(s ratelimit.Subject) bool { return s.Past })
			o.counts.Take(now, ratelimit.Take{Subjects: subjects, Tokens: g.Tokens, Age: g.Age, Force: true})
		}
	})
	return o
}

func noteKey(seq int64) string { return fmt.Sprintf("%s%016x", notePending, seq) }

// addLocked adds an entry; when it returns, the entry survives a crash. mu is held.
func (o *outbox) addLocked(e *pendingWrite) error {
	if err := o.note(e); err != nil {
		return err
	}
	o.insert(e)
	return nil
}

// note makes an entry survive a crash. mu is held.
func (o *outbox) note(e *pendingWrite) error {
	e.own()
	o.seq++
	e.seq = o.seq
	value, err := json.Marshal(e)
	if err == nil {
		err = o.ledger.Note(noteKey(e.seq), value)
	}
	if err != nil {
		return fmt.Errorf("note what Redis must yet be told: %w", err)
	}
	return nil
}

// prepare makes an entry survive a crash before its sends are put in the ledger. Once
// they are there, the caller merges the entry, or calls commit to have it merged later.
func (o *outbox) prepare(e *pendingWrite) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.note(e)
}

// commit adds an entry that was prepared.
func (o *outbox) commit(e *pendingWrite) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.insert(e)
}

// insert adds an entry that is noted. mu is held.
func (o *outbox) insert(e *pendingWrite) {
	o.entries[e.seq] = e
	if e.Undo == 0 {
		return
	}
	o.undoCount.Add(1)
	for _, t := range e.Tokens {
		o.undoing[t]++
	}
}

// remove removes an entry that Redis has.
func (o *outbox) remove(now time.Time, e *pendingWrite) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ledger.Forget(noteKey(e.seq))
	if o.entries[e.seq] == nil {
		return // it was merged at once without commit, or twice at the same time
	}
	delete(o.entries, e.seq)
	if e.Charged {
		o.counts.Uncharge(now, e.Tokens)
	}
	if e.Undo == 0 {
		return
	}
	o.undoCount.Add(-1)
	for _, t := range e.Tokens {
		if o.undoing[t]--; o.undoing[t] == 0 {
			delete(o.undoing, t)
		}
	}
}

// add adds an entry; when it returns, the entry survives a crash.
func (o *outbox) add(e *pendingWrite) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.addLocked(e)
}

// undoes reports whether a charge of one of the tokens is still to be undone.
func (o *outbox) undoes(tokens []ratelimit.Token) bool {
	if o.undoCount.Load() == 0 {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(tokens, func(t ratelimit.Token) bool { return o.undoing[t] > 0 })
}

// postpone has entries wait that failed by their keys.
func (o *outbox) postpone(some []*pendingWrite) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range some {
		e.later = time.Now().Add(keyRetryEvery)
	}
}

// waits reports whether an entry is not to be merged yet. mu is held.
func (e *pendingWrite) waits() bool { return !e.later.IsZero() && time.Now().Before(e.later) }

// list returns all entries that are to be merged, the oldest first.
func (o *outbox) list() []*pendingWrite {
	o.mu.Lock()
	all := slices.DeleteFunc(slices.Collect(maps.Values(o.entries)), (*pendingWrite).waits)
	o.mu.Unlock() // before sorting many: takeDegraded waits for mu
	slices.SortFunc(all, func(x, y *pendingWrite) int { return int(x.seq - y.seq) })
	return all
}

func (o *outbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.entries)
}
