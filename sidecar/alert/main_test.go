package alert

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/incident"
)

func TestMain(m *testing.M) {
	hosttest.Shuffle()
	goleak.VerifyTestMain(m)
}

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// A desk is Alerts with a clock of the test's own, where channels only write down what comes.
type desk struct {
	*Alerts
	t        testing.TB
	config   atomic.Pointer[config.Config]
	turn     sync.Mutex // the test has it while Run runs, unless it sleeps
	now      time.Time
	accounts map[string]string // of domains

	mu     sync.Mutex
	events []event.Event
}

// newDesk begins at noon, with a configuration.
func newDesk(t testing.TB, text string) *desk {
	t.Helper()
	d := &desk{t: t, now: noon, accounts: map[string]string{}}
	d.configure(text)
	d.open(t.TempDir())
	return d
}

func (d *desk) configure(text string) {
	d.t.Helper()
	c, err := config.Parse("sluice.toml", text)
	if err != nil {
		d.t.Fatal(err)
	}
	d.config.Store(c)
}

// open begins with what a directory has.
func (d *desk) open(dir string) {
	d.Alerts = New(Options{Dir: dir, Node: "mx1", Events: event.Func(d.emit),
		Config:  d.config.Load,
		Account: func(domain string) string { return d.accounts[domain] },
		Current: func(incident.ID) (incident.Incident, bool) { return incident.Incident{}, false },
		Card:    cardOf,
		Send:    func(context.Context, config.Channel, Notice) error { return nil }})
}

// cardOf stands for the card of an incident.
func cardOf(i incident.Incident) string { return "the card of " + i.ID.String() + "\n" }

func (d *desk) emit(e event.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
}

// restart is a crash, after which all incidents are told again.
func (d *desk) restart() {
	incidents := d.incidents
	d.open(d.Dir)
	for _, i := range incidents {
		d.Changed(*i)
	}
}

// after lets time pass, in steps of a second, or of a minute if it is long.
func (d *desk) after(t time.Duration) {
	step := time.Second
	if t > 5*time.Minute {
		step = time.Minute
	}
	for end := d.now.Add(t); d.now.Before(end); {
		d.now = d.now.Add(min(step, end.Sub(d.now)))
		d.step(d.now)
	}
}

// told are the notices of a channel so far, that nothing has delivered.
func (d *desk) told(channel string) (all []Notice) {
	for _, q := range d.queues {
		if q.channel.Name == channel {
			for _, p := range q.waiting {
				all = append(all, p.notice)
			}
		}
	}
	return all
}

// wantTold fails the test unless exactly these notices were written for a channel, each as
// "STATE INCIDENT".
func (d *desk) wantTold(channel string, want ...string) {
	d.t.Helper()
	var got []string
	for _, n := range d.told(channel) {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s", n.State, n.Incident)))
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		d.t.Errorf("%s was told %q, want %q", channel, got, want)
	}
}

// opened is incident number n, of a domain, that has just been opened.
func (d *desk) opened(n int64, domain string, severity incident.Severity) *incident.Incident {
	i := &incident.Incident{ID: incident.ID{Node: "mx1", Number: n}, Revision: 1, Domain: domain, Severity: severity, Opened: d.now,
		Causes: []incident.Cause{{Name: incident.CauseLimit, Severity: severity, Since: d.now}}}
	d.Changed(*i)
	return i
}

// changes changes an incident as it is told to watchers.
func (d *desk) changes(i *incident.Incident, change func(*incident.Incident)) {
	change(i)
	i.Revision++
	d.Changed(*i)
}

func (d *desk) closes(i *incident.Incident) {
	d.changes(i, func(i *incident.Incident) { i.Closed = d.now })
}

// files counts the files of notices.
func (d *desk) files() int {
	names, _ := filepath.Glob(filepath.Join(d.Dir, "*", "*"+noticeEnding))
	return len(names)
}

func write(t testing.TB, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}
