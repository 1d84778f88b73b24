package deferfail

import (
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// A node that starts hears of resets of before: what went wrong since then stays.
func TestAnEarlierResetTakesNothingAfterARestart(t *testing.T) {
	notes := memory{}
	b := newBads(notes, event.NewStream())
	b.tell("a.example", 7, ratelimit.Deferred)
	b.subjects["a.example"].Epoch = 3
	if err := b.save(time.Unix(100, 0)); err != nil {
		t.Fatal(err)
	}
	b = newBads(notes, event.NewStream())
	b.forget("a.example", 3)
	if !b.unexplained("a.example") {
		t.Error("the reset with which these counts began has taken a bad send")
	}
	b.forget("a.example", 4)
	if b.unexplained("a.example") {
		t.Error("a later reset has left a bad send")
	}
}
