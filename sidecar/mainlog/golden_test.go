package mainlog_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/engine"
	"sluice/sidecar/logline"
	"sluice/sidecar/logtest"
	"sluice/sidecar/mainlog"
)

const eximLogs = "../../testdata/exim-log"

var golden = logtest.Options{
	Config: `
[exim]
local_domains = ["local.test", "alpha.test", "host.lab.test"]
`,
	Now:        time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC),
	NewParser:  func() logtest.Parser { return mainlog.NewParser(time.UTC) },
	Checkpoint: (*engine.Engine).Checkpoint,
}

// The logs of a real Exim 4.96, and of a newer one, count what a person counted in
// them.
func TestGolden(t *testing.T) {
	newer := golden
	newer.Config = "[exim]\nlocal_domains = [\"here.example\", \"also.example\"]\n"
	newer.Now = time.Date(2026, 11, 25, 19, 0, 0, 0, time.UTC)
	for name, options := range map[string]logtest.Options{"default": golden, "extra": golden, "newer": newer} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines, want := logtest.Read(t, eximLogs, name)
			logtest.TestReplay(t, options, lines, want)
		})
	}
}

// ask charges a message when it arrives, as Exim's ACLs have it. Its recipients
// are at the end of the arrival line (+received_recipients).
func ask(t *testing.T, g *logtest.Golden, line string) {
	t.Helper()
	e, ok := parse(mainlog.NewParser(time.UTC), golden.Now, line)
	if !ok || e.Kind != logline.Arrived {
		return
	}
	_, recipients, ok := strings.Cut(line[strings.LastIndex(line, "from <"):], " for ")
	if !ok {
		t.Fatalf("no recipients in %s", line)
	}
	r := sidecar.Request{Stage: sidecar.StageData, ID: e.ID, Sender: e.Sender, Submitter: sidecar.Submitter{Auth: e.Auth, Login: e.Login, ClientAddress: e.ClientAddress},
		Recipients: strings.ReplaceAll(recipients, " ", ", ")}
	if e.ClientAddress == "" {
		r.Stage = sidecar.StageLocal
	}
	if reply := g.Ask(t.Context(), golden.Now, r); reply.Action != sidecar.Accept {
		t.Fatalf("refused with %q: %s", reply.Text, line)
	}
}

// What Sluice was asked about is not charged again from the log, and what it was
// not asked about is.
func TestGoldenAfterQuestions(t *testing.T) {
	lines, want := logtest.Read(t, eximLogs, "extra")
	want["x7.test"] = logtest.Counts{3, 3, 0, 0} // what was charged when it was asked: d@, d@ and D@
	for name, asked := range map[string]func(n int) bool{
		"all before":  func(int) bool { return true },
		"not a half":  func(n int) bool { return n > 52 },
		"every other": func(n int) bool { return n%2 == 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, want := logtest.NewGolden(t, golden), maps.Clone(want)
			for n, line := range lines {
				if strings.Contains(line, " <= s@x7.test ") && !asked(n) {
					want["x7.test"] = logtest.Counts{2, 2, 0, 0}
				}
				if asked(n) {
					ask(t, g, line)
				}
				g.Tell(lines[n : n+1])
			}
			g.Want("asked and read", want)
			g.Tell(lines)
			g.Want("read again", want)
		})
	}
}
