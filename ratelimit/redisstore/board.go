package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// An Entry is a small value that all nodes share.
type Entry struct {
	Key     string
	Value   []byte    // empty: it was removed
	Version int64     // greater than that of any change before, on all of the board
	Till    time.Time // when it expires
}

// boardKeys are one slot, wherever that lies: the board is one thing.
const boardSlot = "*board"

var boardKeys = []string{rootKey(boardSlot) + ":v", rootKey(boardSlot) + ":n", rootKey(boardSlot) + ":x"}

// boardPage is how many entries one call carries.
const boardPage = 256

// A board is this node's copy of the entries.
type board struct {
	mu      sync.Mutex
	entries map[string]Entry
	version int64  // up to which it is complete
	server  string // that gave it
}

// ErrStale says that a value was not written, for another has been since.
var ErrStale = errors.New("another node has changed it")

// Put writes a value for all nodes, which see it within a second. It stays for
// ttl; an empty value removes what stands there. seen is the version that the
// writer knows: a later one makes it ErrStale; a negative one overwrites any.
func (s *Store) Put(ctx context.Context, key string, value []byte, seen int64, ttl time.Duration) (version int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	l := s.servers.of(boardSlot)
	if l == nil {
		return 0, fmt.Errorf("share %s: %w", key, errUnsent)
	}
	reply, err := l.do(ctx, boardCall("put", key, string(value), seen, max(1, ttl.Milliseconds())))
	if err != nil {
		return 0, fmt.Errorf("share %s: %w", key, err)
	}
	numbers, err := integers(reply)
	switch {
	case err != nil || len(numbers) != 1:
		return 0, errReply
	case numbers[0] < 0:
		return -numbers[0], fmt.Errorf("share %s: %w", key, ErrStale)
	}
	return numbers[0], nil
}

func boardCall(op string, args ...any) call {
	return call{script: boardScript, keys: boardKeys, args: append([]any{op}, args...)}
}

// Entries lists this node's copy of the board, of keys with a prefix, in the
// order of keys. Removed entries are not in it.
func (s *Store) Entries(prefix string) (all []Entry) {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.board.entries)) {
		if e := s.board.entries[key]; strings.HasPrefix(key, prefix) && len(e.Value) > 0 && time.Now().Before(e.Till) {
			all = append(all, e)
		}
	}
	return all
}

// poll takes over what changed on the board. To a server that lacks what this
// node knows, it is brought back first.
func (s *Store) poll(ctx context.Context) error {
	l := s.servers.of(boardSlot)
	if l == nil || !l.alive() {
		return nil
	}
	s.board.mu.Lock()
	version, server := s.board.version, s.board.server
	s.board.mu.Unlock()
	if now := l.serverNow(); now != server {
		if err := s.restore(ctx, l); err != nil {
			return err
		}
		version = 0
		s.board.mu.Lock()
		s.board.version, s.board.server = 0, now
		s.board.mu.Unlock()
	}
	for {
		changes, last, err := since(ctx, l, version)
		if err != nil {
			return err
		}
		s.learn(changes, last, len(changes) < 1000)
		if len(changes) < 1000 {
			return nil
		}
		version = changes[len(changes)-1].Version
	}
}

// since asks what changed after a version.
func since(ctx context.Context, l *link, version int64) (changes []Entry, last int64, err error) {
	replies, errs := l.run(ctx, []call{boardCall("since", version)})
	if errs[0] != nil {
		return nil, 0, errs[0]
	}
	list, ok := replies[0].([]any)
	if !ok || len(list)%4 != 1 {
		return nil, 0, errReply
	}
	last, _ = list[0].(int64)
	for list = list[1:]; len(list) > 0; list = list[4:] {
		key, _ := list[0].(string)
		value, _ := list[1].(string)
		version, _ := list[2].(int64)
		ms, _ := list[3].(int64)
		changes = append(changes, Entry{key, []byte(value), version, time.Now().Add(time.Duration(ms) * time.Millisecond)})
	}
	return changes, last, nil
}

// learn takes over changes, and tells those who want to know.
func (s *Store) learn(changes []Entry, last int64, all bool) {
	for _, e := range changes {
		s.board.mu.Lock()
		known := s.board.entries[e.Key].Version >= e.Version
		if !known {
			s.board.entries[e.Key] = e
		}
		s.board.version = max(s.board.version, e.Version)
		s.board.mu.Unlock()
		switch {
		case known:
		case strings.HasPrefix(e.Key, useKey):
			s.sights.learn(s.clock.now(), e)
		case s.options.Changed != nil:
			s.options.Changed(e)
		}
	}
	if all {
		s.board.mu.Lock()
		s.board.version = max(s.board.version, last)
		s.board.mu.Unlock()
	}
}

// restore brings back what a server lost.
func (s *Store) restore(ctx context.Context, l *link) error {
	s.board.mu.Lock()
	all := slices.Collect(maps.Values(s.board.entries))
	s.board.mu.Unlock()
	for part := range slices.Chunk(all, boardPage) {
		var args []any
		for _, e := range part {
			if ms := time.Until(e.Till).Milliseconds(); ms > 0 {
				args = append(args, e.Key, string(e.Value), e.Version, ms)
			}
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
	maps.DeleteFunc(b.entries, func(_ string, e Entry) bool { return now.After(e.Till) })
}
