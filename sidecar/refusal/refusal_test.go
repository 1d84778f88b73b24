package refusal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/notes"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newCounts are Counts under which everybody is watched and blocked.
func newCounts(t *testing.T) *Counts {
	t.Helper()
	store, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return New(Options{Notes: store, Events: event.Func(func(e event.Event) { t.Errorf("%+v", e) }),
		IsWatched: func(string) bool { return true }, IsBlocked: func(time.Time, string) bool { return true }})
}

// Made-up names and recipients fill no memory.
func TestTheMemoryIsBounded(t *testing.T) {
	c := newCounts(t)
	for i := range maxSubjects + 10 {
		c.WouldRefuse(noon, fmt.Sprintf("d%d.example", i), 1, 0)
	}
	c.WouldRefuse(noon, "d0.example", 1, 0)
	if w, _ := c.Of(noon, "d0.example"); w.Sends != 2 || len(c.all) != maxSubjects {
		t.Errorf("%+v of %d subjects", w, len(c.all))
	}
	var marks []ratelimit.Token
	for i := range maxSeen + 10 {
		marks = append(marks, ratelimit.Token(i+1))
	}
	for i := range maxAllSeen/maxSeen + 10 {
		c.Refused(fmt.Sprintf("d%d.example", i), marks)
	}
	if _, n := c.Of(noon, "d0.example"); n != maxSeen || c.marks != maxAllSeen {
		t.Errorf("%d refused of one domain, %d of all", n, c.marks)
	}
	c.end("d0.example", false, true) // which makes room
	c.Refused("other.example", marks[:1])
	c.Refused("d77.example", marks[:1])
	if _, n := c.Of(noon, "d77.example"); n != 1 || c.marks != maxAllSeen-maxSeen+1 {
		t.Errorf("%d refused of one domain, %d of all", n, c.marks)
	}
}

// A reset that comes twice, or of before what is counted, takes nothing away.
func TestALateResetTakesNothing(t *testing.T) {
	c := newCounts(t)
	c.WouldRefuse(noon, "a.example", 3, 7)
	c.Refused("a.example", []ratelimit.Token{1})
	for epoch, want := range []int64{6: 3, 7: 3, 8: 0} {
		if epoch < 6 {
			continue
		}
		if err := c.Reset(context.Background(), noon, sidecar.Reset{Subject: "a.example", Epoch: int64(epoch), Elsewhere: true}); err != nil {
			t.Fatal(err)
		}
		if w, n := c.Of(noon, "a.example"); w.Sends != want || n != 1 {
			t.Errorf("epoch %d: %+v, %d refused", epoch, w, n)
		}
	}
}

// A subject is a part of its request, which may be of megabytes, and is not kept with it.
func TestRequestsAreNotKept(t *testing.T) {
	c := newCounts(t)
	request := "a.example b.example " + strings.Repeat("x", 1000)
	c.WouldRefuse(noon, request[:9], 1, 0)
	c.Refused(request[10:19], []ratelimit.Token{1})
	for subject := range c.all {
		if i := strings.Index(request, subject); unsafe.StringData(subject) == unsafe.StringData(request[i:]) {
			t.Errorf("%s holds on to its request", subject)
		}
	}
}

// countedNotes count what is written, and fail while broken is set.
type countedNotes struct {
	store  notes.Store
	writes int
	broken error
}

func (n *countedNotes) Note(key string, value []byte) error {
	n.writes++
	return errors.Join(n.broken, n.store.Note(key, value))
}

func (n *countedNotes) Forget(key string) error {
	n.writes++
	if n.broken != nil {
		return n.broken
	}
	return n.store.Forget(key)
}

func (n *countedNotes) Notes(prefix string, f func(string, []byte)) { n.store.Notes(prefix, f) }

// Of a domain that is blocked and not watched, nothing is written again and again, and none
// is kept of which there was nothing to count.
func TestOnlyWhatChangesIsWritten(t *testing.T) {
	c := newCounts(t)
	store := &countedNotes{store: c.Notes}
	o := c.Options
	o.Notes, o.IsWatched = store, func(string) bool { return false }
	c = New(o)
	c.Refused("none.example", nil)
	c.Refused("a.example", []ratelimit.Token{1})
	c.Tick(t.Context(), noon)
	for range 3 {
		_, done := c.Survey(noon)
		done()
		c.Tick(t.Context(), noon)
	}
	if store.writes != 1 || len(c.all) != 1 {
		t.Errorf("%d writes, %d subjects; want one of each", store.writes, len(c.all))
	}
}

// A note that cannot be dropped is tried again, or its count would be back after a restart.
func TestADropThatFailsIsTriedAgain(t *testing.T) {
	c := newCounts(t)
	store := &countedNotes{store: c.Notes}
	o := c.Options
	o.Notes, o.Events = store, event.NewStream()
	c = New(o)
	c.WouldRefuse(noon, "a.example", 1, 0)
	c.Tick(t.Context(), noon)
	store.broken = errors.New("disk full")
	c.end("a.example", true, true)
	if all := c.Subjects(); len(all) != 0 {
		t.Errorf("%v are counted", all)
	}
	store.broken = nil
	c.Tick(t.Context(), noon)
	if again := New(o); len(c.all) != 0 || len(again.all) != 0 {
		t.Errorf("%d subjects are kept, and %d after a restart", len(c.all), len(again.all))
	}
}
