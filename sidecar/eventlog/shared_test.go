package eventlog

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/notes"
)

// A wire is a board on which values that are told last.
type wire struct {
	notes.LocalBoard
	told  map[string][]byte
	watch []func(string, []byte)
}

func (w *wire) Tell(key string, value []byte, _ time.Duration) {
	w.told[key] = value
	for _, f := range w.watch {
		f(key, value)
	}
}

func (w *wire) Watch(_ string, f func(string, []byte)) {
	for key, value := range w.told {
		f(key, value)
	}
	w.watch = append(w.watch, f)
}

func (w *wire) join(t *testing.T, m hosttest.Notes, node string) *Log {
	l := New(m, event.Func(func(e event.Event) { t.Errorf("%s: %s, %v", node, e.Kind, e.Err) }), account)
	l.Share(w, node, noon)
	return l
}

// my mail was blocked yesterday at five: the node that is asked has the answer, whichever node it was,
// also when it was away then, and after a restart.
func TestMyMailWasBlockedOnAnotherNode(t *testing.T) {
	w := &wire{told: map[string][]byte{}}
	here := hosttest.Notes{}
	mx1, mx2 := w.join(t, hosttest.Notes{}, "mx1"), w.join(t, here, "mx2")
	now := noon
	tick := func(d time.Duration) {
		now = now.Add(d)
		mx1.Tick(t.Context(), now)
		mx2.Tick(t.Context(), now)
	}
	mx1.Event(limitReached("shop.example", now))
	mx1.Refused(now, "shop.example", "news@shop.example", "over a limit")
	mx1.Event(event.Event{Kind: event.Command, At: now, Attrs: event.Attrs("who", "alice", "command", "unlock", "scope", "shop.example")})
	mx1.Event(event.Event{Kind: event.Stopped, At: now, Domain: "shop.example", Attrs: event.Attrs("scope", "eve@shop.example")}) // which mx2 sees on the board
	mx1.Event(event.Event{Kind: event.RedisAway, At: now, Attrs: event.Attrs("server", "r1")})                                    // which is of mx1 alone
	mx2.Event(limitReached("shop.example", now.Add(time.Second)))
	tick(publishEvery)
	tick(publishEvery)
	shown := func(l *Log) (all []string) {
		for _, r := range l.Find(noon, func(Record) bool { return true }) {
			all = append(all, fmt.Sprintf("%s %s %dx %s %s%s", r.At.Format("05"), r.Node, r.Count, r.Event, r.Scope, r.By))
		}
		return all
	}
	want := []string{"00 mx1 1x limit-reached ", "00 mx1 1x refused news@shop.example", "00 mx1 1x command alice", "01  1x limit-reached "}
	if diff := cmp.Diff(want, shown(mx2)); diff != "" {
		t.Errorf("on mx2 (-want +got)\n%s", diff)
	}
	if got := shown(mx1); len(got) != 6 || got[5] != "01 mx2 1x limit-reached " {
		t.Errorf("on mx1: %q", got)
	}
	mx1.Refused(now, "shop.example", "news@shop.example", "over a limit")
	tick(publishEvery)
	if diff := cmp.Diff(want, shown(mx2)); diff != "" {
		t.Errorf("told again within a minute (-want +got)\n%s", diff)
	}
	tick(againEvery)
	want[1] = "00 mx1 2x refused news@shop.example"
	if diff := cmp.Diff(want, shown(mx2)); diff != "" {
		t.Errorf("a minute later (-want +got)\n%s", diff)
	}
	mx2.Stop(t.Context(), now)
	if diff := cmp.Diff(want, shown(w.join(t, here, "mx2"))); diff != "" {
		t.Errorf("after a restart (-want +got)\n%s", diff)
	}
	late := shown(w.join(t, hosttest.Notes{}, "mx3"))[:3] // it learns of all of them at once, in any order
	slices.Sort(late)
	slices.Sort(want[:3])
	if diff := cmp.Diff(want[:3], late); diff != "" {
		t.Errorf("on a node that was away (-want +got)\n%s", diff)
	}
}

// What a node tells has a bound, however much happens there, and no value of another node is believed that cannot be right.
func TestWhatIsToldHasABound(t *testing.T) {
	w := &wire{told: map[string][]byte{}}
	mx1 := w.join(t, hosttest.Notes{}, "mx1")
	now := noon
	for n := range 2 * maxBatch * maxBatches {
		mx1.Event(event.Event{Kind: event.Share, At: now, Domain: fmt.Sprintf("d%d.example", n), Attrs: event.Attrs("scope", "script:/"+strings.Repeat("x", maxName), "what", strings.Repeat("y", maxText))})
		if n%maxBatch == 0 {
			now = now.Add(publishEvery)
			mx1.publish(now)
		}
	}
	size := 0
	for _, value := range w.told {
		size += len(value)
	}
	if len(w.told) != maxBatches || size > 3<<20 || size < 2<<20 {
		t.Errorf("%d values of %d bytes", len(w.told), size)
	}
	unread := 0
	mx2 := New(hosttest.Notes{}, event.Func(func(event.Event) { unread++ }), account)
	mx2.Share(&wire{told: map[string][]byte{}}, "mx2", noon)
	good := `{"at":"2026-03-01T12:00:00Z","last":"2026-03-01T12:00:00Z","count":1,"event":"limit-reached","domain":"a.example","node":"liar"}`
	for key, value := range map[string]string{
		"event/mx1/1": "[" + good + "]",
		"event/mx2/1": "no", // its own
		"event/mx1/2": "no",
		"event/mx1/3": "[" + strings.Repeat(good+",", maxBatch) + good + "]",
		"event/mx1/4": "[" + strings.Replace(good, "limit-reached", "never", 1) + "]",
		"event/mx1":   "[" + good + "]",
		"event/" + strings.Repeat("m", maxName+1) + "/1": "[" + good + "]",
	} {
		mx2.receive(key, []byte(value))
	}
	if all := mx2.Find(time.Time{}, func(Record) bool { return true }); len(all) != 1 || all[0].Node != "mx1" || unread != 5 {
		t.Errorf("%d events, %+v", unread, all)
	}
}
