package hosttest

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestPaceScales(t *testing.T) {
	for _, c := range []struct {
		what string
		p    pace
		want float64
	}{
		{"nothing measured", pace{}, 1},
		{"a fast machine", pace{late: 100 * time.Microsecond, exec: time.Millisecond}, 1},
		{"as slow as the base", base, 1},
		{"slow to start programs", pace{exec: 3 * base.exec}, 3},
		{"slow to wake sleepers", pace{late: 5 * base.late, exec: 3 * base.exec}, 5},
		{"one that hangs", pace{late: time.Hour}, slowest},
	} {
		if got := c.p.times(); got != c.want {
			t.Errorf("%s: %v times as long, want %v", c.what, got, c.want)
		}
	}
}

func TestDeadlineOfThisMachine(t *testing.T) {
	if d := Deadline(time.Second); d < time.Second || d > slowest*time.Second {
		t.Errorf("a second became %v", d)
	}
	if first, most := measured(); first.exec == 0 || most.exec < first.exec || most.late < first.late {
		t.Errorf("measured %v, and at most %v", first, most)
	}
}

// A test that fails instead of its caller.
type failing struct {
	testing.TB
	text string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.text = strings.TrimSpace(format)
	for _, a := range args {
		f.text += " " + a.(string)
	}
	runtime.Goexit()
}

func eventuallyFails(d time.Duration, holds func() bool) string {
	f := &failing{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		eventually(f, d, func() string { return "the moon is full" }, holds)
	}()
	<-done
	return f.text
}

func TestEventuallyTellsOfTheMachine(t *testing.T) {
	text := eventuallyFails(10*time.Millisecond, func() bool { return false })
	for _, part := range []string{"not within ", "at first, on this machine, a sleeper was woken ", "; now a sleeper was woken ", "/bin/true took ", "the moon is full"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q lacks %q", text, part)
		}
	}
}

func TestEventuallyHolds(t *testing.T) {
	looks := 0
	if text := eventuallyFails(time.Minute, func() bool { looks++; return looks == 3 }); text != "" || looks != 3 {
		t.Errorf("after %d looks: %q", looks, text)
	}
}

// Looks take a fifth of a processor at most, and none is waited for for long.
func TestDearLooksAreSeldom(t *testing.T) {
	for look, want := range map[time.Duration]time.Duration{
		0:                     5 * time.Millisecond,
		time.Millisecond:      5 * time.Millisecond,
		30 * time.Millisecond: 120 * time.Millisecond,
		time.Second:           300 * time.Millisecond,
	} {
		if got := pause(look); got != want {
			t.Errorf("after a look of %v it waits %v, want %v", look, got, want)
		}
	}
}

// A machine that is slower than it was at first has longer.
func TestEventuallyMeasuresAnew(t *testing.T) {
	_, was := measured()
	machine.Lock()
	machine.most = pace{}
	machine.Unlock()
	defer func() { machine.Lock(); machine.most = machine.most.worse(was); machine.Unlock() }()
	began := base
	defer func() { base = began }()
	base = pace{late: time.Microsecond, exec: time.Microsecond} // on which every machine is slow
	machine.Lock()
	machine.most = base // and was not, at first
	machine.Unlock()
	start := time.Now()
	eventuallyFails(5*time.Millisecond, func() bool { return false })
	if waited := time.Since(start); waited < slowest*5*time.Millisecond {
		t.Errorf("gave up after %v, before it had waited %d times as long", waited, slowest)
	}
}
