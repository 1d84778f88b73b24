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

// Ten messages to a host that is dead are tried in twenty queue runs over three
// windows:
//
//	sendmail ─→ Exim ─→ nobody there, 20 times ─→ main log ─→ sluice: 10 deferred in the first window, then none
func TestTenMessagesToADeadHostOverThreeWindows(t *testing.T) {
	t.Parallel()
	const window, runs = 6 * time.Second, 20
	h := newHost(t)
	h.write(t, "/etc/exim4/sinks", "dead.example: 127.0.0.1::1\n"+h.read("/etc/exim4/sinks"))
	h.startSluice(t, fmt.Sprintf("[limits]\nwindow = %q\nhourly = 100\ndeferfail_min = 11", window))
	h.startExim(t)
	began := time.Now()
	var sending sync.WaitGroup
	for n := range 10 {
		sending.Go(func() {
			if out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-odq", "-f", "a@shop.example", fmt.Sprintf("r%d@dead.example", n)); code != 0 {
				t.Errorf("exit %d\n%s", code, out)
			}
		})
	}
	sending.Wait()
	sent := time.Now()
	h.queueRun(t, "-qff") // whatever Exim has noted about the host
	h.wantTallies(t, "after the first attempts", map[string]tally{"shop.example": {Sent: 10, Deferred: 10, Cause: sidecar.Unreachable}})
	for run := range runs - 1 {
		h.queueRun(t, "-qff")
		before := time.Now()
		got := h.tallies(t)["shop.example"]
		switch {
		case got.Deferred > 10 || got.Failed > 0 || got.Sent != got.Deferred:
			t.Errorf("run %d: %+v", run, got)
		case before.Sub(sent) > window+window/60+time.Second && got != (tally{}): // the log has whole seconds
			t.Errorf("run %d, %v after they were sent: %+v", run, before.Sub(sent), got)
		}
		time.Sleep(time.Until(began.Add(time.Duration(run+1) * 3 * window / runs))) // spreads the runs, and no more
	}
	if n := strings.Count(h.mainlog(), "Connection refused"); n < 10*runs {
		t.Errorf("only %d attempts were made", n)
	}
	if h.read(lockDir+"/max_deferfail_shop.example") != "" {
		t.Error("it tripped")
	}
}
