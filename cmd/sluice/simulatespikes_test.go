package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// A mailing is what somebody has sent on some days of a log, in an hour of the morning.
type mailing struct {
	by    string
	every int // days
	first int // day
	sends int
}

// spikyLog is a log of 80 days: an office, newsletters each day, week and month, one that comes
// after 50 days once more, and a mailbox that is stolen on the 60th.
func spikyLog() string {
	day := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	type line struct {
		at   time.Time
		text string
	}
	var lines []line
	number := 0
	for _, m := range []mailing{
		{"ann@office.example", 1, 0, 12}, {"ben@office.example", 1, 0, 4}, {"reports@daily.example", 1, 0, 300}, {"ann@daily.example", 1, 0, 3},
		{"list@weekly.example", 7, 3, 400}, {"ann@weekly.example", 1, 0, 5}, {"list@monthly.example", 31, 2, 450}, {"ann@monthly.example", 1, 0, 5},
		{"list@rare.example", 50, 6, 350}, {"ann@rare.example", 1, 0, 5}, {"ben@office.example", 100, 60, 80},
	} {
		for d := m.first; d < 80; d += m.every {
			for n := range m.sends {
				number++
				at := day.AddDate(0, 0, d).Add(time.Duration(n) * 5 * time.Second)
				text := fmt.Sprintf("%[1]s 1xUzSN-%011[2]d-0q00 <= %[3]s H=client [192.0.2.1] P=esmtpa A=plain:%[3]s S=300\n"+
					"%[1]s 1xUzSN-%011[2]d-0q00 => r%[2]d@far.example R=dnslookup T=remote_smtp H=mx.far.example [192.0.2.9]\n"+
					"%[1]s 1xUzSN-%011[2]d-0q00 Completed\n", at.Format(time.DateTime), number, m.by)
				lines = append(lines, line{at, text})
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	var all strings.Builder
	for _, l := range lines {
		all.WriteString(l.text)
	}
	return all.String()
}

// Of an old log sluice simulate says of whom operators would have been told, by the rule of [spike]: of
// the newsletter that comes more than a month apart, and of the stolen mailbox; of no regular one.
func TestSpikesOfALog(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "mainlog")
	writeFile(t, log, spikyLog())
	file := simulateConfig(t, "hourly = 0\n[spike]\nleast = 60\n")
	for name, args := range map[string][]string{"spikes": nil, "spikes-off": {"--set", "default", "spike=off"}, "spikes-expected": {"--set", "ben@office.example", "expected=100"}} {
		var stdout, stderr bytes.Buffer
		args = append([]string{"simulate", "--config", file, "--no-foreign", "--spikes", log}, args...)
		if code := run(context.Background(), args, nil, &stdout, &stderr); code != exitDone {
			t.Fatalf("exit %d: %s", code, stderr.String())
		}
		hosttest.Golden(t, "testdata/"+name, stdout.String())
	}
}
