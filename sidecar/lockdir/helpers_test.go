package lockdir

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/lockfile"
)

func TestMain(m *testing.M) {
	hosttest.Shuffle()
	goleak.VerifyTestMain(m)
}

var (
	hourly    = lockfile.Lock{Kind: lockfile.Hourly, Domain: "example.com"}
	deferfail = lockfile.Lock{Kind: lockfile.DeferFail, Domain: "example.com"}
	other     = lockfile.Lock{Kind: lockfile.Hourly, Domain: "example.org"}
	noon      = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// errCrash is what a crashing note panics with.
var errCrash = errors.New("crash")

// memNotes are notes in memory that can crash the process that writes them.
type memNotes struct {
	mu     sync.Mutex
	m      map[string]string
	writes int  // so far
	crash  int  // at which write to crash; 0 is never
	after  bool // the write still comes to pass
	fail   error
	unkept error // they do not survive a crash
	full   int   // from which write on; 0 is never
}

func newNotes() *memNotes { return &memNotes{m: map[string]string{}} }

func (n *memNotes) Note(key string, value []byte) error {
	return n.write(func() { n.m[key] = string(value) })
}

func (n *memNotes) Failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.unkept
}

func (n *memNotes) Forget(key string) error {
	return n.write(func() { delete(n.m, key) })
}

func (n *memNotes) write(do func()) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return n.fail
	}
	n.writes++
	if n.writes == n.full {
		n.unkept = unix.ENOSPC
	}
	if n.writes != n.crash {
		do()
		return nil
	}
	if n.after {
		do()
	}
	panic(errCrash)
}

func (n *memNotes) Notes(prefix string, f func(string, []byte)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(n.m)) {
		if strings.HasPrefix(key, prefix) {
			f(key, []byte(n.m[key]))
		}
	}
}

// crashing runs f up to the crash that the notes are set for, and tells
// whether it came.
func crashing(f func()) (crashed bool) {
	defer func() {
		if r := recover(); r != nil && r != errCrash {
			panic(r)
		} else {
			crashed = r != nil
		}
	}()
	f()
	return false
}

// A rig is a lock directory whose time the test moves, with no watcher.
type rig struct {
	t     testing.TB
	path  string
	notes *memNotes
	now   time.Time
	d     *Dir
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "limits"), notes: newNotes(), now: noon}
	r.open()
	return r
}

// open starts sluice, again if it ran before.
func (r *rig) open() {
	r.t.Helper()
	d, err := Open(Options{Path: r.path, Notes: r.notes, Now: r.now})
	if err != nil {
		r.t.Fatal(err)
	}
	r.d = d
}

// settle scans until nothing is in doubt any more, and returns what happened.
func (r *rig) settle() []lockfile.Event {
	for range 3 {
		r.d.scan(r.now)
		r.now = r.now.Add(patience)
	}
	return r.reported()
}

// reported is what Run would have reported by now.
func (r *rig) reported() []lockfile.Event {
	var events []lockfile.Event
	r.d.Deliver(func(e lockfile.Event) { events = append(events, e) })
	return events
}

func (r *rig) file(l lockfile.Lock) string { return filepath.Join(r.path, entryName(l)) }

func (r *rig) make(l lockfile.Lock) {
	r.t.Helper()
	r.must(r.d.Make(l, "20/20 (100%)", 7))
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// What operators do.

func (r *rig) create(l lockfile.Lock) {
	r.t.Helper()
	r.must(os.WriteFile(r.file(l), nil, 0o644))
}

func (r *rig) rm(l lockfile.Lock) {
	r.t.Helper()
	r.must(os.Remove(r.file(l)))
}

func (r *rig) touch(l lockfile.Lock, when time.Time) {
	r.t.Helper()
	r.must(os.Chtimes(r.file(l), time.Time{}, when))
}

func (r *rig) edit(l lockfile.Lock) {
	r.t.Helper()
	f, err := os.OpenFile(r.file(l), os.O_WRONLY|os.O_APPEND, 0)
	r.must(err)
	_, err = f.WriteString(" spam run, see ticket")
	r.must(err)
	r.must(f.Close())
}

// replace puts a file with the same content and time in the place of l's.
func (r *rig) replace(l lockfile.Lock) {
	r.t.Helper()
	b, err := os.ReadFile(r.file(l))
	r.must(err)
	st, err := os.Stat(r.file(l))
	r.must(err)
	temp := filepath.Join(filepath.Dir(r.path), "replacement")
	r.must(os.WriteFile(temp, b, 0o644))
	r.must(os.Chtimes(temp, time.Time{}, st.ModTime()))
	r.must(os.Rename(temp, r.file(l)))
}

// rmRf removes the directory, once the kernel's clock (a tick has up to 10 ms)
// has moved on since it was made: one that is made anew in the same tick, with
// the same inode number, would have the same identity.
func (r *rig) rmRf() {
	r.t.Helper()
	old, err := openDir(r.path)
	r.must(err)
	defer old.close()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		probe, err := os.MkdirTemp(filepath.Dir(r.path), "probe")
		r.must(err)
		h, err := openDir(probe)
		r.must(err)
		h.close()
		r.must(os.Remove(probe))
		if h.id.Born > old.id.Born {
			break
		}
	}
	r.must(os.RemoveAll(r.path))
}

func (r *rig) exists(l lockfile.Lock) bool {
	_, err := os.Lstat(r.file(l))
	return err == nil
}

// state is what Files says of l: "", "sluice" or "operator".
func (r *rig) state(l lockfile.Lock) string {
	for _, f := range r.d.Files(l.Domain) {
		if f.Lock == l && f.Operator {
			return "operator"
		} else if f.Lock == l {
			return "sluice"
		}
	}
	return ""
}

// wantState checks Files, the disk, and that nothing else lies in the directory.
func (r *rig) wantState(l lockfile.Lock, want string) {
	r.t.Helper()
	if got := r.state(l); got != want {
		r.t.Errorf("Files says %s is %q, want %q", entryName(l), got, want)
	}
	if got := r.exists(l); got != (want != "") {
		r.t.Errorf("file %s stands: %v, want it %q", entryName(l), got, want)
	}
	entries, err := os.ReadDir(r.path)
	r.must(err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			r.t.Errorf("%s was left behind", e.Name())
		}
	}
}

// short words events for comparison: kind, file and owner.
func short(events []lockfile.Event) []string {
	names := map[lockfile.EventKind]string{
		lockfile.RemovedByHand: "released", lockfile.Made: "made", lockfile.TakenOver: "taken",
		lockfile.DirLost: "lost", lockfile.Trouble: "trouble",
		lockfile.DirMended: "mended", lockfile.DirShared: "shared",
		lockfile.Ignored: "ignored",
	}
	words := []string{}
	for _, e := range events {
		w := names[e.Kind]
		if e.File.Lock != (lockfile.Lock{}) {
			w += " " + entryName(e.File.Lock)
		}
		if e.File.Operator {
			w += " operator"
		}
		words = append(words, w)
	}
	return words
}

func (r *rig) wantEvents(got []lockfile.Event, want ...string) {
	r.t.Helper()
	if s := short(got); !slices.Equal(s, want) {
		r.t.Errorf("events %q, want %q", s, want)
		for _, e := range got {
			r.t.Logf("%v", e)
		}
	}
}
