package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit/ordered"
)

// The board has small values that all nodes see: those that others post, which
// stay until they are removed and are noted, so that a node knows them without
// Redis; and with an end the uses and resets that concern the counts. Each node
// has a copy, and brings back from it what a server has lost.

// boardKeys are one slot, wherever that lies: the board is one thing.
const boardSlot = "*board"

var boardKeys = []string{rootKey(boardSlot) + ":v", rootKey(boardSlot) + ":n", rootKey(boardSlot) + ":x"}

const (
	boardPage = 256  // entries in one call
	sincePage = 1000 // as in board.lua

	// removedFor is for how long it is known that a value was removed: a node
	// that was away for longer brings it back.
	removedFor = 40 * 24 * time.Hour

	noteBoard = "redis/board/"
)

// An entry is one value of the board.
type entry struct {
	Value []byte    // empty: it was removed
	Stamp int64     // the greater, the newer
	Till  time.Time // when it expires; zero is never
}

// A board is this node's copy.
type board struct {
	ledger  Ledger
	changed chan struct{}

	mu      sync.Mutex
	entries ordered.Map[entry]
	last    int64  // number of the last change that is in it
	server  string // that gave it
}

func newBoard(l Ledger) *board {
	b := &board{ledger: l, changed: make(chan struct{}, 1)}
	l.Notes(noteBoard, func(key string, value []byte) {
		var e entry
		if json.Unmarshal(value, &e) == nil {
			b.entries.Set(strings.TrimPrefix(key, noteBoard), e)
		}
	})
	return b
}

// errBoard says that the board cannot be written.
var errBoard = errors.New("Redis cannot be asked")

// Post writes a value under a key that has none, and returns what stands there
// then. When it returns, Entries has it.
func (s *Store) Post(ctx context.Context, key string, value []byte) (stands []byte, err error) {
	list, err := s.write(ctx, "post", key, string(value))
	if err != nil || len(list) != 2 {
		return nil, errors.Join(err, fmt.Errorf("post %s for all nodes: %w", key, errBoard))
	}
	stamp, _ := list[0].(int64)
	text, _ := list[1].(string)
	s.learn(key, entry{Value: []byte(text), Stamp: stamp})
	return []byte(text), nil
}

// Remove removes a value on all nodes.
func (s *Store) Remove(ctx context.Context, key string) error {
	list, err := s.write(ctx, "put", key, "", removedFor.Milliseconds())
	if err != nil || len(list) != 1 {
		return errors.Join(err, fmt.Errorf("remove %s for all nodes: %w", key, errBoard))
	}
	stamp, _ := list[0].(int64)
	s.learn(key, entry{Stamp: stamp, Till: time.Now().Add(removedFor)})
	return nil
}

// write changes the board, if the server knows all that this node does.
func (s *Store) write(ctx context.Context, op string, args ...any) ([]any, error) {
	deadline := s.deadline()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	l := s.servers.of(boardSlot)
	if l == nil || !l.alive() {
		return nil, nil
	}
	if s.board.from() != l.serverNow() { // it may lack what this node knows
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

// Entries calls f for each value that was posted under a key with a prefix, in
// the order of keys.
func (s *Store) Entries(prefix string, f func(key string, value []byte)) {
	for _, e := range s.board.under(prefix) {
		if len(e.Value) > 0 && posted(e.key) {
			f(e.key, e.Value)
		}
	}
}

// A keyed is an entry with its key.
type keyed struct {
	key string
	entry
}

// under lists the entries whose keys begin with a prefix, in the order of keys.
func (b *board) under(prefix string) (all []keyed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, e := range b.entries.Prefix(prefix) {
		all = append(all, keyed{key, e})
	}
	return all
}

// Changed has an element after another node has posted or removed something.
func (s *Store) Changed() <-chan struct{} { return s.board.changed }

// posted tells a key of others from those of this package.
func posted(key string) bool {
	return !strings.HasPrefix(key, useKey) && !strings.HasPrefix(key, resetKey)
}

// poll takes over what changed on the board. To a server that lacks what this
// node knows, it is brought back first.
func (s *Store) poll(ctx context.Context) error {
	l := s.servers.of(boardSlot)
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
		n, end, err := s.since(ctx, l, last)
		if err != nil {
			return err
		}
		if last = end; n < sincePage {
			break
		}
	}
	s.board.mu.Lock()
	s.board.server = now // only now: who posts meanwhile must not take a part for all
	s.board.mu.Unlock()
	return nil
}

// since takes over what changed after a number, and returns how many that were
// and the number of the last of them.
func (s *Store) since(ctx context.Context, l *link, last int64) (n int, end int64, err error) {
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
		s.learn(key, e)
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

// learn takes over one entry, and tells those who want to know.
func (s *Store) learn(key string, e entry) {
	s.board.mu.Lock()
	old, _ := s.board.entries.Get(key)
	newer := e.Stamp > old.Stamp
	if newer {
		s.board.entries.Set(key, e)
	}
	s.board.mu.Unlock()
	switch {
	case !newer:
	case strings.HasPrefix(key, useKey):
		s.learnUse(key, e)
	case strings.HasPrefix(key, resetKey):
		s.learnReset(strings.TrimPrefix(key, resetKey), e)
	default:
		s.board.note(key, e)
		select {
		case s.board.changed <- struct{}{}:
		default:
		}
	}
}

func (b *board) note(key string, e entry) {
	if value, err := json.Marshal(e); err == nil {
		b.ledger.Note(noteBoard+key, value) // a journal that fails is told of elsewhere
	}
}

// restore brings back what a server lost.
func (s *Store) restore(ctx context.Context, l *link) error {
	for part := range slices.Chunk(s.board.under(""), boardPage) {
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

// prune forgets entries that have expired.
func (b *board) prune(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var gone []string
	for key, e := range b.entries.Prefix("") {
		if !e.Till.IsZero() && now.After(e.Till) {
			gone = append(gone, key)
		}
	}
	for _, key := range gone {
		b.entries.Delete(key)
		if posted(key) {
			b.ledger.Forget(noteBoard + key)
		}
	}
}

// from is the server that gave this node's copy.
func (b *board) from() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.server
}

// has tells whether this node's copy has a value.
func (b *board) has(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, _ := b.entries.Get(key)
	return len(e.Value) > 0
}
