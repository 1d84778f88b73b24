package mainlog_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
	"sluice/sidecar/mainlog"
)

func TestMain(m *testing.M) {
	hosttest.Shuffle()
	goleak.VerifyTestMain(m)
}

// A reader is a running Follower, and what it reported.
type reader struct {
	t    *testing.T
	stop func() // returns when the Follower has ended

	mu       sync.Mutex
	lines    []string // their beginnings
	longest  int      // of all lines, in bytes
	marks    []mark
	troubles []error
	mended   int
	lost     int
	skipped  []string // files
	behind   int64    // as LogCatchingUp said
	caughtUp int      // how often
	kept     func()   // called at each checkpoint; may be nil
}

// A mark is a checkpoint: its position, and how many lines came before it.
type mark struct {
	position []byte
	lines    int
}

func (r *reader) Prepare(entries []logline.Entry) func(context.Context, time.Time) {
	return func(context.Context, time.Time) { r.record(entries) }
}

func (r *reader) record(entries []logline.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		r.longest = max(r.longest, len(e.Line))
		r.lines = append(r.lines, e.Line[:min(len(e.Line), 200)])
	}
}

func (r *reader) Checkpoint(_ time.Time, position []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks = append(r.marks, mark{position, len(r.lines)})
	if r.kept != nil {
		r.kept()
	}
	return nil
}

func (r *reader) Enabled(event.Kind) bool { return true }

func (r *reader) Emit(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case event.LogTrouble:
		r.troubles = append(r.troubles, e.Err)
	case event.LogMended:
		r.mended++
	case event.LogLost:
		r.lost++
	case event.LogSkipped:
		r.skipped = append(r.skipped, e.Attrs[0].Value.String())
	case event.LogCatchingUp:
		r.behind = e.Attrs[1].Value.Int64()
	case event.LogCaughtUp:
		r.caughtUp++
	}
}

// follow starts a Follower; position is nil at its first start.
func follow(t *testing.T, path string, position []byte) *reader {
	t.Helper()
	return followIn(t, time.UTC, path, position)
}

func followIn(t *testing.T, location *time.Location, path string, position []byte) *reader {
	t.Helper()
	r := &reader{t: t}
	f := mainlog.New(mainlog.Options{Path: path, Position: position, Location: location, Consumer: r, Events: r})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	r.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(r.stop)
	return r
}

// await waits until something holds, which is asked under the lock.
func (r *reader) await(what string, holds func() bool) {
	r.t.Helper()
	hosttest.EventuallyOr(r.t, func() string {
		r.mu.Lock()
		defer r.mu.Unlock()
		return fmt.Sprintf("%s: %d lines, troubles %v, mended %d, lost %d", what, len(r.lines), r.troubles, r.mended, r.lost)
	}, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return holds()
	})
}

// want waits for as many lines, and compares all of them. The last of them was
// written last: what is reported twice stands before it.
func (r *reader) want(lines []string) {
	r.t.Helper()
	r.await(fmt.Sprint(len(lines), " lines"), func() bool { return len(r.lines) >= len(lines) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if diff := cmp.Diff(lines, r.lines, cmpopts.EquateEmpty()); diff != "" {
		r.t.Fatalf("(- want, + told)\n%s", diff)
	}
}

// last is the position of the last checkpoint, once all lines are before it.
func (r *reader) last() []byte {
	r.t.Helper()
	var position []byte
	r.await("a checkpoint behind all lines", func() bool {
		if n := len(r.marks); n > 0 && r.marks[n-1].lines == len(r.lines) {
			position = r.marks[n-1].position
		}
		return position != nil
	})
	return position
}

// wantFromEach starts again from each checkpoint: each time the lines behind it
// are reported, and no others.
func (r *reader) wantFromEach(path string, lines []string) {
	r.t.Helper()
	r.stop()
	if len(r.marks) < 2 || r.lost > 0 {
		r.t.Fatalf("%d checkpoints, lost %d times", len(r.marks), r.lost)
	}
	for _, m := range r.marks {
		again := follow(r.t, path, m.position)
		again.want(lines[m.lines:])
		again.stop()
		if again.lost > 0 {
			r.t.Errorf("from %s: lost", m.position)
		}
	}
}

// numbered are n arrival lines from a number on.
func numbered(from, n int) (lines []string) {
	for i := from; i < from+n; i++ {
		lines = append(lines, fmt.Sprintf("2026-11-22 04:43:53 1xUzQe-%06d-37 <= s%d@send.test H=(client.test) [127.0.0.1] P=esmtp S=258", i, i))
	}
	return lines
}

// A logFile is a log as Exim and logrotate treat it.
type logFile struct {
	t    *testing.T
	path string
}

func newLog(t *testing.T) logFile { return logFile{t, filepath.Join(t.TempDir(), "mainlog")} }

func (l logFile) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// write appends text as it is.
func (l logFile) write(text string) {
	l.t.Helper()
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	l.must(err)
	_, err = file.WriteString(text)
	l.must(err)
	l.must(file.Close())
}

func (l logFile) add(lines []string) { l.t.Helper(); l.write(strings.Join(lines, "\n") + "\n") }

// shift moves the rotated files on, to make place for a new .1.
func (l logFile) shift() {
	l.t.Helper()
	for n := 8; n > 0; n-- {
		for _, end := range []string{"", ".gz"} {
			from := fmt.Sprintf("%s.%d%s", l.path, n, end)
			if _, err := os.Stat(from); err == nil {
				l.must(os.Rename(from, fmt.Sprintf("%s.%d%s", l.path, n+1, end)))
			}
		}
	}
}

func (l logFile) rename() {
	l.t.Helper()
	l.shift()
	l.must(os.Rename(l.path, l.path+".1"))
}

func (l logFile) copyTruncate() {
	l.t.Helper()
	l.shift()
	text, err := os.ReadFile(l.path)
	l.must(err)
	l.must(os.WriteFile(l.path+".1", text, 0o640))
	l.must(os.Truncate(l.path, 0))
}

// compress makes .N of a log .N.gz, with its time.
func (l logFile) compress(n int) {
	l.t.Helper()
	plain := fmt.Sprintf("%s.%d", l.path, n)
	info, err := os.Stat(plain)
	l.must(err)
	text, err := os.ReadFile(plain)
	l.must(err)
	half := filepath.Join(l.t.TempDir(), "half.gz")
	file, err := os.Create(half)
	l.must(err)
	packer := gzip.NewWriter(file)
	_, err = packer.Write(text)
	l.must(err)
	l.must(packer.Close())
	l.must(file.Close())
	l.must(os.Chtimes(half, info.ModTime(), info.ModTime()))
	l.must(os.Rename(half, plain+".gz"))
	l.must(os.Remove(plain))
}

func TestRotationByRename(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 40)
	l.add(lines[:10])
	r := follow(t, l.path, nil)
	r.want(lines[:10])
	old, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0)
	l.must(err)
	defer old.Close()
	l.rename()
	_, err = io.WriteString(old, lines[10]+"\n") // nobody has made the new file yet
	l.must(err)
	r.want(lines[:11])
	l.add(lines[12:20])
	_, err = io.WriteString(old, lines[11]+"\n") // a process that still has the old one
	l.must(err)
	r.want(lines[:20])
	l.rename()
	l.add(lines[20:])
	r.want(lines)
	r.wantFromEach(l.path, lines)
}

// What stood in the log when it was copied and truncated is read from the copy.
func TestRotationByCopyTruncate(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 60)
	l.add(lines[:10])
	r := follow(t, l.path, nil)
	r.want(lines[:10])
	r.last()
	l.add(lines[10:20])
	l.copyTruncate()
	l.add(lines[20:50]) // longer than before
	r.want(lines[:50])
	r.last()
	l.copyTruncate()
	l.add(lines[50:])
	r.want(lines)
	r.wantFromEach(l.path, lines)
}

// A log that is only truncated goes on at its beginning.
func TestTruncation(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 30)
	l.add(lines[:20])
	r := follow(t, l.path, nil)
	r.want(lines[:20])
	r.last()
	l.must(os.Truncate(l.path, 0))
	l.add(lines[20:])
	r.want(lines)
	r.await("the loss", func() bool { return r.lost == 1 })
}

// While nobody read, the log was rotated three times, and compressed.
func TestRotationsWhileNobodyReads(t *testing.T) {
	t.Parallel()
	for name, rotate := range map[string]func(l logFile){
		"rename":       logFile.rename,
		"copytruncate": logFile.copyTruncate,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, lines := newLog(t), numbered(0, 50)
			l.add(lines[:5])
			first := follow(t, l.path, nil)
			first.want(lines[:5])
			position := first.last()
			first.stop()
			l.add(lines[5:10])
			for n := 10; n < 40; n += 10 {
				rotate(l)
				l.add(lines[n : n+10])
			}
			l.compress(3)
			l.compress(2)
			r := follow(t, l.path, position)
			r.want(lines[5:40])
			l.add(lines[40:])
			r.want(lines[5:])
			r.wantFromEach(l.path, lines[5:])
		})
	}
}

// A log that is rotated all the time, as fast as it can be, loses nothing.
func TestRotationsWithoutRest(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 300)
	l.add(lines[:1])
	r := follow(t, l.path, nil)
	r.want(lines[:1])
	for n := 1; n < 241; n += 40 {
		l.add(lines[n : n+20])
		l.rename()
		l.add(lines[n+20 : n+40])
	}
	l.add(lines[241:])
	r.want(lines)
	r.stop()
	for n := 2; n < 7; n++ {
		l.compress(n)
	}
	r.wantFromEach(l.path, lines)
}

// An empty file is known by its inode: all files begin as it does.
func TestRotationsOfAnEmptyFile(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 20)
	l.write("")
	r := follow(t, l.path, nil)
	r.await("reading to have begun", func() bool { return len(r.marks) > 0 })
	l.rename()
	l.add(lines[:10])
	l.rename()
	l.add(lines[10:])
	r.want(lines)
}

// The file in which reading ended is gone: that is reported, and reading begins
// where the present one does.
func TestPositionThatIsGone(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 20)
	l.add(lines[:10])
	first := follow(t, l.path, nil)
	first.want(lines[:10])
	position := first.last()
	first.stop()
	l.must(os.Remove(l.path))
	l.add(lines[10:])
	r := follow(t, l.path, position)
	r.want(lines[10:])
	r.await("the loss", func() bool { return r.lost == 1 })
}

// A line is taken when its end is there; that of a rotated file has none.
func TestLinesWithoutAnEnd(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 6)
	l.write(lines[0] + "\n" + lines[1][:40])
	r := follow(t, l.path, nil)
	r.want(lines[:1])
	l.write(lines[1][40:60])
	l.write(lines[1][60:] + "\n" + lines[2])
	r.want(lines[:2])
	l.rename()
	l.add(lines[3:4])
	r.want(lines[:4])
	r.stop()
	l.write(lines[4]) // and one that was cut while nobody read
	l.rename()
	l.add(lines[5:])
	again := follow(t, l.path, r.last())
	again.want(lines[4:])
	r.wantFromEach(l.path, lines)
}

// A line of 3 MB loses its end, not its fields, and the next one is whole.
func TestLineOfThreeMegabytes(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 3)
	long := lines[1] + ` T="` + strings.Repeat("<= \xff", 3<<18) + `"`
	l.add([]string{lines[0], long, lines[2]})
	r := follow(t, l.path, nil)
	begins := long[:200]
	r.want([]string{lines[0], begins, lines[2]})
	position := r.last()
	l.write(long[:2<<20])
	l.write(long[2<<20:] + "\n")
	l.add(lines[:1])
	r.want([]string{lines[0], begins, lines[2], begins, lines[0]})
	r.stop()
	if r.longest < 1<<20 || r.longest > 2<<20 {
		t.Errorf("%d bytes of a line are kept, want a megabyte or some more", r.longest)
	}
	follow(t, l.path, position).want([]string{begins, lines[0]})
}

// Exim's %D puts the date in the name: yesterday's file is read to its end, and
// today's from its beginning.
func TestNameWithADate(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	noon := time.FixedZone("noon", int((12*time.Hour-now.Sub(now.Truncate(24*time.Hour)))/time.Second)) // midnight is far
	pattern, lines := filepath.Join(t.TempDir(), "main%D.log"), numbered(0, 9)
	day := func(ago int) logFile {
		return logFile{t, strings.ReplaceAll(pattern, "%D", now.In(noon).AddDate(0, 0, -ago).Format("20060102"))}
	}
	day(2).add(lines[:3])
	first := follow(t, day(2).path, nil)
	first.want(lines[:3])
	position := first.last()
	first.stop()
	day(2).add(lines[3:4])
	day(1).add(lines[4:6])
	for ago := 1; ago < 3; ago++ {
		written := now.AddDate(0, 0, -ago)
		l := day(ago)
		l.must(os.Chtimes(l.path, written, written))
	}
	day(0).add(lines[6:8])
	r := followIn(t, noon, pattern, position)
	r.want(lines[3:8])
	day(0).add(lines[8:])
	r.want(lines[3:])
}
