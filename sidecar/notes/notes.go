package notes

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// An Unread is called for a note that cannot be read.
type Unread func(key string, err error)

// A Map is the notes under one prefix. The names of all have the same number of parts,
// one or more. The key of a note is prefix/PART/PART, and its value JSON.
type Map[T any] struct {
	store  Store
	prefix string // with a slash at the end
	parts  int
	unread Unread
}

// New returns the Map of a prefix, which has no slash.
func New[T any](store Store, prefix string, parts int, unread Unread) Map[T] {
	return Map[T]{store, prefix + "/", parts, unread}
}

// Load calls f for every note. It calls Unread for those that f returns an error for,
// and for those that are not valid.
func (m Map[T]) Load(f func(name []string, value T) error) {
	m.store.Notes(m.prefix, func(key string, text []byte) {
		var value T
		name, err := m.name(key)
		if err = errors.Join(err, json.Unmarshal(text, &value)); err == nil {
			err = f(name, value)
		}
		if err != nil {
			m.unread(key, err)
		}
	})
}

// Put writes the value of a name.
func (m Map[T]) Put(value T, name ...string) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return m.store.Note(m.key(name), text)
}

// Drop removes the value of a name.
func (m Map[T]) Drop(name ...string) error { return m.store.Forget(m.key(name)) }

// key is the key of a name, whose parts may have any character, a slash too.
func (m Map[T]) key(name []string) string {
	escaped := make([]string, len(name))
	for i, part := range name {
		escaped[i] = url.PathEscape(part)
	}
	return m.prefix + strings.Join(escaped, "/")
}

// name is the name of a key.
func (m Map[T]) name(key string) (name []string, err error) {
	for part := range strings.SplitSeq(strings.TrimPrefix(key, m.prefix), "/") {
		part, bad := url.PathUnescape(part)
		name, err = append(name, part), errors.Join(err, bad)
	}
	if len(name) != m.parts {
		return nil, fmt.Errorf("its name has %d parts, not %d", len(name), m.parts)
	}
	return name, err
}
