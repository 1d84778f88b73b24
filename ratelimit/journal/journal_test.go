package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/ratelimit"
	"sluice/ratelimit/storetest"
	"sluice/sidecar/hosttest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
	}
	hosttest.Shuffle()
	goleak.VerifyTestMain(m)
}

// heard is a Reporter that remembers what it got.
type heard struct{ lines []string }

func (h *heard) add(format string, args ...any) {
	h.lines = append(h.lines, fmt.Sprintf(format, args...))
}

func (h *heard) JournalCut(file string, at, n int64) {
	h.add("cut %s %d+%d", filepath.Base(file), at, n)
}

func (h *heard) JournalDamaged(file string, at, n int64, reason error) {
	h.add("damaged %s %d+%d", filepath.Base(file), at, n)
}
func (h *heard) JournalFailed(err error) { h.add("failed") }
func (h *heard) JournalMended()          { h.add("mended") }

func (h *heard) want(t *testing.T, lines ...string) {
	t.Helper()
	if got, want := strings.Join(h.lines, "; "), strings.Join(lines, "; "); got != want {
		t.Fatalf("the operator was told %q, want %q", got, want)
	}
	h.lines = nil
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, dir string, h *heard) *Store {
	t.Helper()
	s, err := Open(dir, Options{Reporter: h, Ledger: ratelimit.Options{Keep: ratelimit.MaxWindow}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// abandon lets go of a store as kill -9 would.
func (s *Store) abandon() {
	if s.segment.file != nil {
		s.segment.close()
	}
	s.release()
}

// A directory is free once its Store is closed, also while a program is being started: until it
// runs, it has the file of the lock open as well.
func TestACloseUnlocks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, &heard{})
	fd, err := syscall.Dup(int(s.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, &heard{}).Close()
}

func take(domain string, max int64, tokens ...ratelimit.Token) ratelimit.Take {
	return ratelimit.Take{
		Subjects: []ratelimit.Subject{{Name: domain, Limits: []ratelimit.Limit{{Window: time.Hour, Max: max}}}},
		Tokens:   tokens, Marks: tokens,
	}
}

func mustTake(t testing.TB, s *Store, now time.Time, take ratelimit.Take) ratelimit.Result {
	t.Helper()
	r, err := s.Take(context.Background(), now, take)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantSent(t testing.TB, s *Store, domain string, want int64) {
	t.Helper()
	st := s.Standing(start, domain)
	var got int64
	for _, w := range st.Windows {
		got = w.Sent
	}
	if got != want {
		t.Fatalf("%s stands at %d, want %d", domain, got, want)
	}
}

// reopening holds a Store to storetest although it is abandoned or closed,
// and opened again, before every other step.
type reopening struct {
	*Store
	t     *testing.T
	dir   string
	steps int
	h     *heard
}

func (r *reopening) Take(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	r.again()
	return r.Store.Take(ctx, now, t)
}

func (r *reopening) Reset(ctx context.Context, now time.Time, name string, seen int64) (int64, error) {
	r.again()
	return r.Store.Reset(ctx, now, name, seen)
}

func (r *reopening) again() {
	r.steps++
	clock, err := r.Store.Look(context.Background(), time.Time{}, ratelimit.Take{})
	if err != nil {
		r.t.Fatal(err)
	}
	switch r.steps % 12 {
	case 0:
		if err := r.Store.Close(); err != nil {
			r.t.Fatal(err)
		}
	case 3, 9:
		r.Store.abandon()
	case 6:
		if err := r.Store.Save(); err != nil {
			r.t.Fatal(err)
		}
		return
	default:
		return
	}
	r.Store = open(r.t, r.dir, r.h)
	r.h.want(r.t)
	// The clock is recorded only with changes.
	r.Store.Standing(clock.At, "")
}

func TestStoreAgainstAnExactLogOverRestarts(t *testing.T) {
	var last *reopening
	defer func() { last.Store.abandon() }()
	storetest.Property(t, func() storetest.Store {
		if last != nil {
			last.Store.abandon()
		}
		h := &heard{}
		dir := t.TempDir()
		last = &reopening{Store: open(t, dir, h), t: t, dir: dir, h: h}
		return last
	})
}

func TestNotesSurvive(t *testing.T) {
	dir, h := t.TempDir(), &heard{}
	s := open(t, dir, h)
	s.Note("lock/b", []byte("two"))
	s.Note("lock/a", []byte("one"))
	s.Note("hold/x", []byte("gone"))
	s.Forget("hold/x")
	for i := range 3 {
		if i == 1 {
			if err := s.Save(); err != nil {
				t.Fatal(err)
			}
		}
		s.abandon()
		s = open(t, dir, h)
		var got []string
		s.Notes("", func(k string, v []byte) { got = append(got, k+"="+string(v)) })
		if strings.Join(got, " ") != "lock/a=one lock/b=two" {
			t.Fatalf("notes after restart %d: %q", i, got)
		}
	}
	s.abandon()
	h.want(t)
}

// TestTornTailIsCut cuts the last file at every byte, as a crash in the middle
// of a write can: what was answered before the torn write is there.
func TestTornTailIsCut(t *testing.T) {
	h := &heard{}
	origin := t.TempDir()
	s := open(t, origin, h)
	for i := range 5 {
		mustTake(t, s, start, take("a.example", 0, ratelimit.Token(i+1)))
	}
	size := s.segment.size
	s.abandon()
	whole, err := os.ReadFile(s.path(segmentPrefix, 1))
	if err != nil {
		t.Fatal(err)
	}
	whole = whole[:size]
	ends, charges := frameEnds(t, whole)
	for cut := range int64(len(whole)) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(s.path(segmentPrefix, 1))), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, h)
		intact, from := int64(0), int64(0)
		for i, end := range ends {
			if end <= cut {
				intact, from = charges[i], end
			}
		}
		wantSent(t, s, "a.example", intact)
		s.abandon()
		if cut > from {
			h.want(t, fmt.Sprintf("cut segment-%016d %d+%d", 1, from, cut-from))
		}
		open(t, dir, h).abandon()
		h.want(t)
	}
}

// TestTornTailBehindANewSegment is a crash in the middle of a write, at the
// moment when the next segments are made and not written to yet.
func TestTornTailBehindANewSegment(t *testing.T) {
	dir, h := t.TempDir(), &heard{}
	s := open(t, dir, h)
	mustTake(t, s, start, take("a.example", 0, 1))
	from := s.segment.size
	mustTake(t, s, start, take("a.example", 0, 2))
	torn, end := s.path(segmentPrefix, 1), s.segment.size-5
	s.abandon()
	for _, err := range []error{
		os.Truncate(torn, end),
		os.WriteFile(s.path(segmentPrefix, 2), make([]byte, segmentStep), 0o600),
		os.WriteFile(s.path(segmentPrefix, 3), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, h)
	wantSent(t, s, "a.example", 1)
	h.want(t, fmt.Sprintf("cut %s %d+%d", filepath.Base(torn), from, end-from))
	s.abandon()
	open(t, dir, h).abandon()
	h.want(t)
}

// frameEnds lists where each frame ends, and how many charges there are up to it.
func frameEnds(t *testing.T, b []byte) (ends, charges []int64) {
	t.Helper()
	frames, n := newFrames(bytes.NewReader(b), int64(len(b))), int64(0)
	for {
		_, payload, err := frames.next()
		if errors.Is(err, io.EOF) {
			return ends, charges
		}
		if err != nil {
			t.Fatal(err)
		}
		if payload[0] == 'c' {
			n++
		}
		ends, charges = append(ends, frames.at), append(charges, n)
	}
}

// TestDamageElsewhereIsNamed flips bytes in the middle: what they held is
// lost and named, all else is there, and the file is kept.
func TestDamageElsewhereIsNamed(t *testing.T) {
	h := &heard{}
	dir := t.TempDir()
	s := open(t, dir, h)
	var ends []int64
	for i := range 3 {
		mustTake(t, s, start, take(fmt.Sprintf("%c.example", 'a'+i), 0, ratelimit.Token(i+1)))
		ends = append(ends, s.segment.size)
	}
	s.abandon()
	flip(t, s.path(segmentPrefix, 1), ends[0]+headerSize+3)
	s = open(t, dir, h)
	h.want(t, fmt.Sprintf("damaged segment-%016d %d+%d", 1, ends[0], 38))
	wantSent(t, s, "a.example", 1)
	wantSent(t, s, "b.example", 0)
	wantSent(t, s, "c.example", 1)
	s.abandon()
	if _, err := os.Stat(s.path(segmentPrefix, 1) + ".damaged"); err != nil {
		t.Fatalf("the damaged file was not kept: %v", err)
	}
	open(t, dir, h).abandon()
	h.want(t)
}

func TestDamagedSnapshotIsNamed(t *testing.T) {
	h := &heard{}
	dir := t.TempDir()
	s := open(t, dir, h)
	mustTake(t, s, start, take("a.example", 0, 1))
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	s.abandon()
	path := s.path(snapshotPrefix, s.segment.n)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("a.example"))
	frame := bytes.LastIndex(b[:at], magic[:])
	flip(t, path, int64(at))
	s = open(t, dir, h)
	defer s.abandon()
	if len(h.lines) != 1 || !strings.HasPrefix(h.lines[0], fmt.Sprintf("damaged %s %d+", filepath.Base(path), frame)) {
		t.Fatalf("the operator was told %q", h.lines)
	}
	// The number of a lost subject is not given out twice.
	mustTake(t, s, start, take("b.example", 0, 2))
	wantSent(t, s, "b.example", 1)
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0xff
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherProcessIsRefused(t *testing.T) {
	dir, h := t.TempDir(), &heard{}
	s := open(t, dir, h)
	defer s.abandon()
	if _, err := Open(dir, Options{Reporter: h}); err == nil || !strings.Contains(err.Error(), "another sluice has it") {
		t.Fatalf("opened twice: %v", err)
	}
}

// TestFilesStayBounded charges for many windows: segments and snapshot follow
// what still counts, and not what ever was.
func TestFilesStayBounded(t *testing.T) {
	dir, h := t.TempDir(), &heard{}
	s, err := Open(dir, Options{Reporter: h, MinTail: 4096, Ledger: ratelimit.Options{Keep: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.abandon()
	second := take("a.example", 1000)
	second.Subjects[0].Limits[0].Window = time.Second
	largest := int64(0)
	for i := range 20000 {
		now := start.Add(time.Duration(i) * 10 * time.Millisecond)
		second.Tokens = []ratelimit.Token{ratelimit.Token(i + 1)}
		mustTake(t, s, now, second)
		if i%50 == 0 {
			s.ledger.Sweep()
			s.tick()
			largest = max(largest, dirSize(t, dir))
		}
	}
	if largest > 64<<10+2*segmentStep {
		t.Fatalf("the directory grew to %d bytes for 100 live sends", largest)
	}
	h.want(t)
}

func dirSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}
