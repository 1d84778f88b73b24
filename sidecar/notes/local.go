package notes

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"time"
)

// A LocalBoard is the Board of a node that shares its counts with no other: it keeps the
// values as notes.
type LocalBoard struct {
	Notes    Store
	mu       sync.Mutex // held while a key is looked up and written
	watchers []watcher
}

// A watcher is called when a value is set or removed whose key has a prefix.
type watcher struct {
	prefix string
	f      func(key string, value []byte)
}

// Watch calls f for each value whose key has a prefix, and from then on after one was written or
// removed.
func (b *LocalBoard) Watch(prefix string, f func(key string, value []byte)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Entries(prefix, f)
	b.watchers = append(b.watchers, watcher{prefix, f})
}

// notifyWatchers calls the watchers of a key. b.mu is held.
func (b *LocalBoard) notifyWatchers(key string, value []byte) {
	for _, w := range b.watchers {
		if strings.HasPrefix(key, w.prefix) {
			w.f(key, value)
		}
	}
}

const boardNotes = "board/"

// Post writes a value under a key that has none, and returns the value that the key then
// has.
func (b *LocalBoard) Post(_ context.Context, key string, value []byte) (stands []byte, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Entries(key, func(k string, v []byte) {
		if k == key {
			stands = bytes.Clone(v)
		}
	})
	if stands != nil {
		return stands, nil
	}
	err = b.Notes.Note(boardNotes+key, value)
	b.notifyWatchers(key, value)
	return value, err
}

// Remove removes a key.
func (b *LocalBoard) Remove(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notifyWatchers(key, nil)
	return b.Notes.Forget(boardNotes + key)
}

// Tell does nothing: there is no other node.
func (b *LocalBoard) Tell(string, []byte, time.Duration) {}

// Entries calls f for every key that begins with prefix, in the order of keys.
func (b *LocalBoard) Entries(prefix string, f func(key string, value []byte)) {
	b.Notes.Notes(boardNotes+prefix, func(key string, value []byte) { f(strings.TrimPrefix(key, boardNotes), value) })
}

// Changed never has an element: there is no other node.
func (b *LocalBoard) Changed() <-chan struct{} { return nil }
