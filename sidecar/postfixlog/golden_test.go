package postfixlog_test

import (
	"bytes"
	"context"
	"log/slog"
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
	"sluice/sidecar/postfixlog"
)

const countAll = `
[limits]
window = "24h"
hourly = 0
deferfail_min = 1000000
[identity]
relay = ["127.0.0.1"]
owners = ""
[postfix]
charge = "end-of-message"
local_domains = ["here.example", "localhost"]
`

// afterAll is just behind the last line of the logs.
var afterAll = time.Date(2026, 11, 25, 23, 0, 0, 0, time.UTC)

// A golden is a real Policy that is told a log, with a Parser before it.
type golden struct {
	*sidecar.Policy
	t      *testing.T
	ledger string
	store  *journal.Store
	parser *postfixlog.Parser
}

func newGolden(t *testing.T) *golden {
	g := &golden{t: t, ledger: t.TempDir()}
	g.start()
	t.Cleanup(func() { g.store.Close() })
	return g
}

func (g *golden) start() {
	g.t.Helper()
	config, err := sidecar.ParseConfig("test.toml", countAll)
	if err != nil {
		g.t.Fatal(err)
	}
	oplog := sidecar.NewOperatorLog(slog.New(slog.DiscardHandler))
	if g.store, err = journal.Open(g.ledger, journal.Options{Reporter: oplog, Ledger: ratelimit.Options{Keep: 24 * time.Hour}}); err != nil {
		g.t.Fatal(err)
	}
	locks, err := lockdir.Open(lockdir.Options{Path: g.t.TempDir(), Notes: g.store})
	if err != nil {
		g.t.Fatal(err)
	}
	g.parser = postfixlog.NewParser(time.UTC, func(uid string) string { return "user" + uid })
	g.Policy = sidecar.New(sidecar.Options{Config: config, Node: "pf.example", Store: g.store, Notes: g.store, Locks: locks, Queue: noQueue{}, Log: oplog, Now: afterAll})
}

// noQueue is Exim's: there is none.
type noQueue struct{}

func (noQueue) Deliver(context.Context, []string) error { return nil }

func (g *golden) tell(lines []string) {
	g.t.Helper()
	var entries []sidecar.LogEntry
	for _, line := range lines {
		var e sidecar.LogEntry
		if g.parser.Parse(afterAll, line, &e) {
			entries = append(entries, e)
		}
	}
	g.Record(g.t.Context(), afterAll, entries)
	if err := (sidecar.PostfixLog{Policy: g.Policy}).Checkpoint(afterAll, []byte("{}")); err != nil {
		g.t.Fatal(err)
	}
}

func (g *golden) want(when string, want map[string][4]int64) {
	g.t.Helper()
	status, err := g.Status(g.t.Context(), afterAll, "")
	if err != nil {
		g.t.Fatal(err)
	}
	counted := map[string][4]int64{}
	for _, d := range status.Domains {
		counted[d.Domain] = [4]int64{d.Sent, d.Delivered, d.Deferred, d.Failed}
	}
	if diff := cmp.Diff(want, counted); diff != "" {
		g.t.Errorf("%s (- want, + counted):\n%s", when, diff)
	}
}

// The log of a real Postfix 3.7 counts what a person counted in it: read once, with a
// restart at each of its lines, again from wherever, and with times as RFC 3339 has
// them.
func TestGolden(t *testing.T) {
	lines, want := readLog(t), readWant(t)
	g := newGolden(t)
	g.tell(lines)
	g.want("read once", want)
	for from := 0; from < len(lines); from += 1 + len(lines)/7 {
		g.tell(lines[from:])
		g.want("read again from line "+strconv.Itoa(from), want)
	}
	for at := range lines {
		if at%3 != 0 {
			continue
		}
		g := newGolden(t)
		g.tell(lines[:at])
		if err := g.store.Close(); err != nil {
			t.Fatal(err)
		}
		g.start()
		g.tell(lines[at:])
		g.want("restarted at line "+strconv.Itoa(at), want)
	}
	for i, line := range lines {
		stamp, err := time.Parse(time.Stamp, line[:len(time.Stamp)])
		if err != nil {
			t.Fatal(err)
		}
		lines[i] = stamp.AddDate(2026, 0, 0).Format("2006-01-02T15:04:05.000000-07:00") + line[len(time.Stamp):]
	}
	g = newGolden(t)
	g.tell(lines)
	g.want("with RFC 3339", want)
}

func readLog(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../testdata/postfix-log/endings.log")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// readWant reads what a person found in the log.
func readWant(t *testing.T) map[string][4]int64 {
	t.Helper()
	text, err := os.ReadFile("../../testdata/postfix-log/endings.want")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][4]int64{}
	for line := range bytes.Lines(text) {
		before, _, _ := strings.Cut(string(line), "#")
		fields := strings.Fields(before)
		if len(fields) == 0 {
			continue
		}
		var c [4]int64
		for i := range c {
			if c[i], err = strconv.ParseInt(fields[1+i], 10, 64); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
		all[fields[0]] = c
	}
	return all
}
