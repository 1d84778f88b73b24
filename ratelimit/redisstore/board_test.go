package redisstore

import (
	"fmt"
	"testing"
)

// noNotes is a ledger that keeps no notes; nothing else of it is called.
type noNotes struct{ Ledger }

func (noNotes) Note(string, []byte) error          { return nil }
func (noNotes) Notes(string, func(string, []byte)) {}

// The cost of Entries follows what it finds, however much else is on the board: copying
// all of it would take hundreds of allocations.
func TestEntriesGathersOnlyWhatItFinds(t *testing.T) {
	s := &Store{board: newBoard(noNotes{})}
	for n := range 100_000 {
		s.receive(fmt.Sprintf("other/%06d", n), entry{Value: []byte("x"), Stamp: 1})
	}
	for n := range 2 {
		s.receive(fmt.Sprintf("trip/d%d.example", n), entry{Value: []byte("mx1"), Stamp: 1})
	}
	found := 0
	allocations := testing.AllocsPerRun(10, func() {
		found = 0
		s.Entries("trip/", func(string, []byte) { found++ })
	})
	if found != 2 || allocations > 10 {
		t.Errorf("%d entries found with %v allocations", found, allocations)
	}
}

// has reports whether this node's copy has a value.
func (b *board) has(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, _ := b.entries.Get(key)
	return len(e.Value) > 0
}
