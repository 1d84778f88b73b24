package mainlog_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readUpTo has a Follower read these lines of a log, and returns where it ended.
func (l logFile) readUpTo(lines []string) (position []byte) {
	l.t.Helper()
	r := follow(l.t, l.path, nil)
	r.want(lines)
	defer r.stop()
	return r.last()
}

// goOn starts a Follower at a position, and wants these lines and losses of it.
func (l logFile) goOn(position []byte, lines []string, lost int) *reader {
	l.t.Helper()
	r := follow(l.t, l.path, position)
	r.want(lines)
	r.await("what is lost", func() bool { return r.lost == lost })
	return r
}

func (l logFile) truncate() { l.t.Helper(); l.must(os.Truncate(l.path, 0)) }

func (l logFile) remove(end string) { l.t.Helper(); l.must(os.Remove(l.path + end)) }

// dated renames a log as logrotate's dateext does.
func (l logFile) dated(day int) {
	l.t.Helper()
	l.must(os.Rename(l.path, fmt.Sprintf("%s-202611%02d", l.path, day)))
}

// A log is truncated, and what is written next is moved away, or is longer than
// what was read, before anybody reads on.
func TestTruncatedBeforeARotationOrAStart(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(l logFile, lines []string){
		"rename":       func(l logFile, lines []string) { l.rename(); l.add(lines) },
		"copytruncate": func(l logFile, lines []string) { l.copyTruncate(); l.add(lines) },
		"compress":     func(l logFile, lines []string) { l.rename(); l.add(lines); l.compress(1) },
		"start":        logFile.add,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, lines := newLog(t), numbered(0, 50)
			l.add(lines[:5])
			position := l.readUpTo(lines[:5])
			l.truncate()
			l.add(lines[5:40])
			then(l, lines[40:])
			l.goOn(position, lines[5:], 1)
		})
	}
}

// A log of which nothing was read yet is copied and truncated: an empty file
// begins like any other.
func TestCopiedAndTruncatedBeforeAnythingWasRead(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 30)
	l.write("")
	first := follow(t, l.path, nil)
	position := first.last()
	first.stop()
	l.add(lines[:10])
	l.copyTruncate()
	l.add(lines[10:20])
	l.copyTruncate()
	l.compress(2)
	l.add(lines[20:])
	r := l.goOn(position, lines, 0)
	r.wantFromEach(l.path, lines)
}

// The same while it is followed, and as fast as can be. What is read of a copy may
// come behind what was written after it.
func TestCopyTruncateWithoutRest(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 61)
	l.write("")
	r := follow(t, l.path, nil)
	r.last()
	for n := 0; n < 60; n += 10 {
		l.add(lines[n : n+10])
		l.copyTruncate()
	}
	l.add(lines[60:])
	r.await("all lines", func() bool { return len(r.lines) >= len(lines) })
	r.stop()
	slices.Sort(r.lines)
	if diff := cmp.Diff(lines, r.lines); diff != "" {
		t.Errorf("(- want, + told)\n%s", diff)
	}
}

// The file in which reading ended is gone, and so is the one before it; those
// that were rotated since are read, and none that were read or rotated before.
func TestWhatWasRotatedSinceThePositionsFileIsGone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rotate func(l logFile, times int)
		remove []string
	}{
		"numbers": {func(l logFile, _ int) { l.rename() }, []string{".3", ".4"}},
		"dates":   {logFile.dated, []string{"-20261101", "-20261102"}},
		"packed": {func(l logFile, times int) {
			if l.rename(); times > 1 {
				l.compress(2)
			}
		}, []string{".3.gz", ".4.gz"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, lines := newLog(t), numbered(0, 60)
			l.add(lines[:10]) // before the first start
			l.rename()
			l.must(os.Rename(l.path+".1", l.path+".90"))
			l.add(lines[10:20])
			first := follow(t, l.path, nil)
			first.want(lines[10:20])
			c.rotate(l, 1)
			l.add(lines[20:30])
			first.want(lines[10:30])
			position := first.last()
			first.stop()
			for n := 30; n < 60; n += 10 {
				c.rotate(l, n/10-1)
				l.add(lines[n : n+10])
			}
			for _, end := range c.remove {
				l.remove(end)
			}
			r := l.goOn(position, lines[30:], 1)
			r.stop()
			l.goOn(r.last(), nil, 0)
		})
	}
}

// A file that was missing is read, once, when it is there again.
func TestAMissingFileThatIsPutBack(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 40)
	l.add(lines[:10])
	position := l.readUpTo(lines[:10])
	l.add(lines[10:20])
	l.rename()
	away := filepath.Join(t.TempDir(), "away")
	l.must(os.Rename(l.path+".1", away))
	l.add(lines[20:30])
	r := l.goOn(position, lines[20:30], 1)
	l.must(os.Rename(away, l.path+".99"))
	r.want(slices.Concat(lines[20:30], lines[:20]))
	r.stop()
	l.add(lines[30:])
	l.goOn(r.last(), lines[30:], 0)
}

// At the first start only the present file is read, also if that start ended
// before a line of it.
func TestTheFirstStartReadsThePresentFile(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 40)
	for n := 0; n < 20; n += 10 {
		l.add(lines[n : n+10])
		l.rename()
	}
	l.compress(2)
	packed, err := os.ReadFile(l.path + ".2.gz")
	l.must(err)
	l.must(os.WriteFile(l.path+".3.gz", packed[:60], 0o640)) // damaged
	l.write("")
	first := follow(t, l.path, nil)
	position := first.last()
	first.stop()
	l.remove(".3.gz")
	l.add(lines[20:30])
	l.rename()
	l.add(lines[30:])
	l.goOn(position, lines[20:], 0)
}

// What was read is known by its first bytes, and by its length: neither a start
// nor a rotation unpacks it again. (Here that would fail.)
func TestWhatWasReadIsNotUnpackedAgain(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 20_000)
	l.add(lines[:9_000])
	r := follow(t, l.path, nil)
	r.want(lines[:9_000])
	l.rename()
	l.compress(1)
	packed, err := os.ReadFile(l.path + ".1.gz")
	l.must(err)
	copy(packed[len(packed)/2:], bytes.Repeat([]byte("x"), 100))
	l.must(os.WriteFile(l.path+".1.gz", packed, 0o640))
	l.add(lines[9_000:9_010])
	r.want(lines[:9_010])
	l.rename()
	l.add(lines[9_010:9_020])
	r.want(lines[:9_020])
	position := r.last()
	r.stop()
	l.add(lines[9_020:])
	again := l.goOn(position, lines[9_020:], 0)
	again.stop()
	if len(r.skipped)+len(again.skipped)+r.lost > 0 {
		t.Errorf("skipped %v and %v, lost %d times", r.skipped, again.skipped, r.lost)
	}
}

// A rotated file that is damaged is reported, and read as far as it goes; the
// others are not concerned.
func TestARotatedFileThatIsDamaged(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 50)
	l.add(lines[:10])
	position := l.readUpTo(lines[:10])
	for n := 10; n < 50; n += 10 {
		l.rename()
		l.add(lines[n : n+10])
	}
	l.compress(2)
	l.must(os.Truncate(l.path+".2.gz", 4))
	r := l.goOn(position, slices.Concat(lines[10:20], lines[30:]), 0)
	r.await("it to be told", func() bool { return slices.Equal(r.skipped, []string{l.path + ".2.gz"}) })
}

// A line that comes late into a rotated file, long after the next one is read.
func TestALateLineInARotatedFile(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 30)
	l.add(lines[:10])
	r := follow(t, l.path, nil)
	r.want(lines[:10])
	l.rename()
	l.add(lines[10:20])
	r.want(lines[:20])
	logFile{t, l.path + ".1"}.add(lines[20:21])
	r.want(lines[:21])
	l.add(lines[21:])
	r.want(lines)
	r.stop()
	follow(t, l.path, r.last()).want(nil)
}

// Names that rotation does not make are of other files.
func TestFilesThatAreNoneOfTheLog(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 40)
	l.add(lines[:10])
	position := l.readUpTo(lines[:10])
	for i, end := range []string{".err", "-other.1", ".mx2", ".bak", ".1.xz", "~"} {
		logFile{t, l.path + end}.add(lines[30+i : 31+i])
	}
	for i, end := range []string{".old", "-2026-11-20", ".2026112104", "-1700000000", ".01"} {
		logFile{t, l.path + end}.add(lines[10+i : 11+i])
	}
	l.add(lines[15:20])
	r := follow(t, l.path, position)
	r.await("all lines", func() bool { return len(r.lines) == 10 })
	r.stop()
	slices.Sort(r.lines)
	if diff := cmp.Diff(lines[10:20], r.lines); diff != "" {
		t.Errorf("(- want, + told)\n%s", diff)
	}
}

// Somebody empties the log and leaves a line in it, each time the same.
func TestALogThatBeginsAlike(t *testing.T) {
	t.Parallel()
	l, lines := newLog(t), numbered(0, 40)
	const cleared = "2026-11-22 04:43:53 1xUzQe-999999-37 Completed"
	begin := func(more []string) []string { return append([]string{cleared}, more...) }
	l.add(begin(lines[:20]))
	position := l.readUpTo(begin(lines[:20]))
	l.truncate()
	l.add(begin(lines[20:]))
	r := l.goOn(position, begin(lines[20:]), 1)
	l.truncate()
	l.add(begin(nil))
	r.await("the line", func() bool { return strings.HasSuffix(r.lines[len(r.lines)-1], " Completed") })
}
