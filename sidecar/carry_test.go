package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// memoryNotes are notes for as long as the test runs.
type memoryNotes map[string][]byte

func (n memoryNotes) Note(key string, value []byte) error {
	n[key] = bytes.Clone(value)
	return nil
}

func (n memoryNotes) Forget(key string) error {
	delete(n, key)
	return nil
}

func (n memoryNotes) Notes(prefix string, f func(key string, value []byte)) {
	for _, key := range slices.Sorted(maps.Keys(n)) {
		if strings.HasPrefix(key, prefix) {
			f(key, n[key])
		}
	}
}

// A slowBoard is a board in memory of which every third call is answered too late:
// it is written to all the same, or not.
type slowBoard struct {
	noteBoard
	calls int
}

var errLate = errors.New("no answer in time")

func (b *slowBoard) Post(ctx context.Context, key string, value []byte) ([]byte, error) {
	if b.calls++; b.calls%6 == 0 {
		return nil, errLate
	}
	stands, err := b.noteBoard.Post(ctx, key, value)
	if b.calls%3 == 0 {
		return nil, errLate
	}
	return stands, err
}

// What was set before a node shared is brought over also where never more than two
// calls in a row are answered in time: the next try goes on where the last has ended.
func TestWhatWasSetIsCarriedOverASlowRedis(t *testing.T) {
	config, err := ParseConfig("test.toml", "")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	notes, board := memoryNotes{}, &slowBoard{noteBoard: noteBoard{notes: memoryNotes{}}}
	const changes = 20
	for i := range changes {
		change := fmt.Sprintf(`{"number":%d,"at":"2026-03-01T11:00:00Z","who":"root","node":"mx1","scope":"example.com","keys":[{"key":"hourly","to":%d}]}`, i+1, i+1)
		notes[boardNotes+trailKey(int64(i+1))] = []byte(change)
	}
	tally := newTally()
	p := New(Options{Config: config, Node: "mx1", Store: tallyStore{ratelimit.NewLedger(ratelimit.Options{}), &tally}, Notes: notes, Board: board,
		Locks: &tallyLocks{files: map[string][]LockFile{}}, Queue: noQueue{}, Events: event.NewStream(), Now: now})
	for tries := 0; !p.carried; tries++ {
		if tries > changes {
			t.Fatalf("not there after %d tries: %d changes of %d", tries, len(readTrail(board, p.events)), changes)
		}
		p.carry(t.Context(), now)
	}
	settings := readTrail(board, p.events).judge(now).settings
	if len(settings) != 1 || settings[0].Value != int64(changes) || p.stranded.Load() {
		t.Errorf("in force are %+v", settings)
	}
	if left := readTrail(&noteBoard{notes: notes}, p.events); len(left) > 0 {
		t.Errorf("%d changes are still this node's own", len(left))
	}
}
