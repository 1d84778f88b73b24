package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/config"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/mainlog/mainlogtest"
	"sluice/sidecar/operator"
)

// logConfig follows a log in dir, counts for a day, and limits nobody.
func logConfig(dir string) string {
	config := strings.Replace(serveConfig(dir), "hourly = 10", "window = \"24h\"\nhourly = 0\ndeferfail_percent = 0", 1)
	return strings.Replace(config, `mainlog = ""`, fmt.Sprintf("mainlog = \"%s/mainlog\"", dir), 1)
}

// A tally is what status says of each domain.
func (n *servedNode) tally(t *testing.T) map[string]mainlogtest.Counts {
	out, code := n.sluice(t, "status", "--json")
	if code != 0 {
		return nil
	}
	var s operator.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	tally := map[string]mainlogtest.Counts{}
	for _, d := range s.Domains {
		tally[d.Domain] = mainlogtest.Counts{Sent: d.Sent, Delivered: d.Delivered, Deferred: d.Deferred, Failed: d.Failed}
	}
	return tally
}

// A log of 100,000 lines is written and rotated, by rename and by copytruncate,
// while the reader is killed again and again:
//
//	log -> sluice -9-> log.1, log -> sluice -9-> ... -> status = what was written
//
// The soak kills 200 times.
func TestKill9WhileTheLogIsFollowed(t *testing.T) {
	t.Parallel()
	kills, lines := 20, 100_000
	if hosttest.Soak() {
		kills, lines = 200, 1_000_000
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sluice.toml"), []byte(logConfig(dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mainlog"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	log := mainlogtest.New(1, 40, time.Now().Add(-2*time.Hour), time.Millisecond)
	var written atomic.Int64
	done := make(chan error, 1)
	n := &servedNode{dir: dir}
	binary := buildSluice(t)
	_, kill := startProcess(t, binary, dir+"/sluice.toml")
	go func() { done <- writeRotating(filepath.Join(dir, "mainlog"), log, lines, &written) }()
	for killed := range kills {
		// Spread over the writing of the log.
		until := int64(lines) * int64(killed+1) / int64(kills+1)
		hosttest.Eventually(t, "log written", func() bool { return written.Load() >= until })
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond) // when to kill is no matter of being right
		kill()
		_, kill = startProcess(t, binary, dir+"/sluice.toml")
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	defer func() { kill() }()
	var got map[string]mainlogtest.Counts
	hosttest.EventuallyOr(t, func() string { return "status is what was written: -want +got:\n" + cmp.Diff(log.Truth, got) },
		func() bool { got = n.tally(t); return cmp.Equal(got, log.Truth) })
}

// writeRotating writes a log at some 15,000 lines a second and rotates it
// every so often, as logrotate does.
func writeRotating(path string, log *mainlogtest.Log, lines int, written *atomic.Int64) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { file.Close() }()
	rotations := 0
	for n := 0; n < lines; {
		for range 100 {
			for _, line := range log.Next() {
				if _, err := file.WriteString(line); err != nil {
					return err
				}
				n++
			}
		}
		written.Store(int64(n))
		time.Sleep(30 * time.Millisecond) // the speed
		if n/9000 == rotations {
			continue
		}
		rotations++
		if file, err = rotate(path, file, rotations%3 == 0); err != nil {
			return err
		}
	}
	written.Store(int64(lines))
	return nil
}

// rotate moves path to path.1 and so on, keeping all. A copied log loses what is
// written between copy and truncation, so nothing is written then.
func rotate(path string, file *os.File, copied bool) (*os.File, error) {
	names, err := filepath.Glob(path + ".*")
	if err != nil {
		return nil, err
	}
	for i := len(names); i > 0; i-- {
		if err := os.Rename(fmt.Sprintf("%s.%d", path, i), fmt.Sprintf("%s.%d", path, i+1)); err != nil {
			return nil, err
		}
	}
	if copied {
		if err := exec.Command("cp", path, path+".1").Run(); err != nil {
			return nil, err
		}
		return file, file.Truncate(0)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		return nil, err
	}
	file.Close()
	return os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
}

// From the line in the log to the lock file, while 500 other lines a second are
// written:
//
//	5 times "**" -> log -> sluice -> max_deferfail_tripN.example
//
// The soak does so 200 times, and wants half of them within a second.
func TestFromTheLogLineToTheLock(t *testing.T) {
	t.Parallel()
	trips := 20
	if hosttest.Soak() {
		trips = 200
	}
	dir := t.TempDir()
	startServeWith(t, dir, strings.Replace(logConfig(dir), "deferfail_percent = 0", "deferfail_percent = 60", 1))
	file, err := os.OpenFile(filepath.Join(dir, "mainlog"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() { writeOthers(ctx, file) })
	defer others.Wait()
	defer stop()
	var took []time.Duration
	for trip := range trips {
		at := time.Now()
		if _, err := file.WriteString(failures(trip, at)); err != nil {
			t.Fatal(err)
		}
		lock := filepath.Join(dir, "locks", fmt.Sprintf("max_deferfail_trip%d.example", trip))
		hosttest.Eventually(t, lock, func() bool { return exists(lock) })
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	t.Logf("from the lines to the lock file, %d trips: median %v, 99th percentile %v", len(took), took[len(took)/2], took[len(took)*99/100])
	hosttest.NotLonger(t, "the median trip", took[len(took)/2], time.Second)
}

// writeOthers writes 500 lines a second of messages of other domains.
func writeOthers(ctx context.Context, file *os.File) {
	log := mainlogtest.New(2, 10, time.Now().Add(-time.Hour), time.Millisecond)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for lines := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for lines += 5; lines > 0; {
			for _, line := range log.Next() {
				file.WriteString(line)
				lines--
			}
		}
	}
}

// failures are the lines of five messages of a domain that all fail, at a
// destination of their own: otherwise it would be taken for an outage.
func failures(trip int, at time.Time) string {
	var b strings.Builder
	for n := range 5 {
		line := at.Format("2006-01-02 15:04:05 ") + mainlogtest.ID(at, trip*5+n)
		fmt.Fprintf(&b, "%s <= a@trip%[2]d.example H=(x) [192.0.2.1] P=esmtpa A=plain:a@trip%[2]d.example S=1\n", line, trip)
		fmt.Fprintf(&b, "%s ** u@far%d.example R=r T=remote_smtp: 550 no\n", line, trip)
	}
	return b.String()
}

// BenchmarkMainLog reads and records a log of 200 MB, beside what else reads
// such logs: grep counts, exigrep matches, eximstats adds up. It is a tenant host's
// (see mainlogtest), read by a whole node that nobody had asked about any of it, so
// that each send is charged from its line: the dearest case. They take turns, and
// the medians are compared.
func BenchmarkMainLog(b *testing.B) {
	const rounds = 3
	dir := b.TempDir()
	path := filepath.Join(dir, "mainlog")
	lines, bytes := writeLog(b, path, 200<<20, 5*time.Millisecond)
	readers := []struct {
		name string
		read func() time.Duration
	}{
		{"grep", func() time.Duration { return timed(b, "grep", "-c", " => ", path) }},
		{"exigrep", func() time.Duration { return timed(b, "exigrep", "u77.1@", path) }},
		{"eximstats", func() time.Duration { return timed(b, "eximstats", path) }},
		{"sluice", func() time.Duration { return followed(b, dir, path) }},
	}
	for b.Loop() {
		took := map[string][]time.Duration{}
		for range rounds {
			for _, r := range readers {
				took[r.name] = append(took[r.name], r.read())
			}
		}
		rate := map[string]float64{}
		for _, r := range readers {
			slices.Sort(took[r.name])
			seconds := took[r.name][rounds/2].Seconds()
			rate[r.name] = float64(lines) / seconds
			b.Logf("%-10s %8.0f lines/s %6.1f MB/s", r.name, rate[r.name], float64(bytes)/1e6/seconds)
		}
		b.ReportMetric(rate["sluice"], "lines/s")
		for _, r := range readers[:3] {
			b.ReportMetric(rate["sluice"]/rate[r.name], "of-"+r.name)
		}
	}
}

// writeLog writes a log of a size, with a message every so often.
func writeLog(b *testing.B, path string, size int64, every time.Duration) (lines, bytes int64) {
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	w := bufio.NewWriterSize(file, 1<<20)
	log := mainlogtest.New(3, 2000, time.Now().Add(-50*time.Minute), every)
	for bytes < size {
		for _, line := range log.Next() {
			w.WriteString(line)
			lines, bytes = lines+1, bytes+int64(len(line))
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	return lines, bytes
}

func timed(b *testing.B, name string, args ...string) time.Duration {
	start := time.Now()
	if _, err := exec.Command(name, args...).Output(); err != nil { // grep -c stops early for /dev/null
		b.Fatalf("%s: %v", name, err)
	}
	return time.Since(start)
}

// followed is how long a whole node takes to count a log.
func followed(b *testing.B, dir, path string) time.Duration {
	os.RemoveAll(filepath.Join(dir, "ledger"))
	text := strings.Replace(serveConfig(dir), "hourly = 10", "", 1) // the limits that everybody has at first
	text = strings.Replace(text, `mainlog = ""`, fmt.Sprintf("mainlog = %q", path), 1)
	c, err := config.Parse("bench.toml", text)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n, err := openNode(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- n.run(ctx) }()
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	for n.logs[0].Progress().Read < info.Size() {
		if time.Since(start) > 5*time.Minute {
			b.Fatal("not read within five minutes")
		}
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(start)
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	return took
}

// one relay host defers the mail of five tenants, each to five recipients at domains of
// their own. The log of that, read at once, locks nobody.
func TestASmarthostThatIsDownLocksNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := startServeWith(t, dir, strings.Replace(serveConfig(dir), `mainlog = ""`, fmt.Sprintf("mainlog = \"%s/mainlog\"", dir), 1))
	var log strings.Builder
	for u := 1; u <= 5; u++ {
		at := time.Now().Add(time.Duration(u-60) * time.Second)
		stamp := at.Format("2006-01-02 15:04:05 ") + mainlogtest.ID(at, u)
		fmt.Fprintf(&log, "%s <= x@u%d.example H=(pc) [192.0.2.10] P=esmtpsa A=login:x@u%[2]d.example S=900\n", stamp, u)
		for r := 1; r <= 5; r++ {
			fmt.Fprintf(&log, "%s == a@u%d-%d.example R=smart T=smarthost_smtp defer (-44) H=relay.provider.example [198.51.100.7]: SMTP error from remote mail server after RCPT TO:<a@u%[2]d-%[3]d.example>: 450 4.7.1 try again later\n", stamp, u, r)
		}
	}
	writeFile(t, dir+"/mainlog", log.String())
	for u := 1; u <= 5; u++ {
		domain := fmt.Sprintf("u%d.example", u)
		hosttest.Eventually(t, domain+" is excused", func() bool {
			out, _ := n.sluice(t, "status", domain)
			return strings.Contains(out, "5 sends to relay.provider.example (remote-defer): not held against it")
		})
		if exists(n.file("max_deferfail_" + domain)) {
			t.Errorf("%s is locked", domain)
		}
		out, _ := n.sluice(t, "check", "--stage", "rcpt", "--sender", "x@"+domain, "--auth", "x@"+domain, "--client-address", "192.0.2.10", "--recipient", "new@far.example")
		if !strings.Contains(out, "DUNNO") {
			t.Errorf("%s is answered %s", domain, out)
		}
	}
}
