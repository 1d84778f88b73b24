// Package logtest tests what reads logs: a real engine records the log of a real
// mail server, and must count what a person counted in it. It owns the store, the lock
// directory and the engine of a test. It asks the engine what is counted, and tells the
// test how that differs.
package logtest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/engine"
	"sluice/sidecar/event"
	"sluice/sidecar/lockdir"
	"sluice/sidecar/logline"
)

// Counts are sent, delivered, deferred and failed.
type Counts [4]int64

// A Parser reads the lines of a log.
type Parser interface {
	Parse(now time.Time, line string, e *logline.Entry) bool
}

// A Golden is a real engine that records a log behind a Parser. Nothing
// is limited and nothing leaves the window: only counts matter.
type Golden struct {
	*engine.Engine
	t       *testing.T
	options Options
	ledger  string
	store   *journal.Store
	parser  Parser
}

// Options are what a Golden is made with.
type Options struct {
	Config     string    // more of sluice.toml
	Now        time.Time // just behind the last line
	NewParser  func() Parser
	Checkpoint func(*engine.Engine, time.Time, []byte) error
}

const countAll = `
[limits]
window = "24h"
hourly = 0
deferfail_min = 1000000
[identity]
relay = ["127.0.0.1"]
owners = ""
`

// NewGolden returns a Golden that has recorded nothing.
func NewGolden(t *testing.T, o Options) *Golden {
	t.Helper()
	g := &Golden{t: t, options: o, ledger: t.TempDir()}
	g.open()
	t.Cleanup(func() { g.store.Close() })
	return g
}

func (g *Golden) open() {
	g.t.Helper()
	config, err := config.Parse("test.toml", countAll+g.options.Config)
	if err != nil {
		g.t.Fatal(err)
	}
	if g.store, err = journal.Open(g.ledger, journal.Options{Ledger: ratelimit.Options{Keep: config.LongestWindow()}}); err != nil {
		g.t.Fatal(err)
	}
	locks, err := lockdir.Open(lockdir.Options{Path: g.t.TempDir(), Notes: g.store})
	if err != nil {
		g.t.Fatal(err)
	}
	g.parser = g.options.NewParser()
	g.Engine = engine.New(engine.Options{Config: config, Node: "node.test", Exim: engine.Exim{User: "Debian-exim"}, Store: g.store, Notes: g.store,
		Locks: locks, Queue: noQueue{}, Events: event.NewStream(), Now: g.options.Now})
}

// noQueue is an Exim queue from which nothing is ever released.
type noQueue struct{}

func (noQueue) Deliver(context.Context, []string) error { return nil }

// Restart stops and starts Sluice.
func (g *Golden) Restart() {
	g.t.Helper()
	if err := g.store.Close(); err != nil {
		g.t.Fatal(err)
	}
	g.open()
}

// Tell records lines, and then that they were read.
func (g *Golden) Tell(lines []string) {
	g.t.Helper()
	var entries []logline.Entry
	for _, line := range lines {
		var e logline.Entry
		if g.parser.Parse(g.options.Now, line, &e) {
			entries = append(entries, e)
		}
	}
	g.Record(g.t.Context(), g.options.Now, entries)
	if err := g.options.Checkpoint(g.Engine, g.options.Now, []byte("{}")); err != nil {
		g.t.Fatal(err)
	}
}

// Want fails the test unless these are counted.
func (g *Golden) Want(when string, want map[string]Counts) {
	g.t.Helper()
	counted := map[string]Counts{}
	g.store.Standings(g.options.Now, func(s ratelimit.Standing) bool {
		if c := s.Windows[0]; sidecar.AlwaysCounted(s.Name) && c.Sent > 0 {
			counted[s.Name] = Counts{c.Sent, c.Delivered, c.Deferred, c.Failed}
		}
		return true
	})
	if diff := cmp.Diff(want, counted); diff != "" {
		g.t.Errorf("%s (- want, + counted):\n%s", when, diff)
	}
}

// TestReplay has Goldens record a log: once, again from several lines on, and with
// restarts between its lines.
func TestReplay(t *testing.T, o Options, lines []string, want map[string]Counts) {
	t.Helper()
	g := NewGolden(t, o)
	g.Tell(lines)
	g.Want("read once", want)
	for from := 0; from < len(lines); from += 1 + len(lines)/7 {
		g.Tell(lines[from:])
		g.Want("read again from line "+strconv.Itoa(from), want)
	}
	for at := 0; at < len(lines); at += 3 + len(lines)/60 {
		g := NewGolden(t, o)
		g.Tell(lines[:at])
		g.Restart()
		g.Tell(lines[at:])
		g.Want("restarted at line "+strconv.Itoa(at), want)
	}
}

// Read returns the lines of NAME.log in a folder, and from NAME.want what a person counted.
func Read(t *testing.T, folder, name string) (lines []string, want map[string]Counts) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	found, err := os.ReadFile(filepath.Join(folder, name+".want"))
	if err != nil {
		t.Fatal(err)
	}
	want = map[string]Counts{}
	for line := range bytes.Lines(found) {
		before, _, _ := strings.Cut(string(line), "#")
		fields := strings.Fields(before)
		if len(fields) == 0 {
			continue
		}
		var c Counts
		for i := range c {
			if c[i], err = strconv.ParseInt(fields[1+i], 10, 64); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
		want[fields[0]] = c
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), want
}
