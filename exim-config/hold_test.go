package eximconfig_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/sidecar/hosttest"
)

// How the router holds mail. A responder stands in for Sluice:
//
//	sendmail ─→ Exim ─ delivery ─→ responder: 450 for some
//	                ├─→ queue: x@far.example as ID-HASH@hold.sluice.invalid
//	                └─→ sink: all others

// A hold is one message's and one recipient's: it touches no retry record that
// others look at, and it ends with the next queue run after its release.
func TestHoldTouchesNobodyElse(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var released atomic.Bool
	h.respond(t, func(q question) string {
		if q["stage"] == "route" && q["sender"] == "tenant@here.example" && !released.Load() {
			return "action=450 4.7.1 held\n\n"
		}
		return pass("100")(q)
	})
	both := []string{"joe@far.example", "eva@far.example", "bob@here.example"}
	h.sendmail(t, alice, "", hosttest.Letter("held"), append([]string{"-f", "tenant@here.example"}, both...)...)
	hosttest.Eventually(t, "the local one is delivered and the others held", func() bool {
		return h.mailbox(bob) != "" && strings.Count(h.mainlog(), "R=sluice_hold defer: held") == 2
	})

	h.sendmail(t, alice, "", hosttest.Letter("other"), "-f", "other@here.example", "joe@far.example")
	hosttest.Eventually(t, "another tenant's mail to the same recipient is delivered", func() bool { return h.sink.Count() == 1 })
	h.queueRun(t, "-q")
	h.queueRun(t, "-q")
	if n := len(h.queue()); n != 1 || h.sink.Count() != 1 {
		t.Fatalf("after queue runs %d messages are in the queue and %d recipients were served", n, h.sink.Count())
	}
	for _, key := range h.retryKeys(t) {
		if !strings.HasSuffix(key, "@hold.sluice.invalid") {
			t.Errorf("there is a retry record %s", key)
		}
	}

	released.Store(true)
	h.queueRun(t, "-q")
	hosttest.Eventually(t, "a plain queue run delivers what was released", func() bool {
		return slices.Equal(h.sink.Recipients(), []string{"eva@far.example", "joe@far.example", "joe@far.example"})
	})
	hosttest.Eventually(t, "the queue is empty", func() bool { return len(h.queue()) == 0 })
	if strings.Contains(h.mainlog(), "**") {
		t.Error("something bounced")
	}
}

// Held mail waits as long as the site says, whatever its own retry rules are:
// where no rule fits, Exim would bounce at the first attempt.
func TestHoldNeedsNoRetryRuleOfTheSite(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(t, "/etc/exim4/conf.d/retry/30_exim4-config", "")
	h.run(t, "update-exim4.conf")
	h.respond(t, func(question) string { return "action=450 4.7.1 held\n\n" })
	h.sendmail(t, alice, "", hosttest.Letter("held"), "joe@far.example")
	hosttest.Eventually(t, "it is held", func() bool { return strings.Contains(h.mainlog(), "R=sluice_hold defer") })
	h.queueRun(t, "-q")
	if n := len(h.queue()); n != 1 {
		t.Errorf("%d messages in the queue, want 1", n)
	}
}

// Nobody but our own router puts mail into the domain of held recipients.
func TestNobodyMailsToTheHold(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.respond(t, pass("100"))
	h.sendmail(t, alice, "", hosttest.Letter("x"), "-f", "bob@here.example", "x@hold.sluice.invalid")
	hosttest.Eventually(t, "it goes where all mail goes", func() bool { return h.sink.Count() == 1 && len(h.queue()) == 0 })
}

// Only deliveries ask: -bv and -bt are used by people and by ACLs.
func TestAddressTestsDoNotAsk(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := h.respond(t, pass("100"))
	for _, flag := range []string{"-bv", "-bt"} {
		if out := h.run(t, "exim4", flag, "joe@far.example"); !strings.Contains(out, "site_remote") && flag == "-bt" {
			t.Errorf("%s: %s", flag, out)
		}
	}
	if qs := r.asked(""); len(qs) != 0 {
		t.Errorf("asked %v", qs)
	}
}
