package hosttest

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// Notes keep notes for as long as the test runs: a notes.Store.
type Notes map[string][]byte

// Note keeps a value.
func (n Notes) Note(key string, value []byte) error {
	n[key] = bytes.Clone(value)
	return nil
}

// Forget drops a value.
func (n Notes) Forget(key string) error {
	delete(n, key)
	return nil
}

// Notes calls f for each key that begins with a prefix, in their order.
func (n Notes) Notes(prefix string, f func(key string, value []byte)) {
	for _, key := range slices.Sorted(maps.Keys(n)) {
		if strings.HasPrefix(key, prefix) {
			f(key, n[key])
		}
	}
}
