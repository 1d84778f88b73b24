package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit/ordered"
)

// The board has small values that all nodes share. Values that other packages post stay until they
// are removed; they are notes in the ledger too, so that a node has them without Redis. Uses, resets
// and values set by Tell expire. Each node has a copy of the board, and restores from it what a
// server has lost.

// boardSlot is the slot of all keys of the board, so that one script call reaches them.
const boardSlot = "*board"

var boardKeys = []string{rootKey(boardSlot) + ":v", rootKey(boardSlot) + ":n", rootKey(boardSlot) + ":x"}

const (
	boardPage = 256  // most entries in one call that writes
	sincePage = 1000 // most entries in one answer, as in board.lua

	// removedFor is how long the board remembers that a value was removed. A node
	// that was away for longer restores the value.
	removedFor = 40 * 24 * time.Hour

	noteBoard = "redis/board/"
)

// An entry is one value of the board. It is stored as JSON.
type entry struct {
	Value []byte    // empty: it was removed
	Stamp int64     // number of the change that set it: the greater, the newer
	Till  time.Time // when it expires; zero: never
}

// A board is this node's copy of the board.
type board struct {
	ledger  Ledger
	changed chan struct{}

	mu       sync.Mutex
	watchers []watcher
	entries  ordered.Map[entry]
	untold   map[string]entry // set by Tell, and not on the board yet
	unread   map[string]bool  // keys of values that cannot be read
	last     int64            // number of the last change that is in entries
	server   string           // the server that the copy is of
}

// A watcher is called when a value is set or removed whose key has a prefix.
type watcher struct {
	prefix string
	f      func(key string, value []byte)
}

func newBoard(l Ledger) *board {
	b := &board{ledger: l, changed: make(chan struct{}, 1), unread: map[string]bool{}, untold: map[string]entry{}}
	l.Notes(noteBoard, func(key string, value []byte) {
		var e entry
		if json.Unmarshal(value, &e) == nil {
			b.entries.Set(strings.TrimPrefix(key, noteBoard), e)
		}
	})
	return b
}

// errBoard means that the board cannot be written now.
var errBoard = errors.New("Redis cannot be asked")

// Post sets the value of a key that has none, and returns the value that the key has
// then. When it returns, Entries has that too.
func (s *Store) Post(ctx context.Context, key string, value []byte) (stands []byte, err error) {
	list, err := s.write(ctx, "post", key, string(value))
	if err != nil || len(list) != 2 {
		return nil, errors.Join(err, fmt.Errorf("post %s for all nodes: %w", key, errBoard))
	}
	stamp, _ := list[0].(int64)
	text, _ := list[1].(string)
	s.receive(key, entry{Value: []byte(text), Stamp: stamp})
	return []byte(text), nil
}

// Remove removes a value on all nodes.
func (s *Store) Remove(ctx context.Context, key string) error {
	list, err := s.write(ctx, "put", key, "", removedFor.Milliseconds())
	if err != nil || len(list) != 1 {
		return errors.Join(err, fmt.Errorf("remove %s for all nodes: %w", key, errBoard))
	}
	stamp, _ := list[0].(int64)
	s.receive(key, entry{Stamp: stamp, Till: time.Now().Add(removedFor)})
	return nil
}

// write makes one call that changes the board. If another server answers than the one
// the copy is of, it first puts there what this node knows. The list is nil if no server
// can be asked.
func (s *Store) write(ctx context.Context, op string, args ...any) ([]any, error) {
	deadline := s.deadline()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	l := s.servers.linkOf(boardSlot)
	if l == nil || !l.alive() {
		return nil, nil
	}
	if s.board.source() != l.serverNow() { // a new server may lack what this node has
		if err := s.poll(ctx); err != nil {
			return nil, err
		}
	}
	reply, err := l.do(deadline, boardCall(op, args...))
	list, _ := reply.([]any)
	return list, err
}

func boardCall(op string, args ...any) call {
	return call{script: boardScript, keys: boardKeys, args: append([]any{op}, args...)}
}

// Entries calls f for each value that was set by Post and whose key has a prefix, in
// the order of keys.
func (s *Store) Entries(prefix string, f func(key string, value []byte)) {
	s.board.values(prefix, f)
}

// FormerEntries is Entries on a node that no longer shares a Redis, of what its ledger
// still has.
func FormerEntries(l Ledger) func(prefix string, f func(key string, value []byte)) {
	return newBoard(l).values
}

func (b *board) values(prefix string, f func(key string, value []byte)) {
	for _, e := range b.withPrefix(prefix) {
		if len(e.Value) > 0 && isSharedValue(e.key) {
			f(e.key, e.Value)
		}
	}
}

// A keyed is an entry and its key.
type keyed struct {
	key string
	entry
}

// withPrefix lists the entries whose keys have a prefix, in the order of keys.
func (b *board) withPrefix(prefix string) (all []keyed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, e := range b.entries.Prefix(prefix) {
		all = append(all, keyed{key, e})
	}
	return all
}

// Watch calls f for each value whose key has a prefix, and from then on after one was set
// or, with nil, removed. f must not call the Store.
func (s *Store) Watch(prefix string, f func(key string, value []byte)) {
	b := s.board
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, e := range b.entries.Prefix(prefix) {
		if len(e.Value) > 0 && isSharedValue(key) {
			f(key, e.Value)
		}
	}
	b.watchers = append(b.watchers, watcher{prefix, f})
}

// notifyWatchers calls the watchers of a key. b.mu is held.
func (b *board) notifyWatchers(key string, e entry) {
	for _, w := range b.watchers {
		if strings.HasPrefix(key, w.prefix) {
			if len(e.Value) == 0 {
				e.Value = nil
			}
			w.f(key, e.Value)
		}
	}
}

// Changed has an element after a value has been set or removed.
func (s *Store) Changed() <-chan struct{} { return s.board.changed }

// isSharedValue reports whether a key is one of other packages, not this one's.
func isSharedValue(key string) bool {
	return !strings.HasPrefix(key, useKey) && !strings.HasPrefix(key, resetKey)
}

// poll reads what changed on the board. If it is on another server now, this node's
// copy is restored there first.
func (s *Store) poll(ctx context.Context) error {
	l := s.servers.linkOf(boardSlot)
	if l == nil || !l.alive() {
		return nil
	}
	s.board.mu.Lock()
	last, server := s.board.last, s.board.server
	s.board.mu.Unlock()
	now := l.serverNow()
	if now != server {
		if err := s.restore(ctx, l); err != nil {
			return err
		}
		last = 0
	}
	for {
		n, end, err := s.readChanges(ctx, l, last)
		if err != nil {
			return err
		}
		if last = end; n < sincePage {
			break
		}
	}
	s.board.mu.Lock()
	s.board.server = now // set last, because with this write takes the copy for complete
	s.board.mu.Unlock()
	return nil
}

// readChanges reads what changed after a number, and returns how many entries that were
// and the number of the last change read.
func (s *Store) readChanges(ctx context.Context, l *link, last int64) (n int, end int64, err error) {
	asked := time.Now()
	replies, errs := l.run(ctx, []call{boardCall("since", last)})
	if errs[0] != nil {
		return 0, 0, errs[0]
	}
	list, ok := replies[0].([]any)
	if !ok || len(list)%5 != 1 {
		return 0, 0, errReply
	}
	all, _ := list[0].(int64)
	end = all
	for list = list[1:]; len(list) > 0; list = list[5:] {
		key, _ := list[0].(string)
		value, _ := list[1].(string)
		end, _ = list[2].(int64)
		e := entry{Value: []byte(value)}
		e.Stamp, _ = list[3].(int64)
		if ms, _ := list[4].(int64); ms > 0 {
			e.Till = asked.Add(time.Duration(ms) * time.Millisecond)
		}
		if e.Stamp < 0 {
			s.reportUnread(key)
		} else {
			s.receive(key, e)
		}
		n++
	}
	if n < sincePage {
		end = all
	}
	s.board.mu.Lock()
	s.board.last = end
	s.board.mu.Unlock()
	return n, end, nil
}

// reportUnread reports, once, a value that somebody else has written on the board and that
// cannot be read. It is passed over, and whoever posts under its key replaces it.
func (s *Store) reportUnread(key string) {
	s.board.mu.Lock()
	known := s.board.unread[key]
	s.board.unread[key] = true
	s.board.mu.Unlock()
	if !known {
		s.report.RedisValueUnread(key, fmt.Errorf("its value in Redis is not as Sluice writes it (redis-cli HDEL '%s' '%s' removes it)", boardKeys[0], key))
	}
}

// receive stores one entry, if it is newer than the copy's, and passes it on.
func (s *Store) receive(key string, e entry) {
	s.board.mu.Lock()
	old, _ := s.board.entries.Get(key)
	newer := e.Stamp > old.Stamp
	if newer {
		s.board.entries.Set(key, e)
		s.board.notifyWatchers(key, e)
	}
	s.board.mu.Unlock()
	switch {
	case !newer:
	case strings.HasPrefix(key, useKey):
		s.receiveUse(key, e)
	case strings.HasPrefix(key, resetKey):
		s.receiveReset(strings.TrimPrefix(key, resetKey), e)
	case e.expires():
	default:
		s.board.persist(key, e)
		signal(s.board.changed)
	}
}

func (b *board) persist(key string, e entry) {
	if value, err := json.Marshal(e); err == nil {
		b.ledger.Note(noteBoard+key, value) // if the journal fails, that is reported by itself
	}
}

// restore writes this node's copy to a server that may lack parts of it.
func (s *Store) restore(ctx context.Context, l *link) error {
	for part := range slices.Chunk(s.board.withPrefix(""), boardPage) {
		var args []any
		for _, e := range part {
			ms := int64(0)
			if !e.Till.IsZero() {
				if ms = time.Until(e.Till).Milliseconds(); ms <= 0 {
					continue
				}
			}
			args = append(args, e.key, string(e.Value), e.Stamp, ms)
		}
		if _, errs := l.run(ctx, []call{boardCall("restore", args...)}); errs[0] != nil {
			return errs[0]
		}
	}
	return nil
}

// prune removes entries that have expired.
func (b *board) prune(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.untold, func(_ string, e entry) bool { return now.After(e.Till) })
	var gone []string
	for key, e := range b.entries.Prefix("") {
		if !e.Till.IsZero() && now.After(e.Till) {
			gone = append(gone, key)
		}
	}
	for _, key := range gone {
		e, _ := b.entries.Get(key)
		b.entries.Delete(key)
		if isSharedValue(key) && !e.expires() {
			b.ledger.Forget(noteBoard + key)
		}
	}
}

// source is the server that the copy is of.
func (b *board) source() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.server
}
