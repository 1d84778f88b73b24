package eximconfig_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
)

// Messages to a host that is dead are tried in queue runs, also when their window is
// over:
//
//	sendmail ─→ Exim ─→ nobody there, at each run ─→ main log ─→ sluice: each deferred in the first window, then none
//
// Three messages, and three more runs over a window; ten and nineteen over three of them
// in `make soak`.
func TestMessagesToADeadHostOverManyWindows(t *testing.T) {
	t.Parallel()
	messages, runs, window := 3, 3, shortWindow()
	every := window/2 + time.Second
	if hosttest.Soak() {
		messages, runs, window = 10, 19, 6*time.Second
		every = 3 * window / 20
	}
	h := newHost(t)
	h.write(t, "/etc/exim4/sinks", "dead.example: 127.0.0.1::1\n"+h.read("/etc/exim4/sinks"))
	h.startSluice(t, fmt.Sprintf("[limits]\nwindow = %q\nhourly = 100\ndeferfail_min = %d", window, messages+1))
	var sending sync.WaitGroup
	for n := range messages {
		sending.Go(func() {
			if out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-odq", "-f", "a@shop.example", fmt.Sprintf("r%d@dead.example", n)); code != 0 {
				t.Errorf("exit %d\n%s", code, out)
			}
		})
	}
	sending.Wait()
	sent, all := time.Now(), int64(messages)
	h.queueRun(t, "-qff") // whatever Exim has noted about the host
	h.wantTallies(t, "after the first attempts", map[string]tally{"shop.example": {Sent: all, Deferred: all, Cause: sidecar.Unreachable}})
	over := false
	for run := range runs {
		time.Sleep(time.Until(sent.Add(time.Duration(run) * every))) // spreads the runs, and no more
		h.queueRun(t, "-qff")
		before := time.Now()
		got := h.tallies(t)["shop.example"]
		over = before.Sub(sent) > window+window/60+time.Second // the log has whole seconds
		if got.Deferred > all || got.Failed > 0 || got.Sent != got.Deferred || over && got != (tally{}) {
			t.Errorf("run %d, %v after they were sent: %+v", run, before.Sub(sent), got)
		}
	}
	if n := strings.Count(h.mainlog(), "Connection refused"); n < messages*(1+runs) || !over {
		t.Errorf("only %d attempts were made", n)
	}
	if h.read(lockDir+"/max_deferfail_shop.example") != "" {
		t.Error("it tripped")
	}
}

// shortWindow is long enough for what is to be within it on a slow or busy machine,
// and short enough to be waited for.
func shortWindow() time.Duration { return hosttest.Deadline(3 * time.Second).Round(time.Second) }
