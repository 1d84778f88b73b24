package eximconfig_test

import (
	"slices"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// Who pays, with the real sidecar:
//
//	elsewhere ─→ Exim ─ alias, list ─ delivery ─→ sluice: forwards of the alias's domain
//	null sender, AUTH or sendmail ─→ Exim ─→ sluice: whoever sent it

func TestForwardsAndListsAreCharged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 3\ndefer_cutoff = 1000")
	c := h.dialFrom(t, "192.0.2.9")
	c.Want(c.Send("who@else.example", hosttest.Letter("x"), "forward@here.example"), 250)
	hosttest.Eventually(t, "the forward is delivered", func() bool { return h.sink.Count() == 1 && len(h.queue()) == 0 })
	if got := h.forwards(t, "here.example"); got.Windows[0].Sent != 1 {
		t.Errorf("after a forward: %+v", got)
	}
	c.Want(c.Send("who@else.example", hosttest.Letter("x"), "list@here.example"), 250)
	hosttest.Eventually(t, "two of the list are served and one is held", func() bool {
		return h.sink.Count() == 3 && h.heldLines(forwardText("here.example", 4, 3)) == 1
	})
	for range 3 {
		h.queueRun(t, "-q")
	}
	if got := h.forwards(t, "here.example"); got.Windows[0].Sent != 3 || got.Held != 1 || got.Refused != 1 {
		t.Errorf("after queue runs: %+v", got)
	}
	if strings.Contains(h.mainlog(), "**") || h.sink.Count() != 3 {
		t.Error("it bounced, or was sent")
	}
	if err := h.reset(t, "forward:here.example"); err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, "it is released", func() bool { return h.sink.Count() == 4 && len(h.queue()) == 0 })
	want := []string{"one@far.example", "someone@far.example", "three@far.example", "two@far.example"}
	if got := h.sink.Recipients(); !slices.Equal(got, want) {
		t.Errorf("delivered to %v", got)
	}
}

// A send that a queue run tries again is charged once.
func TestRetriesAreChargedOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 10")
	h.sink.Refuse("someone@far.example", 451, "the sink does not want it")
	c := h.dialFrom(t, "192.0.2.9")
	c.Want(c.Send("who@else.example", hosttest.Letter("x"), "forward@here.example"), 250)
	hosttest.Eventually(t, "it is deferred", func() bool { return strings.Contains(h.mainlog(), "== someone@far.example") })
	for range 3 {
		h.queueRun(t, "-qf")
	}
	h.sink.Accept("someone@far.example")
	h.queueRun(t, "-qf")
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 1 })
	if got := h.forwards(t, "here.example"); got.Windows[0].Sent != 1 {
		t.Errorf("%+v", got)
	}
}

func TestNullSendersAreCharged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 2\ndefer_cutoff = 1000")
	h.startExim(t)
	c := h.dial(t).Login("news@shop.example")
	for range 2 {
		c.Want(c.Send("", hosttest.Letter("x"), "x@far.example"), 250)
	}
	c.Mail("")
	wantRefused(t, c.Rcpt("y@far.example"), 450, hourlyText("shop.example", 3, 2, laterText))
	for range 3 {
		if code := h.script(t, "<>", "x@far.example"); code != 0 {
			t.Fatalf("exit %d", code)
		}
	}
	hosttest.Eventually(t, "the third from sendmail is held", func() bool { return h.heldLines(hourlyText("service:alice", 3, 2, laterText)) == 1 })
	hosttest.Eventually(t, "the others are delivered", func() bool { return h.sink.Count() == 4 })
}

// One folded name, three sends.
func TestThreeSpellingsAreThreeSends(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 100")
	h.startExim(t)
	c := h.dial(t).Login("news@shop.example")
	c.Want(c.Send("news@shop.example", hosttest.Letter("x"), "BoB@far.example", "bob@far.example", `"bob"@far.example`), 250)
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 3 && len(h.queue()) == 0 })
	if got := h.status(t, "shop.example"); got.Sent != 3 {
		t.Errorf("%+v", got)
	}
}
