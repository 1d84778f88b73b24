package history

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/notes"
)

// A Book has the changes of a board. Each value of the board is read once, when it is
// written, whoever does that: a change costs the same after ten others and after ten
// thousand.
type Book struct {
	board  notes.Board
	events event.Sink

	mu      sync.Mutex
	groups  map[int64]Log  // what was posted together, by the number of the first
	log     Log            // all of it, in order. Changes are only appended, so that others may keep a part of it; nil: to be made anew
	scopes  map[string]Log // the same, by scope
	next    int64          // the number of the next change: behind all others, also those that cannot be read
	kept    int            // how many changes were left by the last Compact
	version int            // how many changes were written or removed here
	touched map[string]int // the version behind the last of these of each scope
	recent  []string       // the scopes of the last versions
}

// Open returns the Book of a board, which follows it from then on.
func Open(board notes.Board, events event.Sink) *Book {
	b := &Book{board: board, events: events, groups: map[int64]Log{}, scopes: map[string]Log{}, touched: map[string]int{}, next: 1}
	board.Watch(changeKeys, b.receive)
	return b
}

// receive takes one value of the board; nil: it was removed.
func (b *Book) receive(key string, value []byte) {
	number, err := strconv.ParseInt(strings.TrimPrefix(key, changeKeys), 10, 64)
	var group Log
	if err == nil && value != nil {
		group, err = decode(number, value)
	}
	if err != nil { // no other value depends on it
		b.events.Emit(event.Event{Kind: event.NoteUnread, Attrs: event.Attrs("note", key), Err: err})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.groups[number]
	last := number >= b.next
	b.next = max(b.next, number+max(1, int64(len(group))))
	for _, c := range slices.Concat(before, group) {
		b.version++
		b.touched[c.Scope] = b.version
		b.recent = append(b.recent, c.Scope)
	}
	if extra := len(b.recent) - 2*keepRecent; extra > 0 {
		b.recent = slices.Clone(b.recent[extra+keepRecent:])
	}
	b.groups[number] = group
	if len(group) == 0 {
		delete(b.groups, number)
	}
	if len(before) > 0 || !last || b.log == nil {
		b.log = nil
		return
	}
	b.append(group)
}

// append adds changes behind all others. b.mu is held.
func (b *Book) append(group Log) {
	b.log = append(b.log, group...)
	for _, c := range group {
		b.scopes[c.Scope] = append(b.scopes[c.Scope], c)
	}
}

// read makes the log anew where that has to be. b.mu is held.
func (b *Book) read() {
	if b.log != nil {
		return
	}
	b.log, b.scopes = Log{}, map[string]Log{}
	for _, number := range slices.Sorted(maps.Keys(b.groups)) {
		b.append(b.groups[number])
	}
}

// Log is all changes.
func (b *Book) Log() Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read()
	return slices.Clip(b.log)
}

// Of is the changes of one scope.
func (b *Book) Of(scope string) Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read()
	return slices.Clip(b.scopes[scope])
}

// Touched is the scopes of which changes were written or removed since a version of the
// book, and its version now. The first version is 0.
func (b *Book) Touched(since int) (scopes []string, version int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch n := b.version - since; {
	case n == 0: // nearly always
	case n <= len(b.recent):
		scopes = slices.Clone(b.recent[len(b.recent)-n:])
		slices.Sort(scopes)
		scopes = slices.Compact(scopes)
	default:
		for scope, last := range b.touched {
			if last > since {
				scopes = append(scopes, scope)
			}
		}
		slices.Sort(scopes)
	}
	return scopes, b.version
}

// keepRecent is of how many of the last changes, at least, Touched finds the scopes without
// looking at all.
const keepRecent = 1000

// find returns a change that can be rolled back: one that is in force.
func (b *Book) Find(number int64, now time.Time) (Change, error) {
	log := b.Log()
	i, found := slices.BinarySearchFunc(log, number, func(c Change, n int64) int { return cmp.Compare(c.Number, n) })
	if !found {
		return log.find(number, now) // its error
	}
	return b.Of(log[i].Scope).find(number, now)
}

// Next numbers changes as if they were posted now.
func (b *Book) Next(all []Change) Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	return numbered(all, b.next)
}

// numbered gives changes that are posted together their numbers.
func numbered(all []Change, first int64) (t Log) {
	for i, c := range all {
		c.Number, c.first = first+int64(i), first
		t = append(t, c)
	}
	return t
}

// Post writes changes, all or none, under the next numbers. draft makes the changes for
// the book as it is; if another node posts first, it is called again.
func (b *Book) Post(ctx context.Context, draft func() ([]Change, error)) ([]Change, error) {
	for range maxPosts {
		b.mu.Lock()
		next := b.next // before draft looks: so whoever posts meanwhile takes this number
		b.mu.Unlock()
		drafted, err := draft()
		if err != nil {
			return nil, err
		}
		all := numbered(drafted, next)
		posted := postedChange{Change: all[0], Mark: rand.Text(), More: all[1:]}
		value, err := json.Marshal(posted)
		if err != nil {
			return nil, err
		}
		stands, err := postPatiently(ctx, b.board, Key(next), value)
		if err != nil {
			return nil, fmt.Errorf("write the change for all nodes: %w; nothing is changed, unless `sluice history` shows it when Redis answers", err)
		}
		if strings.Contains(string(stands), posted.Mark) {
			return all, nil
		}
	}
	return nil, fmt.Errorf("other nodes change thresholds all the time: tried %d times; nothing was changed", maxPosts)
}

// Compact removes changes that have no effect any more, if there are many: a tenth more
// than are kept anyway, so that not every change has all of them looked at.
func (b *Book) Compact(ctx context.Context, now time.Time) error {
	b.mu.Lock()
	kept := max(b.kept, KeepChanges)
	b.read()
	many := len(b.log) > kept+kept/10
	b.mu.Unlock()
	if !many {
		return nil
	}
	for _, number := range b.Log().compact(now, KeepChanges) {
		if err := b.board.Remove(ctx, Key(number)); err != nil {
			return err
		}
	}
	left := len(b.Log())
	b.mu.Lock()
	b.kept = left
	b.mu.Unlock()
	return nil
}
