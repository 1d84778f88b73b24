package mainlog

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/logline"
)

// A fuzzedLog is a log as it is written and rotated, a Follower that reads it,
// and what it should have reported.
//
//	write, rotate, truncate -> mainlog, mainlog.1, ... -> Follower, started again and again -> the lines that were written
type fuzzedLog struct {
	t        *testing.T
	path     string
	file     *os.File
	follower *Follower
	told     []string
	marks    []fuzzedMark // checkpoints

	written []*fuzzedLine
	present *fuzzedFile
	rotated []*fuzzedFile // the newest first
	partial string        // begun in the present one
	gone    bool          // a file was truncated or removed
	lost    int
	skipped int
}

// A fuzzedLine is a whole line that was written.
type fuzzedLine struct {
	text string
	gone bool // with its file: it need not be reported
	late bool // it was written to a rotated file, or that was removed: it need not be reported in its place
}

type fuzzedFile struct {
	n     int // rotations ago
	gz    bool
	lines []*fuzzedLine
	open  bool // its last line has no end
}

// A fuzzedMark is a checkpoint, and how much was reported before it.
type fuzzedMark struct {
	position []byte
	told     int
}

func (l *fuzzedLog) Parse(_ time.Time, line string, e *logline.Entry) bool {
	*e = logline.Entry{Line: line}
	return line != ""
}

func (l *fuzzedLog) Prepare(entries []logline.Entry) func(context.Context, time.Time) {
	return func(context.Context, time.Time) {
		for _, e := range entries {
			l.told = append(l.told, e.Line)
		}
	}
}

func (l *fuzzedLog) Checkpoint(_ time.Time, position []byte) error {
	l.marks = append(l.marks, fuzzedMark{position, len(l.told)})
	return nil
}

func (l *fuzzedLog) Enabled(event.Kind) bool { return true }

func (l *fuzzedLog) Emit(e event.Event) {
	switch e.Kind {
	case event.LogLost:
		l.lost++
	case event.LogSkipped:
		l.skipped++
	}
}

func (l *fuzzedLog) must(err error) {
	if err != nil {
		l.t.Fatal(err)
	}
}

// start starts a Follower at a checkpoint, so many before the last one: what was
// reported since is reported again.
func (l *fuzzedLog) start(back int) {
	if l.follower != nil {
		l.follower.close()
	}
	o := Options{Path: l.path, Location: time.UTC, Parser: l, Consumer: l, Events: l}
	if n := len(l.marks); n > 0 {
		l.marks = l.marks[:max(1, n-back)]
		m := l.marks[len(l.marks)-1]
		o.Position, l.told = m.position, l.told[:m.told]
	}
	l.follower = New(o)
	l.follower.linger = 0 // nobody has the old file open for longer
}

// read has it read all that is there.
func (l *fuzzedLog) read() {
	l.must(l.follower.step(context.Background()))
	var inOrder, late []string
	for _, text := range l.told {
		if l.isLate(text) {
			late = append(late, text)
		} else {
			inOrder = append(inOrder, text)
		}
	}
	for _, w := range l.written {
		told := &inOrder
		if w.late {
			told = &late
		}
		i := slices.Index(*told, w.text)
		switch {
		case i == 0 || i > 0 && w.late:
			*told = slices.Delete(*told, i, i+1)
		case i > 0 || !w.gone:
			l.t.Fatalf("%.40q was not told in its place, but %.40q", w.text, (*told)[:min(3, len(*told))])
		}
	}
	if len(inOrder)+len(late) > 0 {
		l.t.Fatalf("told too often: %.40q", slices.Concat(inOrder, late))
	}
}

func (l *fuzzedLog) isLate(text string) bool {
	return slices.ContainsFunc(l.written, func(w *fuzzedLine) bool { return w.late && w.text == text })
}

func (l *fuzzedLog) name(f *fuzzedFile) string {
	if f.gz {
		return fmt.Sprintf("%s.%d.gz", l.path, f.n)
	}
	return fmt.Sprintf("%s.%d", l.path, f.n)
}

func (l *fuzzedLog) open() {
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	l.must(err)
	l.file, l.present = file, &fuzzedFile{}
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
	l.wrote(l.partial + text)
	l.partial = ""
}

func (l *fuzzedLog) wrote(text string) {
	w := &fuzzedLine{text: text}
	l.written, l.present.lines = append(l.written, w), append(l.present.lines, w)
}

// rotate makes place for another rotated file. What was begun in it has no end.
func (l *fuzzedLog) rotate() {
	for _, f := range slices.Backward(l.rotated) {
		from := l.name(f)
		f.n++
		l.must(os.Rename(from, l.name(f)))
	}
	if l.partial != "" {
		l.wrote(l.partial)
		l.partial, l.present.open = "", true
	}
	l.present.n = 1
	l.rotated = slices.Insert(l.rotated, 0, l.present)
}

func (l *fuzzedLog) rename() {
	l.rotate()
	l.must(os.Rename(l.path, l.path+".1"))
	l.file.Close()
	l.open()
}

// copyTruncate may be read while the copy is half there, and when it is whole.
func (l *fuzzedLog) copyTruncate(readHalf, readWhole bool) {
	l.rotate()
	text, err := os.ReadFile(l.path)
	l.must(err)
	if readHalf {
		l.must(os.WriteFile(l.path+".1", text[:len(text)/2], 0o600))
		l.must(l.follower.step(context.Background()))
	}
	l.must(os.WriteFile(l.path+".1", text, 0o600))
	if readWhole {
		l.must(l.follower.step(context.Background()))
	}
	l.must(os.Truncate(l.path, 0))
	l.present = &fuzzedFile{}
}

func (l *fuzzedLog) truncate() {
	l.must(os.Truncate(l.path, 0))
	l.forget(l.present)
	l.partial, l.present = "", &fuzzedFile{}
}

func (l *fuzzedLog) forget(f *fuzzedFile) {
	l.gone = true
	for _, w := range f.lines {
		w.gone, w.late = true, true
	}
}

// compress may be read while that is half done.
func (l *fuzzedLog) compress(f *fuzzedFile, readHalf bool) {
	if f.gz {
		return
	}
	plain := l.name(f)
	text, err := os.ReadFile(plain)
	l.must(err)
	var packed bytes.Buffer
	packer := gzip.NewWriter(&packed)
	packer.Write(text)
	l.must(packer.Close())
	f.gz = true
	if readHalf {
		l.must(os.WriteFile(l.name(f), packed.Bytes()[:packed.Len()/2], 0o600))
		l.must(l.follower.step(context.Background()))
	}
	l.must(os.WriteFile(l.name(f), packed.Bytes(), 0o600))
	l.must(os.Remove(plain))
}

func (l *fuzzedLog) remove(n int) {
	f := l.rotated[n]
	l.must(os.Remove(l.name(f)))
	l.rotated = slices.Delete(l.rotated, n, n+1)
	l.forget(f)
}

// late is of a process that still has a rotated file open.
func (l *fuzzedLog) late(n int, f *fuzzedFile) {
	if f.gz || f.open {
		return
	}
	file, err := os.OpenFile(l.name(f), os.O_WRONLY|os.O_APPEND, 0)
	l.must(err)
	w := &fuzzedLine{text: fmt.Sprintf("%d:late", n), late: true}
	_, err = file.WriteString(w.text + "\n")
	l.must(err)
	l.must(file.Close())
	l.written, f.lines = append(l.written, w), append(f.lines, w)
}

// What is done to a log, by the bytes of a script: each is what to do, and how
// much of it, or to which file.
const (
	doLine = iota
	doPart
	doLong
	doRead
	doRename
	doCopy
	doRestart
	doTruncate
	doCompress
	doRemove
	doLate
	things
)

func (l *fuzzedLog) do(n int, thing, much byte) {
	if thing %= things; thing >= doCompress && len(l.rotated) == 0 {
		return
	}
	of := int(much/2) % max(1, len(l.rotated))
	switch thing {
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
		l.copyTruncate(much&1 != 0, much&2 != 0)
	case doRestart:
		l.start(int(much) % 8)
	case doTruncate:
		l.truncate()
	case doCompress:
		l.compress(l.rotated[of], much&1 != 0)
	case doRemove:
		l.remove(of)
	case doLate:
		l.late(n, l.rotated[of])
	}
}

// FuzzFollower holds a Follower to telling each line once and in order, whatever
// is done to the log meanwhile, and, after a restart, those since the last
// checkpoint again. Only what was truncated or removed need not be reported.
func FuzzFollower(f *testing.F) {
	f.Fuzz(func(t *testing.T, script []byte) {
		l := &fuzzedLog{t: t, path: filepath.Join(t.TempDir(), "mainlog")}
		l.open()
		defer func() { l.file.Close() }()
		l.start(0)
		defer func() { l.follower.close() }()
		l.read() // or else it may be the first start that finds a rotated file
		for n := 0; n+1 < min(len(script), 120); n += 2 {
			l.do(n+1, script[n], script[n+1])
		}
		l.line(1000, 10, true)
		l.read()
		if l.lost > 0 && !l.gone || l.skipped > 0 {
			t.Errorf("lost %d times, skipped %d", l.lost, l.skipped)
		}
	})
}
