package attribution

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/usual"
)

// A million domains, each with a mailbox of its own, take no more than the memory that is
// allowed, with who is told apart in it.
func TestMemoryOfAMillionDomains(t *testing.T) {
	domains := 100_000
	if hosttest.Soak() {
		domains = 1_000_000
	}
	const allowed = 16 << 20
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	a := New(Options{Window: time.Hour, Clock: ratelimit.Clock{}, Events: event.NewStream(), Memory: int64(allowed * domains / 250_000), MaxAuthors: 200_000,
		Spike: func(string, string) string { return "" }, Rule: func(string, string) usual.Rule { return usual.Rule{Least: 50, Factor: 3} }})
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range domains {
		a.Charged(now, message(fmt.Sprintf("news@d%d.example", i), 1), 1)
	}
	after := heap()
	st := a.Status()
	t.Logf("%d domains: %d kB more, of which %d kB are known; %+v", domains, (after-before)>>10, st.Memory>>10, st)
	if after-before > uint64(a.Memory) || st.Memory > a.Memory || st.Subjects == 0 {
		t.Errorf("%d bytes more than before, %d are allowed: %+v", after-before, a.Memory, st)
	}
	runtime.KeepAlive(a)
}
