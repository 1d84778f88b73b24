package deferfail

import (
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// A node that starts hears of resets of before: what went wrong since then stays.
func TestAnEarlierResetTakesNothingAfterARestart(t *testing.T) {
	notes := memory{}
	b := newBadSends(notes, event.NewStream())
	b.tell("a.example", 7, ratelimit.Deferred)
	b.subjects["a.example"].Epoch = 3
	if err := b.save(time.Unix(100, 0)); err != nil {
		t.Fatal(err)
	}
	b = newBadSends(notes, event.NewStream())
	b.forget("a.example", 3)
	if !b.unexplained("a.example") {
		t.Error("the reset with which these counts began has taken a bad send")
	}
	b.forget("a.example", 4)
	if b.unexplained("a.example") {
		t.Error("a later reset has left a bad send")
	}
}

// freeNotes fail a test if b.mu is held while they write.
type freeNotes struct {
	memory
	t *testing.T
	b *badSends
}

func (n *freeNotes) Note(key string, value []byte) error {
	n.mustBeFree(key)
	return n.memory.Note(key, value)
}

func (n *freeNotes) Forget(key string) error {
	n.mustBeFree(key)
	return n.memory.Forget(key)
}

func (n *freeNotes) mustBeFree(key string) {
	if !n.b.mu.TryLock() {
		n.t.Errorf("questions wait while %s is written", key)
		return
	}
	n.b.mu.Unlock()
}

// What questions of the router read is free while thousands of bad sends are written.
func TestSavingKeepsNoQuestionWaiting(t *testing.T) {
	notes := &freeNotes{memory: memory{}, t: t}
	b := newBadSends(notes, event.NewStream())
	notes.b = b
	b.tell("a.example", 7, ratelimit.Deferred)
	for at := int64(100); at <= 200; at += 100 { // the second time all is dropped
		b.prune(time.Unix(at, 0))
		if err := b.save(time.Unix(at, 0)); err != nil {
			t.Fatal(err)
		}
		if want := map[int64]int{100: 3, 200: 1}[at]; len(notes.memory) != want {
			t.Errorf("%d notes, want %d: %v", len(notes.memory), want, notes.memory)
		}
	}
	if len(b.subjects) != 0 {
		t.Errorf("%v is left", b.subjects)
	}
}
