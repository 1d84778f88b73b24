package journal

import (
	"fmt"
	"testing"
)

// others are notes that nobody asks for: each message in the queue has one.
const others = 100_000

// noted returns a store with two notes under trip/ among many others.
func noted(t testing.TB, others int) *Store {
	t.Helper()
	s := open(t, t.TempDir(), &heard{})
	t.Cleanup(s.abandon)
	for n := range others {
		s.Note(fmt.Sprintf("arrival/%06d", n), []byte("x"))
	}
	s.Note("trip/a.example", []byte("x"))
	s.Note("trip/b.example", []byte("x"))
	return s
}

// The cost of Notes follows what it finds, however many others there are: copying all
// of them would take hundreds of allocations.
func TestNotesGathersOnlyWhatItFinds(t *testing.T) {
	s := noted(t, others)
	found := 0
	allocations := testing.AllocsPerRun(10, func() {
		found = 0
		s.Notes("trip/", func(string, []byte) { found++ })
	})
	if found != 2 || allocations > 10 {
		t.Errorf("%d notes found with %v allocations", found, allocations)
	}
}

// BenchmarkNotes looks up two notes among many, as a node of a cluster does every
// second.
func BenchmarkNotes(b *testing.B) {
	s := noted(b, others)
	for b.Loop() {
		s.Notes("trip/", func(string, []byte) {})
	}
}
