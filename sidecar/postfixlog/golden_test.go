package postfixlog_test

import (
	"testing"
	"time"

	"sluice/sidecar/delivery"
	"sluice/sidecar/engine"
	"sluice/sidecar/logtest"
	"sluice/sidecar/postfixlog"
)

var golden = logtest.Options{
	Config: `
[postfix]
charge = "end-of-message"
local_domains = ["here.example", "localhost"]
`,
	Now: time.Date(2026, 11, 25, 23, 0, 0, 0, time.UTC),
	NewParser: func() logtest.Parser {
		return postfixlog.NewParser(time.UTC, func(uid string) string { return "user" + uid })
	},
	Checkpoint: func(p *engine.Engine, now time.Time, position []byte) error {
		return delivery.PostfixLog{Recorder: p.Recorder}.Checkpoint(now, position)
	},
}

// The log of a real Postfix 3.7 counts what a person counted in it, also with
// times as RFC 3339 has them.
func TestGolden(t *testing.T) {
	lines, want := logtest.Read(t, "../../testdata/postfix-log", "endings")
	logtest.TestReplay(t, golden, lines, want)
	for i, line := range lines {
		stamp, err := time.Parse(time.Stamp, line[:len(time.Stamp)])
		if err != nil {
			t.Fatal(err)
		}
		lines[i] = stamp.AddDate(2026, 0, 0).Format("2006-01-02T15:04:05.000000-07:00") + line[len(time.Stamp):]
	}
	g := logtest.NewGolden(t, golden)
	g.Tell(lines)
	g.Want("with RFC 3339", want)
}
