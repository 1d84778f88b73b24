package eximconfig_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// A script's limit, with the real sidecar:
//
//	script ─→ sendmail ─→ Exim ─ acl_not_smtp ─→ sluice: charged, or not
//	                        └─ delivery ─→ sluice ─→ queue, until there is room

// script sends a message as PHP would, and returns sendmail's exit code.
func (h *host) script(t *testing.T, from string, to ...string) int {
	t.Helper()
	message := fmt.Sprintf("X-PHP-Originating-Script: %d:mailer.php\n%s", alice.id, hosttest.Letter("from a script"))
	_, code := h.sendmail(t, alice, "www", message, append([]string{"-oi", "-f", from}, to...)...)
	return code
}

// heldLines are how often the main log has a hold with a text.
func (h *host) heldLines(text string) int {
	return strings.Count(h.mainlog(), "R=sluice_hold defer: "+text)
}

func TestScriptOverItsLimitWaits(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 20")
	for _, rcpt := range numbered("r%d@far.example", 1, 20) {
		if code := h.script(t, "news@shop.example", rcpt); code != 0 {
			t.Fatalf("%s: exit %d", rcpt, code)
		}
	}
	hosttest.Eventually(t, "20 are delivered", func() bool { return h.sink.Count() == 20 && len(h.queue()) == 0 })

	if code := h.script(t, "news@shop.example", "r21@far.example", "bob@here.example"); code != 0 {
		t.Fatalf("the 21st: exit %d", code)
	}
	hosttest.Eventually(t, "the 21st is held and its local recipient served", func() bool {
		return h.heldLines(hourlyText("shop.example", 21, 20, laterText)) == 1 && h.mailbox(bob) != ""
	})
	for i := 22; i <= 24; i++ {
		if code := h.script(t, "news@shop.example", fmt.Sprintf("r%d@far.example", i)); code != 0 {
			t.Fatalf("number %d: exit %d", i, code)
		}
	}
	for i := range 2 { // from the cutoff on, and again
		if code := h.script(t, "news@shop.example", fmt.Sprintf("r%d@far.example", 25+i)); code != 1 {
			t.Fatalf("number %d: exit %d, want 1", 25+i, code)
		}
	}
	if refused := "rejected by non-SMTP ACL: " + hourlyText("shop.example", 25, 20, neverText); !strings.Contains(h.mainlog(), refused) {
		t.Errorf("not in the main log: %s", refused)
	}
	h.othersDoNotWait(t)

	// Exim sends the two that were refused back to their sender, and these count.
	hosttest.EventuallyOr(t, func() string { return fmt.Sprintf("22 sent and 4 held, but %+v", h.status(t, "shop.example")) }, func() bool {
		got := h.status(t, "shop.example")
		return got.Sent == 22 && got.Held == 4
	})
	h.unlock(t, "max_hourly_shop.example")
	hosttest.Eventually(t, "rm lets the four go", func() bool { return len(h.queue()) == 0 })
	hosttest.Eventually(t, "they are counted anew", func() bool { return h.status(t, "shop.example").Sent == 4 })
}

// othersDoNotWait shows that no hold touches another tenant's mail.
func (h *host) othersDoNotWait(t *testing.T) {
	t.Helper()
	others := numbered("r%d@far.example", 21, 24)
	if code := h.script(t, "joe@free.example", others...); code != 0 {
		t.Fatalf("another tenant: exit %d", code)
	}
	hosttest.Eventually(t, "another tenant's mail to the same recipients is delivered", func() bool {
		return slices.ContainsFunc(h.sink.Received(), func(m hosttest.Message) bool {
			return m.From == "joe@free.example" && len(m.To) == len(others)
		})
	})
	h.queueRun(t, "-q")
	for _, key := range h.retryKeys(t) {
		if !strings.HasSuffix(key, "@hold.sluice.invalid") {
			t.Errorf("there is a retry record %s", key)
		}
	}
}

func TestHeldMailGoesWhenTheWindowFrees(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, fmt.Sprintf("[limits]\nwindow = %q\nhourly = 4\ndefer_cutoff = 1000", shortWindow()))
	for _, rcpt := range numbered("r%d@far.example", 1, 6) {
		if code := h.script(t, "news@shop.example", rcpt); code != 0 {
			t.Fatalf("%s: exit %d", rcpt, code)
		}
	}
	hosttest.Eventually(t, "all six are delivered, without a queue run", func() bool { return h.sink.Count() == 6 && len(h.queue()) == 0 })
	if h.heldLines("Domain shop.example has exceeded") == 0 {
		t.Error("nothing was held")
	}
	if strings.Contains(h.mainlog(), "**") {
		t.Error("something bounced")
	}
}
