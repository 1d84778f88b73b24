package notes

import (
	"bytes"
	"context"
	"strings"
	"sync"

	"sluice/sidecar"
)

// A Board is the board of a node that shares its counts with no other: it keeps the
// values as notes.
type Board struct {
	Notes sidecar.Notes
	mu    sync.Mutex // held while a key is looked up and written
}

const boardNotes = "board/"

// Post writes a value under a key that has none, and returns the value that the key then
// has.
func (b *Board) Post(_ context.Context, key string, value []byte) (stands []byte, err error) {
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
	return value, b.Notes.Note(boardNotes+key, value)
}

// Remove removes a key.
func (b *Board) Remove(_ context.Context, key string) error {
	return b.Notes.Forget(boardNotes + key)
}

// Entries calls f for every key that begins with prefix, in the order of keys.
func (b *Board) Entries(prefix string, f func(key string, value []byte)) {
	b.Notes.Notes(boardNotes+prefix, func(key string, value []byte) { f(strings.TrimPrefix(key, boardNotes), value) })
}

// Changed never has an element: there is no other node.
func (b *Board) Changed() <-chan struct{} { return nil }
