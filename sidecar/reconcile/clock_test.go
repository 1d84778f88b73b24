package reconcile

import (
	"testing"
	"time"

	"sluice/ratelimit"
)

func TestAStepOfTheSystemsClockIsReported(t *testing.T) {
	for off, want := range map[time.Duration]time.Duration{
		0: 0, time.Second: 0, -time.Second: 0, 3 * time.Second: 3 * time.Second, -time.Hour: -time.Hour,
	} {
		if got := stepped(time.Minute, time.Minute+off); got != want {
			t.Errorf("set off by %v: reported %v", off, got)
		}
	}
	// A clock that nobody has set is not off.
	c := ratelimit.Clock{Start: time.Now()}
	if off := c.SetOff(time.Now()); stepped(0, off) != 0 {
		t.Errorf("set off by %v", off)
	}
}
