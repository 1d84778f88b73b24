package queue

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
)

// A watchScript is a Watch whose events a test looks at.
type watchScript struct {
	*Watch
	t     *testing.T
	notes hosttest.Notes
	told  []string
}

func newWatch(t *testing.T) *watchScript {
	s := &watchScript{t: t, notes: hosttest.Notes{}}
	s.restart()
	return s
}

func (s *watchScript) restart() {
	s.Watch = NewWatch(event.Func(func(e event.Event) {
		text := string(e.Kind)
		for _, a := range e.Attrs {
			text += " " + a.String()
		}
		s.told = append(s.told, text)
	}), s.notes, 2000)
	s.Watch.causes = func(to string) string { return "no answer from " + to }
}

// counts are n messages of hacked@shop.example, the oldest of which has some age.
func counts(n int64, oldest time.Time) *counted {
	return &counted{Share: Share{Messages: n, Oldest: oldest}, authors: map[string]int64{"hacked@shop.example": n, "b@shop.example": n / 2}, to: map[string]int64{"far.example": n * 3 / 4}}
}

// see has the watch look at a queue, and fails the test unless it tells this.
func (s *watchScript) see(now time.Time, all, frozen, old, held int64, want ...string) {
	s.t.Helper()
	s.told = nil
	s.compareFigures(now, figures{all: counts(all, now), frozen: counts(frozen, now), old: counts(old, now), held: counts(held, now.Add(-26*24*time.Hour))}, 0)
	for i, text := range s.told {
		if i >= len(want) || !strings.HasPrefix(text, want[i]) {
			s.t.Errorf("at %s, of %d, %d, %d and %d: told %q, want %q", now.Format(time.DateTime), all, frozen, old, held, s.told, want)
			return
		}
	}
	if len(s.told) != len(want) {
		s.t.Errorf("at %s, of %d, %d, %d and %d: told %q, want %q", now.Format(time.DateTime), all, frozen, old, held, s.told, want)
	}
}

// The rules of what is told: beside the last 7 days, which are known after a restart too.
func TestQueueWarnings(t *testing.T) {
	const mostly = " author=hacked@shop.example author_share=100%"
	s, now := newWatch(t), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	hours := func(n int, all, frozen int64) {
		t.Helper()
		for range n {
			s.see(now, all, frozen, 0, 0)
			now = now.Add(time.Hour)
		}
	}
	s.see(now, 1999, 900, 0, 0)
	s.see(now, 2000, 900, 0, 0, "queue-growth messages=2000 week=0"+mostly+` destination=far.example destination_share=75% reason=no answer from far.example`)
	s.see(now, 1334, 0, 0, 0) // until it is a third less
	s.see(now, 1333, 0, 0, 0, "queue-growth-ended messages=1333")
	s = newWatch(t)
	hours(24, 100, 20)
	s.see(now, 499, 49, 0, 0)
	s.see(now, 500, 50, 0, 0, "queue-growth messages=500 week=100"+mostly, "queue-frozen frozen=50 week=20"+mostly)
	s.restart()
	s.see(now, 500, 50, 0, 0, "queue-growth messages=500 week=100", "queue-frozen frozen=50 week=20")
	s.see(now, 333, 33, 0, 0, "queue-growth-ended", "queue-frozen-ended")
	now = now.Add(time.Hour)
	hours(2, 400, 40)
	s.see(now, 1496, 97, 0, 0)
	s.see(now, 1497, 98, 0, 0, "queue-growth messages=1497 week=499", "queue-frozen frozen=98 week=49")
	for range 5 { // hours in which it is warned do not make it usual
		now = now.Add(time.Hour)
		s.see(now, 9000, 900, 0, 0)
	}
	s.see(now, 0, 0, 0, 0, "queue-growth-ended", "queue-frozen-ended")
	now = now.Add(time.Hour)
	s.see(now, 4488, 194, 0, 0, "queue-growth messages=4488 week=1496", "queue-frozen frozen=194 week=97")
	s.see(now, 0, 0, 0, 0, "queue-growth-ended", "queue-frozen-ended")
	other := newWatch(t)
	other.notes["queue/week"] = s.notes["queue/week"]
	other.restart()
	other.see(now.Add(8*24*time.Hour), 500, 50, 0, 0, "queue-growth messages=500 week=0", "queue-frozen frozen=50 week=0")
	now = now.Add(time.Hour)
	hours(7*24, 10, 0)
	s.see(now, 500, 50, 0, 0, "queue-growth messages=500 week=10", "queue-frozen frozen=50 week=0")
	if n := len(s.week.Hours); n != hoursOfWeek {
		t.Errorf("%d hours are kept", n)
	}
	s.see(now, 0, 0, 99, 0, "queue-growth-ended", "queue-frozen-ended")
	s.see(now, 0, 0, 100, 0, "queue-old old=100"+mostly)
	s.see(now, 0, 0, 67, 0)
	s.see(now, 0, 0, 66, 0, "queue-old-ended old=66")
}

// What is held is told once a day, and is critical when Exim will bounce it soon.
func TestHeldMailIsToldDaily(t *testing.T) {
	s, now := newWatch(t), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	look := func(after, age time.Duration, n int64, want string) {
		t.Helper()
		now, s.told = now.Add(after), nil
		s.compareFigures(now, figures{all: counts(0, now), frozen: counts(0, now), old: counts(0, now), held: counts(n, now.Add(-age))}, 0)
		if got := strings.Join(s.told, "; "); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%d of %v: told %q, want %q", n, age, got, want)
		}
	}
	look(0, 25*time.Hour, 3, "held-old messages=3 bounces=2026-03-30 author=hacked@shop.example")
	look(23*time.Hour, 48*time.Hour, 3, "")
	look(time.Hour, 25*24*time.Hour, 3, "held-old messages=3 bounces=2026-03-07")
	look(24*time.Hour, 26*24*time.Hour, 2, "held-expires messages=2 bounces=2026-03-07")
	look(time.Minute, 0, 0, "held-old-ended")
	look(time.Minute, 0, 0, "")
}

// What a sweep finds is what is told of: frozen, old and held messages are no others.
func TestSweepsTellTheWatch(t *testing.T) {
	w := newWatch(t)
	s := newSpool(t, 1000)
	s.options.Watch, w.warn, w.Watch.causes = w.Watch, 5, s.reasonOf
	n := 0
	add := func(many int, age time.Duration, options string, held int) {
		for range many {
			n++
			id := s.id(n, age)
			s.write("input", id, header(id, "x@y.example", auth+options, "XX", "r@far.example"))
			if held > 0 {
				s.held[id] = held
			}
		}
	}
	add(3, 5*time.Hour, "-frozen 1799999999\n", 0)
	add(99, 5*time.Hour, "", 0)
	add(7, 3*time.Hour, "", 0)
	add(2, 25*time.Hour, "", 1)
	add(4, 23*time.Hour, "", 1)
	s.Observe([]logline.Entry{{Kind: logline.Deferred, ID: s.id(5, 5*time.Hour), Attempt: logline.Attempt{Recipient: "r@far.example", Text: "451 later"}}})
	sees := func(want ...string) {
		t.Helper()
		w.told = nil
		s.report(Selection{})
		for i := range max(len(want), len(w.told)) {
			if i >= len(want) || i >= len(w.told) || !strings.HasPrefix(w.told[i], want[i]) {
				t.Fatalf("told %q, want %q", w.told, want)
			}
		}
	}
	const who = ` author=news@shop.example author_share=100% destination=far.example destination_share=100% reason=451 later`
	sees("queue-growth messages=115 week=0"+who, "held-old messages=2 bounces="+s.now.Add(29*24*time.Hour-time.Hour).Format(time.DateOnly)+who)
	hours := func(n time.Duration) time.Time { return s.now.Add(-n * time.Hour).Truncate(time.Second) }
	want := map[State]Waiting{Quarantined: {}, Frozen: {3, hours(5)}, Held: {6, hours(25)}, Bounce: {}, Active: {106, hours(5)}}
	if diff := cmp.Diff(want, s.States(), cmp.Transformer("seconds", func(t time.Time) int64 { return t.Unix() })); diff != "" {
		t.Errorf("states: -want +got\n%s", diff)
	}
	add(1, 5*time.Hour, "", 0)
	sees("queue-old old=100" + who)
	s.options.Directory += "/none"
	sees("queue-unread")
	if got := fmt.Sprint(slices.Sorted(maps.Keys(w.notes))); got != "[queue/week]" {
		t.Errorf("notes: %s", got)
	}
	w.notes["queue/week"] = []byte(`{"hours":7}`)
	w.told = nil
	w.restart()
	if len(w.told) != 1 || !strings.HasPrefix(w.told[0], "note-unread") {
		t.Errorf("a bad note: %q", w.told)
	}
}
