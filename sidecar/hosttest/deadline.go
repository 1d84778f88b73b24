package hosttest

import (
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// A pace is how slowly a machine does the two things that tests wait for, at the
// worst of a few tries.
type pace struct {
	late time.Duration // a sleeper is woken
	exec time.Duration // a program starts, ends, and is waited for
}

// What a fast machine takes with nothing beside it: it wakes a sleeper 0.1 to 1 ms
// late, and starts /bin/true in 0.9 to 1.5 ms. One that takes n times this has n times
// as long for everything, up to slowest times: past that, a test hangs.
var base = pace{late: 2 * time.Millisecond, exec: 2 * time.Millisecond}

const (
	slowest = 40
	tries   = 5 // about 10 ms in all on a fast machine
)

func (p pace) String() string {
	return fmt.Sprintf("a sleeper was woken %v late, and /bin/true took %v",
		p.late.Round(10*time.Microsecond), p.exec.Round(10*time.Microsecond))
}

// times is how many times as long this machine may take; never less than 1.
func (p pace) times() float64 {
	return min(slowest, max(1, float64(p.late)/float64(base.late), float64(p.exec)/float64(base.exec)))
}

// worse is the slower of both in everything.
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

// machine is what has been measured by this process. Nothing of it is known before
// the first deadline, so that programs made of a test binary do not measure in vain.
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

// measureAgain makes deadlines longer from now on if the machine has become slower.
func measureAgain() (first, now pace) {
	first, _ = measured()
	now = measure()
	machine.Lock()
	defer machine.Unlock()
	machine.most = machine.most.worse(now)
	return first, now
}

// Deadline is d on a fast machine, and longer on a slow or busy one: by what it
// measures at the first call, and again whenever a deadline has been missed. It is no
// measure of anything: what a test asserts is order, counts and texts, and a deadline
// only ends a test that would hang. Not for the bubbles of synctest, which have a
// clock of their own.
func Deadline(d time.Duration) time.Duration {
	_, most := measured()
	return time.Duration(float64(d) * most.times())
}

// patience is enough on a fast machine. Nothing takes a tenth of it.
const patience = 30 * time.Second

// Patience bounds every wait of the tests.
func Patience() time.Duration { return Deadline(patience) }

// Missed is why somebody gave up who has waited for so long: for the failure's text.
func Missed(waited time.Duration) string {
	first, now := measureAgain()
	return fmt.Sprintf("not within %v (at first, on this machine, %v; now %v)", waited.Round(time.Millisecond), first, now)
}

// Eventually waits until a condition holds.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	eventually(t, patience, func() string { return what }, holds)
}

// EventuallyOr is Eventually with a text that is made when the condition has not held:
// with a log, or with what was there instead.
func EventuallyOr(t testing.TB, what func() string, holds func() bool) {
	t.Helper()
	eventually(t, patience, what, holds)
}

// eventually waits for d on a fast machine. Who has waited in vain measures anew, and
// goes on waiting if the machine has become slower.
func eventually(t testing.TB, d time.Duration, what func() string, holds func() bool) {
	t.Helper()
	start := time.Now()
	for end := Deadline(d); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) <= end {
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
