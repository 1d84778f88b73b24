package journal

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"sluice/ratelimit/ordered"
)

// notes are small values kept in the journal beside the changes. Setting one
// twice changes nothing, so a replay needs no care about what a snapshot
// holds already.
type notes struct {
	mu     sync.Mutex
	values ordered.Map[[]byte]
}

// A note is one of them. Its value is never changed, but replaced.
type note struct {
	key   string
	value []byte
}

// kindNote is the first byte of a note in a segment; see ratelimit.Replay.
const kindNote = 'n'

func isNote(entry []byte) bool { return len(entry) > 0 && entry[0] == kindNote }

// Note sets a note; when it returns, the note survives a crash, if there is no Failure.
func (s *Store) Note(key string, value []byte) error {
	s.change(key, value)
	return nil
}

// Forget removes a note.
func (s *Store) Forget(key string) error {
	s.change(key, nil)
	return nil
}

// Notes calls f for every note whose key begins with prefix, in the order of
// the keys.
func (s *Store) Notes(prefix string, f func(key string, value []byte)) {
	for _, n := range s.notes.under(prefix) {
		f(n.key, n.value)
	}
}

// under lists the notes whose keys begin with a prefix, in the order of keys.
func (n *notes) under(prefix string) (all []note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, value := range n.values.Prefix(prefix) {
		all = append(all, note{key, value})
	}
	return all
}

func (s *Store) change(key string, value []byte) {
	s.notes.mu.Lock()
	s.notes.set(key, slices.Clone(value))
	s.record(0, appendNote([]byte{kindNote}, key, value))
	s.notes.mu.Unlock()
}

// set changes a note; an empty value removes it.
func (n *notes) set(key string, value []byte) {
	if len(value) == 0 {
		n.values.Delete(key)
		return
	}
	n.values.Set(key, value)
}

func appendNote(b []byte, key string, value []byte) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(key))), key...)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

var errNote = errors.New("a note ends too early")

// cutNote takes one note off b.
func cutNote(b []byte) (key string, value, rest []byte, err error) {
	var parts [2][]byte
	for i := range parts {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return "", nil, nil, errNote
		}
		parts[i], b = b[w:w+int(n)], b[w+int(n):]
	}
	return string(parts[0]), parts[1], b, nil
}

func (n *notes) replay(entry []byte) error {
	key, value, _, err := cutNote(entry[1:])
	if err == nil {
		n.set(key, slices.Clone(value))
	}
	return err
}

// snapshot writes all notes, a few thousand to a section.
func (n *notes) snapshot(write func(section []byte) error) error {
	b := []byte{sectionNotes}
	for _, note := range n.under("") {
		if b = appendNote(b, note.key, note.value); len(b) > 1<<18 {
			if err := write(b); err != nil {
				return err
			}
			b = b[:1]
		}
	}
	return write(b)
}

func (n *notes) restore(section []byte) (err error) {
	for len(section) > 0 {
		var key string
		var value []byte
		if key, value, section, err = cutNote(section); err != nil {
			return err
		}
		n.set(key, slices.Clone(value))
	}
	return nil
}
