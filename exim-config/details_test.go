package eximconfig_test

import (
	"fmt"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// With refusal.details = "operator" the log says of what is held where the limit is set, and on
// which node. Its sender is not told that: neither by Exim's warning of the delay, nor when the
// hold has lasted too long.
//
//	alice ─→ sendmail ─→ router ─ hold ─→ main log: all of it
//	  ↑                            ├─→ warning of the delay: without file and node
//	  └────────────────────────────┴─→ bounce: likewise
func TestSendersOfHeldMailAreNotToldFilesAndNodes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.addMacros(t, "delay_warning = 1s")
	h.startSluice(t, "[limits]\nhourly = 1\ndefer_cutoff = 1000\n[refusal]\ndetails = \"operator\"\n")
	for n := range 2 {
		if out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-f", "alice@here.example", fmt.Sprintf("r%d@far.example", n)); code != 0 {
			t.Fatalf("sendmail: exit %d\n%s", code, out)
		}
	}
	text := hourlyText("here.example", 2, 1, laterText) + " ["
	hosttest.Eventually(t, "the second is held", func() bool { return h.heldLines(text) > 0 })
	tells := func(line string) bool {
		return strings.Contains(line, "limit from /run/sluice.toml:") && strings.Contains(line, "; sluice on "+node)
	}
	for line := range strings.Lines(h.mainlog()) {
		if strings.Contains(line, "R=sluice_hold defer") && !tells(line) {
			t.Errorf("the main log does not tell of file and node: %s", line)
		}
	}
	for _, told := range []struct{ macro, says string }{{"", "has not yet been delivered"}, {"SLUICE_HOLD_RETRY = F,1s,1s", "could not be delivered"}} {
		h.addMacros(t, told.macro)
		hosttest.Eventually(t, "its sender is told that it "+told.says, func() bool {
			h.queueRun(t, "-qf")
			return strings.Contains(h.mailbox(alice), told.says)
		})
	}
	told := strings.Join(strings.Fields(h.mailbox(alice)), " ") // as if it were not folded
	if !strings.Contains(told, "generated from r1@far.example") || strings.Contains(told, "sluice on") || strings.Contains(told, "sluice.toml") {
		t.Errorf("its sender is told\n%s", h.mailbox(alice))
	}
}
