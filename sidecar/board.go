package sidecar

import (
	"bytes"
	"context"
	"strings"
	"sync"
)

// noteBoard is the board of a node that shares with nobody.
type noteBoard struct {
	notes Notes
	mu    sync.Mutex
}

const boardNotes = "board/"

func (b *noteBoard) Post(_ context.Context, key string, value []byte) (stands []byte, err error) {
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
	return value, b.notes.Note(boardNotes+key, value)
}

func (b *noteBoard) Remove(_ context.Context, key string) error {
	return b.notes.Forget(boardNotes + key)
}

func (b *noteBoard) Entries(prefix string, f func(key string, value []byte)) {
	b.notes.Notes(boardNotes+prefix, func(key string, value []byte) { f(strings.TrimPrefix(key, boardNotes), value) })
}

// Changed never has an element: there is no other node.
func (b *noteBoard) Changed() <-chan struct{} { return nil }
