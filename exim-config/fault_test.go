package eximconfig_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
)

// Whose fault it is that mail is deferred or fails, and what a trip does meanwhile:
//
//	AUTH, sendmail, strangers ─→ Exim ─→ sink: 450, 550 ─→ main log ─→ sluice ─→ trip
//	                               └──── retries ←── probes, release ───────────────┘

// a trip by deferrals ends by the retries of what was sent before it. Meanwhile
// nothing bounces: clients get 450, and what sendmail submits is held.
func TestRetriesEndATripByDeferrals(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nwindow = \"10m\"\n") // a trip lasts ten seconds at least
	h.startExim(t)
	var to []string
	for n := range 10 {
		to = append(to, fmt.Sprintf("r%d@d%d.example", n, n))
		h.sink.Refuse(to[n], 450, "4.7.1 try again later")
	}
	c := h.dial(t).Login("x@v1.example")
	c.Want(c.Send("x@v1.example", hosttest.Letter("x"), to...), 250)
	hosttest.Eventually(t, "it trips", func() bool { return strings.TrimSpace(h.read(lockDir+"/max_deferfail_v1.example")) == "10/5 (100%)" })

	later := deferfailText("v1.example", "10/5 (100%)", laterText)
	c.Mail("x@v1.example")
	wantRefused(t, c.Rcpt("new@d0.example"), 450, later)
	if out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-f", "php@v1.example", "new@d1.example"); code != 0 {
		t.Errorf("sendmail: exit %d\n%s", code, out)
	}
	hosttest.Eventually(t, "what sendmail submits is held", func() bool { return h.heldLines(later) == 1 })
	if got := h.status(t, "v1.example"); got.Sent != 10 || got.Held != 1 || got.Trip == nil || got.Trip.By != "deferrals" || got.Locks[0].Until == nil {
		t.Errorf("while it is tripped: %+v", got)
	}

	for _, one := range to {
		h.sink.Accept(one)
	}
	h.queueRun(t, "-qf")
	hosttest.Eventually(t, "all is delivered and the trip has ended", func() bool {
		return h.sink.Count() == 11 && h.status(t, "v1.example").Delivered == 11 && len(h.queue()) == 0 && !h.hasLock("max_deferfail_v1.example")
	})
	if got := h.status(t, "v1.example"); got.Sent != 11 || got.Delivered != 11 || got.Held != 0 || got.Trip != nil {
		t.Errorf("in the end: %+v", got)
	}
	if strings.Contains(h.mainlog(), " ** ") {
		t.Error("something bounced")
	}
	c.Want(c.Cmd("RSET"), 250)
	c.Want(c.Send("x@v1.example", hosttest.Letter("x"), "new@d0.example"), 250)
}

// S-06: what a forwarder passes on of strangers is refused as spam. That holds forwards, and
// the owner of the domain goes on sending. What is removed from the queue, or put aside, is
// held no more.
func TestStrangersTripOnlyTheForwarder(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "")
	h.startExim(t)
	h.sink.Refuse("someone@far.example", 550, "5.7.1 this looks like spam")
	stranger := h.dialFrom(t, "192.0.2.9")
	for range 5 { // a sixth might be held already
		stranger.Want(stranger.Send("who@else.example", hosttest.Letter("x"), "forward@here.example"), 250)
	}
	hosttest.Eventually(t, "the forwarder trips", func() bool {
		trip := h.forwards(t, "here.example").Trip
		return trip != nil && trip.By == "failures"
	})
	if h.hasLock("max_deferfail_here.example") {
		t.Error("the domain has a lock file")
	}
	c := h.dial(t).Login("boss@here.example")
	c.Want(c.Send("boss@here.example", hosttest.Letter("x"), "customer@far.example"), 250)
	hosttest.Eventually(t, "the owner's mail is delivered", func() bool { return slices.Contains(h.sink.Recipients(), "customer@far.example") })

	text := fmt.Sprintf("%s has exceeded the max defers and failures per hour (5/5 (100%%)) allowed. Message %s", sidecar.TitleOf("forward:here.example"), laterText)
	for _, away := range [][]string{{"exim4", "-Mrm"}, {"exim4", "-MG", "aside"}} {
		before := h.heldLines(text)
		stranger.Want(stranger.Send("who@else.example", hosttest.Letter("x"), "forward@here.example"), 250)
		hosttest.Eventually(t, "a forward is held", func() bool {
			return h.heldLines(text) > before && h.forwards(t, "here.example").Held == 1 && len(h.queue()) == 1
		})
		h.run(t, append(away, h.queue()...)...)
		hosttest.Eventually(t, fmt.Sprintf("behind %s nothing is held", away[1]), func() bool { return h.forwards(t, "here.example").Held == 0 })
	}
}

// S-06, A-09 and A-12 together: null senders of strangers through a list, which all that it
// names defer. That holds what the list makes, and neither its owner's mail nor a neighbour's
// list. It ends by retries, and nothing bounces.
func TestNullSendersTripOnlyTheirList(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(t, "/run/userdomains", "here.example: alice\nalso.example: bob\n")
	h.write(t, "/run/trueuserdomains", "here.example: alice\nalso.example: bob\n")
	h.startSluice(t, tenants+"window = \"10m\"\n") // a trip lasts ten seconds at least
	h.startExim(t)
	h.write(t, "/etc/aliases", siteAliases+"far: m0@d0.example, m1@d1.example, m2@d2.example\n")
	members := []string{"m0@d0.example", "m1@d1.example", "m2@d2.example"}
	for _, m := range members {
		h.sink.Refuse(m, 451, "4.7.1 try again later")
	}
	stranger := h.dialFrom(t, "192.0.2.9")
	for range 2 {
		stranger.Want(stranger.Send("", hosttest.Letter("x"), "far@also.example"), 250)
	}
	hosttest.Eventually(t, "the list trips", func() bool {
		trip := h.forwards(t, "also.example").Trip
		return trip != nil && trip.By == "deferrals"
	})
	stranger.Want(stranger.Send("", hosttest.Letter("x"), "list@also.example"), 250) // of the same domain
	stranger.Want(stranger.Send("", hosttest.Letter("x"), "forward@here.example"), 250)
	c := h.dial(t).Login("boss@also.example")
	c.Want(c.Send("", hosttest.Letter("x"), "customer@far.example"), 250)
	hosttest.Eventually(t, "the owner's mail and the neighbour's forward are delivered, and the list's is held", func() bool {
		return h.sink.Count() == 2 && h.forwards(t, "also.example").Held == 3
	})
	h.wantSent(t, "each pays for its own", map[string]int64{"forward:also.example": 6, "forward:here.example": 1, "also.example": 1})
	if got := h.locks(t); len(got) > 0 {
		t.Errorf("there are lock files: %v", got)
	}
	for _, m := range members {
		h.sink.Accept(m)
	}
	h.queueRun(t, "-qf")
	hosttest.Eventually(t, "all is delivered and the trip has ended", func() bool {
		f := h.forwards(t, "also.example")
		return h.sink.Count() == 11 && len(h.queue()) == 0 && f.Trip == nil && f.Held == 0 && f.Delivered == 9
	})
	h.wantSent(t, "no retry is a send", map[string]int64{"forward:also.example": 9, "forward:here.example": 1, "also.example": 1})
	if strings.Contains(h.mainlog(), " ** ") {
		t.Error("something bounced")
	}
}
