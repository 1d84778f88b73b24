package sidecar_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/mainlog"
)

// The log of a real Exim, read once, again as a whole, and again from many
// places in it.
func TestOutcomesOfARealLog(t *testing.T) {
	s := newSite(t, "[identity]\nrelay = [\"127.0.0.0/8\"]\n[limits]\nwindow = \"24h\"\n")
	s.config.Exim.LocalDomains = []string{"local.test", "alpha.test", "host.lab.test"}
	s.now = time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC) // just behind the last line
	s.restart()
	var entries []sidecar.LogEntry
	parser := mainlog.NewParser(time.UTC)
	for _, line := range linesOf(t, "../testdata/exim-log/default.log") {
		if e, ok := parser.Parse(s.now, line); ok {
			entries = append(entries, e)
		}
	}
	if len(entries) < 200 {
		t.Fatalf("only %d entries", len(entries))
	}
	for from := 0; from < len(entries); from += max(1, from) { // 0, 0+1, 2, 4, 8 ...
		for _, e := range entries[from:] {
			s.Record(context.Background(), s.now, e)
		}
		wantGolden(t, s, "../testdata/exim-log/default.want")
		if t.Failed() {
			t.Fatalf("read from entry %d", from)
		}
	}
}

func wantGolden(t *testing.T, s *site, file string) {
	t.Helper()
	domains := 0
	for _, line := range linesOf(t, file) {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		domain, sent, delivered, deferred, failed := "", int64(0), int64(0), int64(0), int64(0)
		if _, err := fmt.Sscan(line, &domain, &sent, &delivered, &deferred, &failed); err != nil {
			t.Fatalf("%s: %q: %v", file, line, err)
		}
		domains++
		s.wantOutcomes(domain, sent, delivered, deferred, failed)
	}
	if domains < 40 {
		t.Fatalf("%s names only %d domains", file, domains)
	}
}

func linesOf(t *testing.T, file string) (lines []string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}
