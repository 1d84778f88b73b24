package near

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/limit"
	"sluice/sidecar/settings"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A script has a Near survey what its domains have sent.
type script struct {
	*Near
	sent map[string]int64
	told []string
}

func newScript(t *testing.T, limits string) *script {
	c, err := config.Parse("sluice.toml", "[limits]\nhourly = 100\n"+limits)
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.New(settings.Sources{Config: c}, settings.Host{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	script := &script{sent: map[string]int64{}}
	script.Near = New(Options{Settings: func() *settings.Settings { return s },
		Culprit: func(_ time.Time, subject string) sidecar.Culprit {
			return sidecar.Culprit{Author: sidecar.Author{Key: "x@" + subject}, Count: 3, Of: 4}
		},
		Events: event.Func(func(e event.Event) {
			script.told = append(script.told, fmt.Sprintf("%s %s %s: %s", e.At.Format("15:04:05"), e.Kind, e.Domain, e.Details()))
		})})
	return script
}

func standing(name string, sent int64) ratelimit.Standing {
	w := func(d time.Duration) ratelimit.WindowCounts {
		return ratelimit.WindowCounts{Window: d, Counts: ratelimit.Counts{Sent: sent}}
	}
	return ratelimit.Standing{Name: name, Windows: []ratelimit.WindowCounts{w(time.Hour), w(limit.Day)}}
}

// survey looks at all domains at a time.
func (s *script) survey(after time.Duration) {
	each, done := s.Survey(noon.Add(after))
	for name, sent := range s.sent {
		each(standing(name, sent))
	}
	done()
}

func (s *script) expect(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, s.told); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	s.told = nil
}

// Two a minute: at 80 of 100 it is full in ten minutes. That is told once in the window.
func TestNear(t *testing.T) {
	s := newScript(t, "")
	for m := range 50 {
		s.sent["a.example"] = int64(2 * m)
		s.survey(time.Duration(m) * time.Minute)
	}
	s.expect(t, "12:40:00 near a.example: used 80/100 (80%), limit hour, full in 10m, culprit x@a.example, culprit sends 3 of 4")
	if !s.Is(standing("a.example", 100)) || !s.Is(standing("a.example", 80)) || s.Is(standing("a.example", 79)) {
		t.Error("Is")
	}
	delete(s.sent, "a.example")
	s.survey(60 * time.Minute)
	for m := 61; m < 90; m++ {
		s.sent["a.example"] = int64(40 + 2*(m-60))
		s.survey(time.Duration(m) * time.Minute)
	}
	s.expect(t)
	s.sent["a.example"] = 85
	s.survey(95 * time.Minute)
	s.sent["a.example"] = 90
	s.survey(101 * time.Minute)
	s.expect(t, "13:41:00 near a.example: used 90/100 (90%), limit hour, full in 12m, culprit x@a.example, culprit sends 3 of 4")
}

// Who always sends as much, so that as many sends leave the window, is never full; nor is who
// grows too slowly, or is full already.
func TestNotNear(t *testing.T) {
	s := newScript(t, "")
	for m := range 120 {
		s.sent["steady.example"], s.sent["slow.example"], s.sent["full.example"] = 85, 85+int64(m)/20, 100
		s.survey(time.Duration(m) * time.Minute)
	}
	s.expect(t)
}

// From less than half to nearly full between two surveys.
func TestSudden(t *testing.T) {
	s := newScript(t, "")
	s.survey(0)
	s.sent["a.example"] = 95
	s.survey(10 * time.Second)
	s.expect(t, "12:00:10 near a.example: used 95/100 (95%), limit hour, full in 1s, culprit x@a.example, culprit sends 3 of 4")
}

// Who is full already is told of by another event.
func TestFull(t *testing.T) {
	s := newScript(t, "")
	s.survey(0)
	s.sent["a.example"] = 100
	s.survey(10 * time.Second)
	s.expect(t)
}

// What was followed before it fell below half says nothing of how it grows now.
func TestAgain(t *testing.T) {
	s := newScript(t, "")
	s.survey(0)
	s.sent["a.example"] = 95
	s.survey(time.Minute)
	s.told = nil
	delete(s.sent, "a.example")
	for m := 2; m <= 61; m++ {
		s.survey(time.Duration(m) * time.Minute)
	}
	s.sent["a.example"] = 80
	s.survey(62 * time.Minute)
	s.expect(t, "13:02:00 near a.example: used 80/100 (80%), limit hour, full in 40s, culprit x@a.example, culprit sends 3 of 4")
}

// A mailbox has its own limit. Without a limit, or where it is only watched, nothing is near.
func TestWhoHasALimit(t *testing.T) {
	s := newScript(t, `
[limits.mailbox."news@a.example"]
hourly = 10
[limits.domain."none.example"]
hourly = 0
[limits.domain."watched.example"]
mode = "watch"
`)
	for m := range 20 {
		n := int64(50 + 2*m)
		s.sent["news@a.example"], s.sent["none.example"], s.sent["watched.example"] = n/10, n, n
		s.survey(time.Duration(m) * time.Minute)
	}
	s.expect(t, "12:15:00 near a.example: scope news@a.example, used 8/10 (80%), limit hour, full in 10m, culprit x@news@a.example, culprit sends 3 of 4")
}

// Thousands that are near at once have a bound.
func TestMany(t *testing.T) {
	s := newScript(t, "")
	for n := range maxFollowed + 100 {
		s.sent[fmt.Sprintf("d%d.example", n)] = 60
	}
	s.survey(0)
	if len(s.all) != maxFollowed {
		t.Errorf("%d are followed", len(s.all))
	}
	for n := range s.sent {
		s.sent[n] = 40
	}
	s.survey(10 * time.Second)
	if len(s.all) != 0 {
		t.Errorf("%d are still followed", len(s.all))
	}
}
