package hosttest

import (
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// A pace is how slowly a machine does the two things that tests wait for, the worst of a
// few tries.
type pace struct {
	late time.Duration // how late a sleeper is woken
	exec time.Duration // how long a program takes to start and end
}

// base is more than a fast, idle machine takes: it wakes a sleeper 0.1 to 1 ms late, and
// runs /bin/true in 0.9 to 1.5 ms. A machine that takes n times as long as base gets n times
// as long for everything, but at most slowest times: after that, a test counts as hung.
var base = pace{late: 2 * time.Millisecond, exec: 2 * time.Millisecond}

const (
	slowest = 40
	tries   = 5 // about 10 ms in all on a fast machine
)

func (p pace) String() string {
	return fmt.Sprintf("a sleeper was woken %v late, and /bin/true took %v",
		p.late.Round(10*time.Microsecond), p.exec.Round(10*time.Microsecond))
}

// times is the factor by which this machine may take longer, at least 1.
func (p pace) times() float64 {
	return min(slowest, max(1, float64(p.late)/float64(base.late), float64(p.exec)/float64(base.exec)))
}

// worse returns the larger of each value.
func (p pace) worse(q pace) pace {
	return pace{late: max(p.late, q.late), exec: max(p.exec, q.exec)}
}

func measure() (p pace) {
	const nap = time.Millisecond
	for range tries {
		start := time.Now()
		time.Sleep(nap)
		p.late = max(p.late, time.Since(start)-nap)
		start = time.Now()
		if exec.Command("/bin/true").Run() == nil {
			p.exec = max(p.exec, time.Since(start))
		}
	}
	return p
}

// machine has what this process has measured. It measures at the first deadline only,
// because programs made of a test binary need no measurement.
var machine struct {
	sync.Mutex
	measured    bool
	first, most pace
}

func measured() (first, most pace) {
	machine.Lock()
	defer machine.Unlock()
	if !machine.measured {
		machine.first = measure()
		machine.most, machine.measured = machine.first, true
	}
	return machine.first, machine.most
}

// measureAgain measures again, and makes deadlines longer from now on if the machine has
// become slower.
func measureAgain() (first, now pace) {
	first, _ = measured()
	now = measure()
	machine.Lock()
	defer machine.Unlock()
	machine.most = machine.most.worse(now)
	return first, now
}

// Deadline returns d for a fast machine, and more for a slow or busy one: it measures at
// the first call, and again whenever a deadline was missed. Tests must not assert by it:
// they assert order, counts and texts, and a deadline only ends a test that would hang. It
// is not for synctest's bubbles, which have a clock of their own.
func Deadline(d time.Duration) time.Duration {
	_, most := measured()
	return time.Duration(float64(d) * most.times())
}

// patience is enough on a fast machine: nothing takes a tenth of it.
const patience = 30 * time.Second

// Patience is the longest wait of any test.
func Patience() time.Duration { return Deadline(patience) }

// Missed words, for a failure, that somebody has waited for this long in vain.
func Missed(waited time.Duration) string {
	first, now := measureAgain()
	return fmt.Sprintf("not within %v (at first, on this machine, %v; now %v)", waited.Round(time.Millisecond), first, now)
}

// Eventually waits until a condition holds, for Patience at most.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	eventually(t, patience, func() string { return what }, holds)
}

// EventuallyOr is Eventually with a text that is made after the condition has failed to
// hold, such as a log, or what was there instead.
func EventuallyOr(t testing.TB, what func() string, holds func() bool) {
	t.Helper()
	eventually(t, patience, what, holds)
}

// eventually waits for d on a fast machine. If that was in vain, it measures again, and
// waits on if the machine has become slower.
func eventually(t testing.TB, d time.Duration, what func() string, holds func() bool) {
	t.Helper()
	start := time.Now()
	for end := Deadline(d); ; {
		looked := time.Now()
		if holds() {
			return
		}
		now := time.Now()
		if now.Sub(start) <= end {
			time.Sleep(pause(now.Sub(looked)))
			continue
		}
		missed := Missed(end)
		if longer := Deadline(d); longer > end {
			end = longer
			continue
		}
		t.Fatalf("%s: %s", missed, what())
	}
}

// pause is how long to wait after a look that took so long. Many a look starts programs:
// one after the other would take a processor away from what is waited for.
func pause(look time.Duration) time.Duration {
	return min(max(5*time.Millisecond, 4*look), 300*time.Millisecond)
}
