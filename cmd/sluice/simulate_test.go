package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/mainlog/mainlogtest"
)

// simulateRun runs the command and returns what it has found.
func simulateRun(t testing.TB, args ...string) simulated {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), append([]string{"simulate", "--json"}, args...), nil, &stdout, &stderr); code != exitDone {
		t.Fatalf("simulate %s: exit %d\n%s", strings.Join(args, " "), code, stderr.String())
	}
	var found simulated
	if err := json.Unmarshal(stdout.Bytes(), &found); err != nil {
		t.Fatal(err)
	}
	return found
}

// simulateConfig is a configuration without the files of this machine.
func simulateConfig(t testing.TB, limits string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sluice.toml")
	text := "[store]\nnode = \"mx1\"\n[exim]\nlocal_domains = [\"here.example\"]\n[identity]\nowners = \"\"\nmain_domains = \"\"\n[limits]\n" + limits
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// writeLogs writes a log of a busy Exim in parts of so many bytes, the oldest
// packed, and returns their names and what is true of it.
func writeLogs(t testing.TB, dir string, parts, size int) (names []string, truth map[string]mainlogtest.Counts) {
	t.Helper()
	log := mainlogtest.New(7, 300, time.Date(2026, 11, 20, 8, 0, 0, 0, time.Local), 40*time.Millisecond)
	for n := range parts {
		name := filepath.Join(dir, fmt.Sprintf("mainlog.%d", parts-n))
		var text bytes.Buffer
		for text.Len() < size {
			for _, line := range log.Next() {
				text.WriteString(line)
			}
		}
		if n == 0 {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			z.Write(text.Bytes())
			z.Close()
			name, text = name+".gz", packed
		}
		if err := os.WriteFile(name, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names, log.Truth
}

// 20 MB of log, rotated and packed and in any order: without limits all is sent,
// and what became of it is what is true of the log.
func TestSimulateTwentyMegabytes(t *testing.T) {
	names, truth := writeLogs(t, t.TempDir(), 4, 5<<20)
	var want mainlogtest.Counts
	for _, c := range truth {
		want.Sent, want.Failed = want.Sent+c.Sent, want.Failed+c.Deferred+c.Failed
	}
	args := []string{names[2], names[0], names[3], names[1], names[2], "--config", simulateConfig(t, "hourly = 0\ndeferfail_percent = 0\n")}
	got := simulateRun(t, args...).Simulation
	if got.Sent != want.Sent || got.Bad != want.Failed || got.Refused != 0 || got.Senders != int64(len(truth)) || len(got.Domains) != 0 {
		t.Errorf("of %d domains %+v, simulated: %+v", len(truth), want, got)
	}
}

// --suggest is the least limit that touches so few domains: one less touches more.
func TestSuggestedLimitIsTheLeast(t *testing.T) {
	names, _ := writeLogs(t, t.TempDir(), 1, 3<<20)
	args := append(names, "--config", simulateConfig(t, "deferfail_percent = 0\n[limits.domain.\"d1.example\"]\nhourly = 1\n"))
	touched := func(hourly int64) (n int) {
		for _, d := range simulateRun(t, append(args, "--set", "default", fmt.Sprintf("hourly=%d", hourly))...).Simulation.Domains {
			if d.Domain != "d1.example" {
				n++
			}
		}
		return n
	}
	for _, most := range []int{0, 7, 100} {
		suggested := simulateRun(t, append(args, "--suggest", fmt.Sprint(most))...).Suggested
		if suggested.Domains != most {
			t.Errorf("asked for %d: %+v", most, suggested)
		}
		at, below := touched(suggested.Hourly), touched(suggested.Hourly-1)
		if at > most || below <= most {
			t.Errorf("hourly = %d is suggested for at most %d domains; it touches %d, and one less %d", suggested.Hourly, most, at, below)
		}
	}
}

func TestSimulateComparesTwoSettings(t *testing.T) {
	names, _ := writeLogs(t, t.TempDir(), 1, 3<<20)
	here, there := simulateConfig(t, "hourly = 25\ndeferfail_percent = 0\n"), simulateConfig(t, "hourly = 20\ndeferfail_percent = 0\n")
	both := simulateRun(t, append(names, "--config", here, "--compare", there)...)
	alone := simulateRun(t, append(names, "--config", there)...)
	if both.Compared == nil || both.Compared.Refused == 0 || both.Compared.Refused <= both.Simulation.Refused {
		t.Fatalf("with 20 as with 25: %+v", both)
	}
	if diff := cmp.Diff(alone.Simulation, *both.Compared); diff != "" {
		t.Errorf("alone and compared, -alone +compared:\n%s", diff)
	}
	set := simulateRun(t, append(names, "--config", here, "--set", "default", "hourly=20")...)
	if diff := cmp.Diff(alone.Simulation, set.Simulation); diff != "" {
		t.Errorf("in the file and by --set, -file +set:\n%s", diff)
	}
}

func TestSimulateSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	names, _ := writeLogs(t, dir, 1, 1000)
	noLog, config := filepath.Join(dir, "no.log"), simulateConfig(t, "")
	if err := os.WriteFile(noLog, []byte("dear all\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{filepath.Join(dir, "none")}, "no such file"},
		{[]string{noLog}, "no main log of Exim's"},
		{[]string{names[0], "--set", "default", "hourly=-1"}, "hourly"},
		{[]string{names[0], "--set", "default", "hourley=3"}, `did you mean "hourly"`},
		{[]string{names[0], "--set", "default"}, "nothing to set"},
		{[]string{names[0], "--suggest=-1"}, "--suggest"},
		{[]string{names[0], "--compare", filepath.Join(dir, "none")}, "no such file"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append([]string{"simulate", "--config", config}, c.args...), nil, &stdout, &stderr)
		if code != exitError || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%q: exit %d, %q is not in\n%s", c.args, code, c.says, stderr.String())
		}
	}
}

// BenchmarkSimulate simulates a log of 1 GB, beside a node that counts one of
// 200 MB (BenchmarkMainLog), and tells how much memory that takes.
func BenchmarkSimulate(b *testing.B) {
	path := filepath.Join(b.TempDir(), "mainlog")
	lines, size := writeLog(b, path, 1<<30)
	config := simulateConfig(b, "hourly = 500\n")
	for b.Loop() {
		peak := make(chan uint64)
		ctx, stop := context.WithCancel(context.Background())
		go func() { peak <- peakHeap(ctx) }()
		start := time.Now()
		found := simulateRun(b, path, "--config", config)
		took := time.Since(start)
		stop()
		b.ReportMetric(float64(lines)/took.Seconds(), "lines/s")
		b.ReportMetric(float64(size)/1e6/took.Seconds(), "MB/s")
		b.ReportMetric(float64(<-peak)/1e6, "peak-heap-MB")
		b.Logf("%d lines, %.0f MB in %v: %d sent, %d refused of %d domains", lines, float64(size)/1e6, took.Round(time.Millisecond), found.Simulation.Sent, found.Simulation.Refused, len(found.Simulation.Domains))
	}
}

// peakHeap is the most memory in use until ctx is done, garbage included.
func peakHeap(ctx context.Context) (peak uint64) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapInuse)
	}
	return peak
}

// Just after logrotate there is nothing to tell, and no dates to tell it of.
func TestSimulateAnEmptyLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "mainlog")
	if err := os.WriteFile(log, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"simulate", log, "--config", simulateConfig(t, "")}, nil, &stdout, &stderr); code != exitDone ||
		stdout.String() != "There is no mail in the logs.\n" {
		t.Errorf("exit %d: %s%s", code, stdout.String(), stderr.String())
	}
}
