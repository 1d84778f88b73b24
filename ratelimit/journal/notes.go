package journal

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"sluice/ratelimit/ordered"
)

// notes are small values in the journal. Setting a note twice changes nothing, so that
// a replay may repeat what a snapshot has already.
type notes struct {
	mu     sync.Mutex
	values ordered.Map[[]byte]
}

// A note is a key and its value, which is never modified, only replaced.
type note struct {
	key   string
	value []byte
}

// kindNote is the first byte of a note in a segment. Changes have other ones.
const kindNote = 'n'

func isNote(entry []byte) bool { return len(entry) > 0 && entry[0] == kindNote }

// Note sets a note. The error is always nil; if there is a Failure, the note may not
// survive a crash.
func (s *Store) Note(key string, value []byte) error {
	s.setNote(key, value)
	return nil
}

// Forget removes a note.
func (s *Store) Forget(key string) error {
	s.setNote(key, nil)
	return nil
}

// Notes calls f for each note whose key has a prefix, in the order of keys.
func (s *Store) Notes(prefix string, f func(key string, value []byte)) {
	for _, n := range s.notes.withPrefix(prefix) {
		f(n.key, n.value)
	}
}

// withPrefix lists the notes whose keys have a prefix, in the order of keys.
func (n *notes) withPrefix(prefix string) (all []note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, value := range n.values.Prefix(prefix) {
		all = append(all, note{key, value})
	}
	return all
}

func (s *Store) setNote(key string, value []byte) {
	s.notes.mu.Lock()
	s.notes.set(key, slices.Clone(value))
	s.record(0, appendNote([]byte{kindNote}, key, value))
	s.notes.mu.Unlock()
}

// set sets a note; an empty value removes it.
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

// decodeNote reads a note from b and returns the rest of b.
func decodeNote(b []byte) (key string, value, rest []byte, err error) {
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

// snapshot writes all notes, in sections of about 256 kB.
func (n *notes) snapshot(write func(section []byte) error) error {
	b := []byte{sectionNotes}
	for _, note := range n.withPrefix("") {
		if b = appendNote(b, note.key, note.value); len(b) > 1<<18 {
			if err := write(b); err != nil {
				return err
			}
			b = b[:1]
		}
	}
	return write(b)
}

// restore reads the notes of a section, or the one of an entry.
func (n *notes) restore(section []byte) (err error) {
	for len(section) > 0 {
		var key string
		var value []byte
		if key, value, section, err = decodeNote(section); err != nil {
			return err
		}
		n.set(key, slices.Clone(value))
	}
	return nil
}
