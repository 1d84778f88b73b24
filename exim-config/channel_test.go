package eximconfig_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// Channels that were free, or that spent an owner's hour, with the real sidecar and an owner
// map:
//
//	alice ─→ sendmail -f list@ nosuch@ ─→ Exim's bounce ─→ the list ─→ sluice: forwards of the list's domain
//	strangers, null senders ─→ forwarder, list ─→ sluice: likewise, and never the owner's own hour
//	alice ─→ sendmail -f victim@ nosuch@ ─→ Exim's bounce ─→ victim ─→ main log ─→ sluice: alice
//	bob, over his limit ─→ sendmail -f victim@ ─→ refused, and Exim's bounce ─→ likewise: bob
//	bob ─→ sendmail -t -f victim@, without recipients ─→ Exim's bounce ─→ likewise: Exim's own login
//	bob ─→ sendmail -f '<>' r@, srs0=...@ his alias ─→ sluice: bob, for both
//	strangers ─→ list with one_time ─ held, and asked about as if named ─→ sluice: forwards of the list's domain

// newForwardingHost has alice own here.example, and bob also.example.
func newForwardingHost(t *testing.T) *host {
	t.Helper()
	h := newHost(t)
	h.write(t, "/run/userdomains", "alice.example: alice\nhere.example: alice\nbob.example: bob\nalso.example: bob\n")
	h.write(t, "/run/trueuserdomains", "alice.example: alice\nbob.example: bob\n")
	h.write(t, "/etc/aliases", siteAliases+"pair: p1@far.example, p2@far.example\nsrs0=ab=cd=far.example=v1: v1@far.example\n")
	h.write(t, "/etc/exim4/conf.d/router/390_once", "once:\n  driver = redirect\n  domains = +local_domains\n  local_parts = once\n  one_time\n  data = "+
		strings.Join(numbered("once%d@far.example", 1, 5), ", ")+"\n")
	h.run(t, "update-exim4.conf")
	h.startSluice(t, tenants+"hourly = 100\n[limits.domain.\"here.example\"]\nhourly = 3\n[limits.domain.\"bob.example\"]\nhourly = 1\ndefer_cutoff = 100\n")
	return h
}

// wantSent waits until these are counted, and nothing else.
func (h *host) wantSent(t *testing.T, what string, want map[string]int64) {
	t.Helper()
	var got map[string]int64
	defer func() {
		if t.Failed() {
			t.Logf("counted %v, want %v", got, want)
		}
	}()
	hosttest.Eventually(t, what, func() bool {
		got = h.sent(t)
		return fmt.Sprint(got) == fmt.Sprint(want)
	})
}

func TestFreeChannels(t *testing.T) {
	t.Parallel()
	h := newForwardingHost(t)
	from := func(sender string, to ...string) {
		t.Helper()
		c := h.dialFrom(t, "192.0.2.9")
		c.Want(c.Send(sender, hosttest.Letter("x"), to...), 250)
	}
	reset := func(scopes ...string) {
		t.Helper()
		for _, scope := range scopes {
			if err := h.reset(t, scope); err != nil {
				t.Fatal(err)
			}
		}
		h.wantSent(t, "all starts at zero", map[string]int64{})
	}

	t.Run("ABounceToAList", func(t *testing.T) {
		for range 2 {
			h.script(t, "list@here.example", "nosuch@here.example")
		}
		hosttest.Eventually(t, "the second bounce is held", func() bool {
			return strings.Count(h.mainlog(), "R=sluice_hold defer: Forwarder here.example has exceeded the max emails per hour (") == 3
		})
		h.wantSent(t, "the first one is charged", map[string]int64{"forward:here.example": 3})
		if got := h.forwards(t, "here.example"); got.Held != 3 || h.sink.Count() != 3 {
			t.Errorf("%d delivered, %+v", h.sink.Count(), got)
		}
	})
	t.Run("ABounceToAStranger", func(t *testing.T) {
		for range 2 {
			h.script(t, "victim@far.example", "nosuch@here.example")
		}
		h.wantSent(t, "alice pays for both", map[string]int64{"forward:here.example": 3, "alice.example": 2})
	})
	t.Run("StrangersThroughAForwarder", func(t *testing.T) {
		if err := h.reset(t, "forward:here.example"); err != nil { // what is held takes it up again
			t.Fatal(err)
		}
		hosttest.Eventually(t, "what was held is delivered", func() bool { return len(h.queue()) == 0 })
		from("who@else.example", "forward@here.example")
		hosttest.Eventually(t, "the next one is held", func() bool { return h.forwards(t, "here.example").Held == 1 })
		if code := h.script(t, "boss@here.example", "own1@far.example", "own2@far.example", "own3@far.example"); code != 0 {
			t.Errorf("the owner's own mail: exit %d", code)
		}
		hosttest.Eventually(t, "the owner's own mail is delivered", func() bool { return slices.Contains(h.sink.Recipients(), "own3@far.example") })
		h.wantSent(t, "each has its own hour", map[string]int64{"forward:here.example": 3, "alice.example": 2, "here.example": 3})
		if strings.Contains(h.mainlog(), "** someone@far.example") {
			t.Error("a forward bounced")
		}
		reset("forward:here.example", "alice.example", "here.example")
		hosttest.Eventually(t, "it is released", func() bool { return len(h.queue()) == 0 })
		reset("forward:here.example")
	})
	t.Run("ABounceOfWhatIsRefused", func(t *testing.T) {
		for n := range 4 { // the first is accepted
			h.sendmail(t, bob, "www", hosttest.Letter("x"), "-f", "victim@far.example", fmt.Sprintf("r%d@far.example", n))
		}
		h.wantSent(t, "bob pays for what goes back", map[string]int64{"bob.example": 4})
		reset("bob.example")
	})
	t.Run("AnAliasThatLooksLikeAReturnAlongSRS", func(t *testing.T) {
		h.sendmail(t, bob, "www", hosttest.Letter("x"), "-f", "<>", "r@far.example", "srs0=ab=cd=far.example=v1@also.example")
		hosttest.Eventually(t, "the second is held", func() bool { return h.heldLines(hourlyText("bob.example", 2, 1, laterText)) == 1 })
		h.wantSent(t, "bob pays for one", map[string]int64{"bob.example": 1})
		h.dropQueue(t)
		reset("bob.example")
	})
	t.Run("AListThatIsReadOnce", func(t *testing.T) {
		before := h.sink.Count()
		from("who@else.example", "once@here.example")
		hosttest.Eventually(t, "two of five are held", func() bool { return h.sink.Count() == before+3 && h.forwards(t, "here.example").Held == 2 })
		h.queueRun(t, "-qf")
		h.wantSent(t, "two of five are held at the second attempt", map[string]int64{"forward:here.example": 3})
		if n := h.sink.Count() - before; n != 3 {
			t.Errorf("%d are delivered, want 3", n)
		}
		h.dropQueue(t)
		reset("forward:here.example")
	})
	t.Run("ABounceOfWhatNobodyAccepts", func(t *testing.T) {
		for _, letter := range []string{"Subject: no recipient\n\nx\n", "To: @@@\nSubject: no address\n\nx\n"} {
			h.sendmail(t, bob, "www", letter, "-f", "victim@far.example", "-t")
		}
		h.wantSent(t, "it is seen", map[string]int64{"service:Debian-exim": 2})
		reset("service:Debian-exim")
	})
	t.Run("NullSendersToAnAliasAndAList", func(t *testing.T) {
		before := h.sink.Count()
		for range 5 {
			from("", "pair@also.example", "list@also.example")
		}
		hosttest.Eventually(t, "all are delivered", func() bool { return h.sink.Count() == before+25 && len(h.queue()) == 0 })
		h.wantSent(t, "each is charged", map[string]int64{"forward:also.example": 25})
	})
}

// A message waits for longer than the window, in a .forward whose list is not there yet, and
// is redirected then: it sent to any number of strangers.
func TestALateRedirectIsNoFreeChannel(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, fmt.Sprintf("[limits]\nwindow = %q\nhourly = 1\ndefer_cutoff = 1000", shortWindow()))
	own := func(name, text string) {
		h.write(t, name, text)
		if err := os.Chown(h.path(name), bob.id, bob.id); err != nil {
			t.Fatal(err)
		}
	}
	own("/run/home/bob/.forward", ":include:/run/home/bob/members\n")
	c := h.dialFrom(t, "192.0.2.9")
	c.Want(c.Send("who@else.example", hosttest.Letter("x"), "bob@here.example"), 250)
	hosttest.Eventually(t, "it waits", func() bool { return strings.Contains(h.mainlog(), "== bob@here.example") })
	c.Want(c.Send("who@else.example", hosttest.Letter("x"), "forward@here.example"), 250)
	hosttest.Eventually(t, "a later forward is counted", func() bool { return h.sink.Count() == 1 && h.forwards(t, "here.example").Windows[0].Sent == 1 })
	hosttest.Eventually(t, "the window is over", func() bool { return h.forwards(t, "here.example").Windows[0].Sent == 0 })
	own("/run/home/bob/members", "m1@far.example\nm2@far.example\nm3@far.example\n")
	h.queueRun(t, "-qff")
	if n := strings.Count(h.mainlog(), "R=sluice_hold defer: Forwarder here.example has exceeded the max emails per hour ("); n < 1 {
		t.Errorf("%d were held of three, of which one may go", n)
	}
	hosttest.Eventually(t, "all are delivered as the window allows", func() bool { return h.sink.Count() == 4 && len(h.queue()) == 0 })
}
