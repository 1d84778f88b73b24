package mainlog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sluice/sidecar"
)

// A fuzzedLog is a log as it is written and rotated, a Follower that reads it,
// and what it should have told.
//
//	write, rotate, truncate -> mainlog, mainlog.1, ... -> Follower, started again and again -> the lines that were written
type fuzzedLog struct {
	t        *testing.T
	path     string
	file     *os.File
	follower *Follower
	position []byte // of the last checkpoint
	told     []string
	kept     int // of told, at the last checkpoint

	written []string // whole lines that must be told
	partial string   // begun since
	begun   bool     // the present file has a whole line
	seen    bool     // which was read
	lost    int

	truncated bool
}

func (l *fuzzedLog) Parse(_ time.Time, line string, e *sidecar.LogEntry) bool {
	*e = sidecar.LogEntry{Line: line}
	return line != ""
}

func (l *fuzzedLog) Prepare([]sidecar.LogEntry) {}

func (l *fuzzedLog) Record(_ context.Context, _ time.Time, entries []sidecar.LogEntry) {
	for _, e := range entries {
		l.told = append(l.told, e.Line)
	}
}

func (l *fuzzedLog) Checkpoint(_ time.Time, position []byte) error {
	l.position, l.kept = position, len(l.told)
	return nil
}

func (l *fuzzedLog) LogTrouble(string, error)    {}
func (l *fuzzedLog) LogMended(string)            {}
func (l *fuzzedLog) LogLost(string)              { l.lost++ }
func (l *fuzzedLog) LogCatchingUp(string, int64) {}
func (l *fuzzedLog) LogCaughtUp(string)          {}

func (l *fuzzedLog) must(err error) {
	if err != nil {
		l.t.Fatal(err)
	}
}

// start starts a Follower where the last checkpoint was: what was told since is
// told again.
func (l *fuzzedLog) start() {
	if l.follower != nil {
		l.follower.close()
	}
	l.told = l.told[:l.kept]
	l.follower = New(Options{Path: l.path, Position: l.position, Location: time.UTC, Parser: l, Consumer: l, Reporter: l})
	l.follower.linger = 0 // nobody has the old file open for longer
}

// read has it read all that is there.
func (l *fuzzedLog) read() {
	l.must(l.follower.step(context.Background()))
	l.seen = l.begun
	if !slices.Equal(l.told, l.written) {
		l.t.Fatalf("told %d lines %q, not these %d: %q", len(l.told), last(l.told), len(l.written), last(l.written))
	}
}

func last(lines []string) []string { return lines[max(0, len(lines)-5):] }

func (l *fuzzedLog) open() {
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	l.must(err)
	l.file = file
}

func (l *fuzzedLog) write(text string) {
	_, err := l.file.WriteString(text)
	l.must(err)
}

// line writes a line, which is none like another one; or first its beginning.
func (l *fuzzedLog) line(n, size int, whole bool) {
	text := fmt.Sprintf("%d:%0*d", n, size, n)
	if !whole {
		l.partial += text
		l.write(text)
		return
	}
	l.write(text + "\n")
	l.begun = true
	l.written = append(l.written, l.partial+text)
	l.partial = ""
}

// rename rotates as logrotate does. What was begun in the old file has no end.
func (l *fuzzedLog) rename() {
	l.begun, l.seen = false, false
	l.shift()
	l.must(os.Rename(l.path, l.path+".1"))
	if l.partial != "" {
		l.written, l.partial = append(l.written, l.partial), ""
	}
	l.file.Close()
	l.open()
}

// copyTruncate does so only when something of the file was read: of one that was
// empty when it was looked at nobody can know that it is empty again.
func (l *fuzzedLog) copyTruncate(n int) {
	if !l.seen {
		l.line(n, 10, true)
		l.read()
	}
	l.begun, l.seen = false, false
	l.shift()
	text, err := os.ReadFile(l.path)
	l.must(err)
	l.must(os.WriteFile(l.path+".1", text, 0o600))
	l.must(os.Truncate(l.path, 0))
	if l.partial != "" {
		l.written, l.partial = append(l.written, l.partial), ""
	}
}

// truncate does so only when nothing is gone by it that would be told again, and
// not just before a rotation or a start, for then nobody can know.
func (l *fuzzedLog) truncate(n int) {
	if l.read(); l.kept < len(l.told) {
		return
	}
	l.partial, l.truncated = "", true
	l.must(os.Truncate(l.path, 0))
	l.line(n, 10, true)
	l.read()
}

func (l *fuzzedLog) shift() {
	names, err := filepath.Glob(l.path + ".*")
	l.must(err)
	for n := len(names); n > 0; n-- {
		l.must(os.Rename(fmt.Sprintf("%s.%d", l.path, n), fmt.Sprintf("%s.%d", l.path, n+1)))
	}
}

// What is done to a log, by the bytes of a script: each is what to do, and how
// much of it.
const (
	doLine = iota
	doPart
	doLong
	doRead
	doRename
	doCopy
	doRestart
	doTruncate
	things
)

func (l *fuzzedLog) do(n int, thing, much byte) {
	switch thing % things {
	case doLine:
		l.line(n, 1+int(much), true)
	case doPart:
		l.line(n, 1+int(much%50), false)
	case doLong:
		l.line(n, 100*int(much), true)
	case doRead:
		l.read()
	case doRename:
		l.rename()
	case doCopy:
		l.copyTruncate(n)
	case doRestart:
		l.start()
	case doTruncate:
		l.truncate(n)
	}
}

// FuzzFollower holds a Follower to telling each line once and in order, whatever
// is done to the log meanwhile, and, after a restart, those since the last
// checkpoint again.
func FuzzFollower(f *testing.F) {
	f.Fuzz(func(t *testing.T, script []byte) {
		l := &fuzzedLog{t: t, path: filepath.Join(t.TempDir(), "mainlog")}
		l.open()
		defer func() { l.file.Close() }()
		l.start()
		defer func() { l.follower.close() }()
		l.line(0, 10, true) // no file begins like another one
		l.read()
		for n := 0; n+1 < min(len(script), 120); n += 2 {
			l.do(n+1, script[n], script[n+1])
		}
		l.line(1000, 10, true)
		l.read()
		if l.lost > 0 && !l.truncated { // or else it may have been while nobody read
			t.Errorf("lost %d times", l.lost)
		}
	})
}
