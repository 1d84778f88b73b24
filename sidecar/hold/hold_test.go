package hold

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
)

// TestAHoldAndItsNoteNeverDisagree has a recipient held and released by many at
// once, as queue runs do: after a restart it is held if it was before.
func TestAHoldAndItsNoteNeverDisagree(t *testing.T) {
	nobody := event.NewStream()
	store, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	h := New(Options{Notes: store, Events: nobody})
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for range 1000 {
		var queueRuns sync.WaitGroup
		for range 4 {
			queueRuns.Go(func() {
				if _, err := h.add(sidecar.Held{Payer: sidecar.Payer{Domain: "a.example"}, ID: "id", Token: 7}, now); err != nil {
					t.Error(err)
				}
			})
			queueRuns.Go(func() { h.Drop("a.example", "id", 7) })
		}
		queueRuns.Wait()
		if noted := New(Options{Notes: store, Events: nobody}).Number(); noted != h.Number() {
			t.Fatalf("%d recipients are noted and %d remembered", noted, h.Number())
		}
	}
}

// After a restart what is held is released to the payer whose mail it is: a forwarder's
// with the room of its domain, a website's with that of its account.
func TestHoldsKnowTheirPayerAfterARestart(t *testing.T) {
	nobody := event.NewStream()
	store, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	payers := []sidecar.Payer{
		{Domain: "a.example", Account: "alice", Mailbox: "news@a.example"},
		{Special: "forward:a.example", Domain: "a.example", Account: "alice"},
		{Special: "web:bob", Domain: "b.example", Account: "bob"},
		{Special: "relay:2001:db8::/64"},
	}
	before := New(Options{Notes: store, Events: nobody})
	for _, who := range payers {
		before.Hold(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), sidecar.Held{Payer: who, ID: "id", Token: 7})
	}
	after := New(Options{Notes: store, Events: nobody})
	for _, who := range payers {
		if held := after.heldIn(who.Subject()); len(held) != 1 || held[0].who != who {
			t.Errorf("held for %s: %+v, want it for %+v", who.Subject(), held, who)
		}
	}
}

// What strangers have aliases and lists redirect goes in the order in which it came, but null
// senders go last: a flood of bounces keeps nobody's mail waiting.
func TestNullSendersAreReleasedLast(t *testing.T) {
	nobody := event.NewStream()
	store, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	who := sidecar.Payer{Domain: "a.example", Special: "forward:a.example"}
	room := func(context.Context, time.Time, sidecar.Payer) sidecar.Room { return sidecar.Room{Sends: 3} }
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	h := New(Options{Notes: store, Events: nobody, Room: room})
	for i, id := range []string{"a", "b", "c", "d"} {
		h.Hold(now, sidecar.Held{Payer: who, ID: id, Token: 7, Last: i < 2})
	}
	h = New(Options{Notes: store, Events: nobody, Room: room}) // after a restart too
	if got := h.releasable(t.Context(), now, who.Subject(), now); !slices.Equal(got, []string{"c", "d", "a"}) {
		t.Errorf("released are %v, want c, d and then a", got)
	}
}

// Of whom leaves room to others, no more is released than has room: thousands of held messages
// start no Exim, and keep those of a colleague waiting for nothing.
func TestWhoLeavesRoomIsNotReleased(t *testing.T) {
	store, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	who := sidecar.Payer{Domain: "a.example"}
	asked := 0
	h := New(Options{Notes: store, Events: event.NewStream(), Room: func(context.Context, time.Time, sidecar.Payer) sidecar.Room {
		return sidecar.Room{Sends: 5, Of: func(a sidecar.Author) int {
			asked++
			return map[string]int{"eve@a.example": 2, "ann@a.example": 4}[a.Key]
		}}
	}})
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	hold := func(author string, ids ...string) {
		for _, id := range ids {
			h.Hold(now, sidecar.Held{Payer: who, ID: id, Token: 7, Author: sidecar.Author{Key: author}})
		}
	}
	hold("mallory@a.example", "a", "b", "c")
	hold("eve@a.example", "d", "e", "f", "g")
	hold("ann@a.example", "h", "i", "j", "k")
	if got := h.releasable(t.Context(), now, who.Subject(), now); !slices.Equal(got, []string{"d", "e", "h", "i", "j"}) || asked != 3 {
		t.Errorf("released are %v, of %d authors; want d and e, and of the other three of five", got, asked)
	}
}

// How many are held is known of an author and of a stop of more than one, over a restart and
// when another reason holds them.
func TestHowManyAreHeldByAStop(t *testing.T) {
	store, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	h := New(Options{Notes: store, Events: event.NewStream()})
	now, who := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), sidecar.Payer{Domain: "a.example"}
	hold := func(id, author, stop string) {
		h.Hold(now, sidecar.Held{Payer: who, ID: id, Token: 7, Author: sidecar.Author{Key: author, Account: "carl", Login: "login:carl"}, Stop: stop})
	}
	want := func(when string, one, two, account, login int) {
		t.Helper()
		if got := [4]int{h.NumberOf("one"), h.NumberOf("two"), h.NumberOf("account:carl"), h.NumberOf("login:carl")}; got != [4]int{one, two, account, login} {
			t.Errorf("%s: %v", when, got)
		}
	}
	hold("a", "one", "account:carl")
	hold("b", "two", "account:carl")
	hold("c", "two", "two")
	hold("d", "two", "")
	want("at first", 1, 3, 2, 0)
	hold("a", "one", "account:carl")
	hold("b", "two", "login:carl")
	want("then", 1, 3, 1, 1)
	h = New(Options{Notes: store, Events: event.NewStream()})
	want("after a restart", 1, 3, 1, 1)
	if m := h.heldIn("a.example"); m[0].author.Login != "login:carl" || m[0].author.Account != "carl" {
		t.Errorf("after a restart its author is %+v", m[0].author)
	}
	hold("b", "two", "")
	h.Left([]logline.Departure{{ID: "a"}, {ID: "c"}})
	want("in the end", 0, 2, 0, 0)
}

// brokenNotes can drop nothing.
type brokenNotes struct{}

func (brokenNotes) Note(string, []byte) error          { return nil }
func (brokenNotes) Forget(string) error                { return errors.New("disk full") }
func (brokenNotes) Notes(string, func(string, []byte)) {}

// Who is told of trouble may ask what is held.
func TestTroubleIsToldWithoutTheLock(t *testing.T) {
	told := 0
	var h *Holds
	h = New(Options{Notes: brokenNotes{}, Events: event.Func(func(e event.Event) {
		told++
		if !h.mu.TryLock() {
			t.Error("the lock is held while trouble is told")
			return
		}
		h.mu.Unlock()
	})})
	h.Hold(time.Unix(0, 0), sidecar.Held{Payer: sidecar.Payer{Domain: "a.example"}, ID: "id", Token: 7})
	h.Left([]logline.Departure{{ID: "other"}, {ID: "id", Moved: true, To: "aside"}})
	if told != 1 || h.Number() != 0 {
		t.Errorf("told %d times, %d are held", told, h.Number())
	}
}

// Only the first time a recipient begins to be held; a stop that holds it too begins nothing.
func TestHeldBeginsOnce(t *testing.T) {
	store, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	h, now := New(Options{Notes: store, Events: event.NewStream()}), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	held := sidecar.Held{Payer: sidecar.Payer{Domain: "a.example"}, ID: "id", Token: 7}
	stopped := held
	stopped.Stop = "news@a.example"
	other := held
	other.Token = 8
	for i, want := range []struct {
		held   sidecar.Held
		begins bool
	}{{held, true}, {held, false}, {stopped, false}, {stopped, false}, {other, true}} {
		if begins := h.Hold(now, want.held); begins != want.begins {
			t.Errorf("%d: %v", i, begins)
		}
	}
	h.Drop("a.example", "id", 7)
	if !h.Hold(now, held) {
		t.Error("after it was dropped it does not begin again")
	}
}

// What has left the queue without a line in the log is held no more, whoever pays, after a restart
// too: a whole message with what was set aside of it, or some of its recipients.
func TestGoneIsHeldNoMore(t *testing.T) {
	store, err := journal.Open(t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	o := Options{Notes: store, Events: event.NewStream()}
	h, now := New(o), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, id := range []string{"all", "some", "aside", "other"} {
		for token := range ratelimit.Token(2) {
			h.Hold(now, sidecar.Held{Payer: sidecar.Payer{Domain: "a.example"}, ID: id, Token: token})
			h.Hold(now, sidecar.Held{Payer: sidecar.Payer{Domain: "b.example"}, ID: id, Token: token})
		}
	}
	h.Left([]logline.Departure{{ID: "aside", Moved: true, To: logline.QuarantineQueue}})
	if n, looked := h.Messages()["aside"]; n != 0 || !looked {
		t.Errorf("%d of what is aside are held; it is looked for: %v", n, looked)
	}
	h.Gone("all")
	h.Gone("some", 1)
	h.Gone("aside")
	for _, h := range []*Holds{h, New(o)} {
		if got, want := h.Messages(), map[string]int{"some": 2, "other": 4}; !maps.Equal(got, want) || len(h.aside) > 0 {
			t.Errorf("held are %v and %d messages aside, want %v", got, len(h.aside), want)
		}
	}
}
