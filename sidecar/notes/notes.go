// Package notes keeps values of one type by name, over crashes. A Map owns the notes
// whose keys begin with its prefix; it asks a Store, which is the journal of the
// counts, to write them, and tells whoever made it of notes that it cannot read.
package notes

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// A Store keeps notes by key.
type Store interface {
	Note(key string, value []byte) error
	Forget(key string) error
	// Notes calls f for every key that begins with prefix, in the order of keys.
	Notes(prefix string, f func(key string, value []byte))
}

// An Unread is told of a note that cannot be read.
type Unread func(key string, err error)

// A Map is the notes under one prefix. A name has one part or more, the same number
// for all; the key of a note is prefix/PART/PART, and its value JSON.
type Map[T any] struct {
	store  Store
	prefix string
	parts  int
	unread Unread
}

// New returns the Map of a prefix, which has no slash.
func New[T any](store Store, prefix string, parts int, unread Unread) Map[T] {
	return Map[T]{store, prefix + "/", parts, unread}
}

// Load calls f for every note. One of which f returns an error is unread.
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

// Put notes a value.
func (m Map[T]) Put(value T, name ...string) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return m.store.Note(m.key(name), text)
}

// Drop forgets a value.
func (m Map[T]) Drop(name ...string) error { return m.store.Forget(m.key(name)) }

// key is where a name is noted. A part may have any character, a slash too.
func (m Map[T]) key(name []string) string {
	var key strings.Builder
	key.WriteString(m.prefix)
	for i, part := range name {
		if i > 0 {
			key.WriteByte('/')
		}
		key.WriteString(url.PathEscape(part))
	}
	return key.String()
}

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
