package mainlog_test

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/sidecar"
	"sluice/sidecar/lockdir"
	"sluice/sidecar/mainlog"
)

// counts are sent, delivered, deferred and failed.
type counts [4]int64

// The clock stands just behind the last line of both logs, and the window is
// so long that nothing leaves it. Nothing is limited: only counts matter here.
var afterAll = time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)

const countAll = `
[limits]
window = "24h"
hourly = 0
deferfail_min = 1000000
[identity]
relay = ["127.0.0.1"]
[exim]
local_domains = ["local.test", "alpha.test", "host.lab.test"]
`

// A golden is a real Policy that is told a log, with a Parser before it.
type golden struct {
	*sidecar.Policy
	t      *testing.T
	parser *mainlog.Parser
	lines  []string
}

func newGolden(t *testing.T, name string) *golden {
	t.Helper()
	config, err := sidecar.ParseConfig("test.toml", countAll)
	if err != nil {
		t.Fatal(err)
	}
	oplog := sidecar.NewOperatorLog(slog.New(slog.DiscardHandler))
	store, err := journal.Open(t.TempDir(), journal.Options{Reporter: oplog, Ledger: ratelimit.Options{Keep: config.Keep()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	locks, err := lockdir.Open(lockdir.Options{Path: t.TempDir(), Notes: store})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../testdata/exim-log/" + name + ".log")
	if err != nil {
		t.Fatal(err)
	}
	return &golden{t: t, parser: mainlog.NewParser(time.UTC), lines: strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"),
		Policy: sidecar.New(sidecar.Options{Config: config, Node: "node.test", EximUser: "Debian-exim", Store: store, Notes: store,
			Locks: locks, Queue: noQueue{}, Log: oplog, Now: afterAll})}
}

// noQueue is Exim's side of a release: here nothing is ever held.
type noQueue struct{}

func (noQueue) Deliver(context.Context, []string) error { return nil }

func (g *golden) tell(lines []string) {
	var entries []sidecar.LogEntry
	for _, line := range lines {
		if e, ok := parse(g.parser, afterAll, line); ok {
			entries = append(entries, e)
		}
	}
	g.Record(g.t.Context(), afterAll, entries)
}

// ask charges a message when it arrives, as Exim's ACLs have it. Its recipients
// are at the end of the arrival line (+received_recipients).
func (g *golden) ask(line string) {
	e, ok := parse(g.parser, afterAll, line)
	if !ok || e.Kind != sidecar.LogArrived {
		return
	}
	_, recipients, ok := strings.Cut(line[strings.LastIndex(line, "from <"):], " for ")
	if !ok {
		g.t.Fatalf("no recipients in %s", line)
	}
	r := sidecar.Request{Stage: sidecar.StageData, ID: e.ID, Sender: e.Sender, Auth: e.Auth, Login: e.Login, ClientAddress: e.ClientAddress,
		Recipients: strings.ReplaceAll(recipients, " ", ", ")}
	if e.ClientAddress == "" {
		r.Stage = sidecar.StageLocal
	}
	if reply := g.Ask(g.t.Context(), afterAll, r); reply.Action != sidecar.Accept {
		g.t.Fatalf("refused with %q: %s", reply.Text, line)
	}
}

func (g *golden) counted() map[string]counts {
	g.t.Helper()
	status, err := g.Status(g.t.Context(), afterAll, "")
	if err != nil {
		g.t.Fatal(err)
	}
	all := map[string]counts{}
	for _, d := range status.Domains {
		all[d.Domain] = counts{d.Sent, d.Delivered, d.Deferred, d.Failed}
	}
	return all
}

func (g *golden) want(when string, want map[string]counts) {
	g.t.Helper()
	if diff := cmp.Diff(want, g.counted()); diff != "" {
		g.t.Errorf("%s (- want, + counted):\n%s", when, diff)
	}
}

// readWant reads what a person found in a log.
func readWant(t *testing.T, name string) map[string]counts {
	t.Helper()
	text, err := os.ReadFile("../../testdata/exim-log/" + name + ".want")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]counts{}
	for line := range bytes.Lines(text) {
		before, _, _ := strings.Cut(string(line), "#")
		fields := strings.Fields(before)
		if len(fields) == 0 {
			continue
		}
		var c counts
		for i := range c {
			if c[i], err = strconv.ParseInt(fields[1+i], 10, 64); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
		all[fields[0]] = c
	}
	return all
}

// The logs of a real Exim 4.96 count what a person counted in them, however
// often and from wherever they are read again.
func TestGolden(t *testing.T) {
	for _, name := range []string{"default", "extra"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, want := newGolden(t, name), readWant(t, name)
			g.tell(g.lines)
			g.want("read once", want)
			for from := 0; from < len(g.lines); from += len(g.lines) / 7 {
				g.tell(g.lines[from:])
				g.want("read again from line "+strconv.Itoa(from), want)
			}
		})
	}
}

// What Sluice was asked about is not charged again from the log, and what it was
// not asked about is.
func TestGoldenAfterQuestions(t *testing.T) {
	want := readWant(t, "extra")
	want["x7.test"] = counts{3, 3, 0, 0} // what was charged when it was asked: d@, d@ and D@
	for name, asked := range map[string]func(n int) bool{
		"all before":  func(int) bool { return true },
		"not a half":  func(n int) bool { return n > 52 },
		"every other": func(n int) bool { return n%2 == 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, want := newGolden(t, "extra"), maps.Clone(want)
			for n, line := range g.lines {
				if strings.Contains(line, " <= s@x7.test ") && !asked(n) {
					want["x7.test"] = counts{2, 2, 0, 0}
				}
				if asked(n) {
					g.ask(line)
				}
				g.tell(g.lines[n : n+1])
			}
			g.want("asked and read", want)
			g.tell(g.lines)
			g.want("read again", want)
		})
	}
}
