package lockdir

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/sidecar/lockfile"
)

// A modelFile is a file as the model knows it. Each has a number of its own,
// each directory too.
type modelFile struct {
	serial int  // 0: there is none
	hand   bool // touched, edited or made by an operator
	from   int  // index of the lock it was made for
	text   string
}

// A modelLock is what Sluice should believe of a lock.
type modelLock struct {
	known, operator bool
	serial          int // of the file it knows
	dir             int // in which directory; 0: not made yet
	text            string
}

// A model is the plain model: what is on the disk, what Sluice knows, and the
// events that are due, without any of the states in between.
type model struct {
	*rig
	rt     *rapid.T
	serial int
	dir    int // number of the directory; it is gone while lost
	seen   int // the directory at the last scan
	lost   bool
	locks  []lockfile.Lock
	disk   []modelFile
	known  []modelLock
	leave  []bool // to be removed when there is a directory
	events []string
	mtime  time.Time
}

func newModel(rt *rapid.T, t *testing.T) *model {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	m := &model{rig: &rig{t: t, path: filepath.Join(dir, "limits"), notes: newNotes(), now: noon}, rt: rt, dir: 1, seen: 1, mtime: noon}
	m.locks = []lockfile.Lock{deferfail, hourly, other}
	m.disk = make([]modelFile, len(m.locks))
	m.known = make([]modelLock, len(m.locks))
	m.leave = make([]bool, len(m.locks))
	m.open()
	return m
}

// any draws a lock.
func (m *model) any() int { return rapid.IntRange(0, len(m.locks)-1).Draw(m.rt, "lock") }

func (m *model) due(i int, what string) {
	event := what + " " + entryName(m.locks[i])
	if m.known[i].operator {
		event += " operator"
	}
	m.events = append(m.events, event)
}

// newFile puts a new file of Sluice's on the disk.
func (m *model) newFile(i int) {
	m.serial++
	m.disk[i] = modelFile{serial: m.serial, from: i, text: m.known[i].text}
	m.known[i].serial, m.known[i].dir = m.serial, m.dir
}

// ours reports whether the file is the very one that Sluice made, or one with
// its content in a directory that came instead.
func (m *model) ours(i int) bool {
	k, f := m.known[i], m.disk[i]
	if k.dir != 0 && k.dir != m.dir {
		return f.text == k.text
	}
	return !f.hand && f.from == i && f.serial == k.serial
}

// adopt has Sluice know the file as it is.
func (m *model) adopt(i int, operator bool) {
	m.known[i] = modelLock{true, operator, m.disk[i].serial, m.dir, m.disk[i].text}
}

func (m *model) operators(i int, event string) {
	m.adopt(i, true)
	m.due(i, event)
}

// What Sluice does.

func (m *model) Make(operator bool) {
	i := m.any()
	text := fmt.Sprintf("%d/20 (100%%)", 20+i) // no other lock's, should a hand move it there
	if operator {
		m.must(m.d.MakeOperator(m.locks[i], text))
	} else {
		m.must(m.d.Make(m.locks[i], text, 7))
	}
	if k := &m.known[i]; k.known {
		k.operator = k.operator || operator
		if k.dir == 0 && !m.lost {
			m.makeWish(i, text)
		} else if k.dir == 0 {
			k.text = text
		}
		return
	}
	m.leave[i] = false
	switch {
	case m.lost: // made with its directory
		m.known[i] = modelLock{known: true, operator: operator, text: text}
	case m.disk[i].serial != 0:
		m.operators(i, "made")
	default:
		m.known[i] = modelLock{known: true, operator: operator, text: text}
		m.newFile(i)
	}
}

// makeWish makes a lock that was wanted while there was no directory.
func (m *model) makeWish(i int, text string) {
	if m.disk[i].serial != 0 {
		m.operators(i, "made")
		return
	}
	m.known[i].text = text
	m.newFile(i)
}

func (m *model) Unmake() {
	i := m.any()
	m.must(m.d.Unmake(m.locks[i]))
	k := &m.known[i]
	switch {
	case m.leave[i] && !m.lost:
		m.leave[i] = false
		if m.disk[i].serial != 0 {
			m.operators(i, "made")
		}
	case !k.known || k.operator:
	case m.lost:
		m.leave[i] = k.dir != 0
		*k = modelLock{}
	case m.disk[i].serial == 0 && k.dir == m.dir: // an operator, told by the next scan
	case m.disk[i].serial == 0:
		*k = modelLock{}
	case m.ours(i):
		*k, m.disk[i] = modelLock{}, modelFile{}
	case k.dir == 0: // never made
		m.operators(i, "made")
	default:
		m.operators(i, "taken")
	}
}

func (m *model) Remove() {
	i := m.any()
	m.must(m.d.Remove(m.locks[i]))
	m.leave[i] = m.lost && (m.leave[i] || m.known[i].known && m.known[i].dir != 0)
	m.known[i], m.disk[i] = modelLock{}, modelFile{}
	m.events = slices.DeleteFunc(m.events, func(e string) bool { return strings.Contains(e, entryName(m.locks[i])) })
}

// What operators do. Each reports whether it could.

func (m *model) Touch() {
	if i := m.any(); m.disk[i].serial != 0 {
		m.mtime = m.mtime.Add(time.Second)
		m.touch(m.locks[i], m.mtime)
		m.disk[i].hand = true
	}
}

func (m *model) Edit() {
	if i := m.any(); m.disk[i].serial != 0 {
		m.edit(m.locks[i])
		m.disk[i].hand = true
		m.disk[i].text += "+"
	}
}

func (m *model) Replace() {
	if i := m.any(); m.disk[i].serial != 0 {
		m.replace(m.locks[i])
		m.mtime = m.mtime.Add(time.Second) // the inode number may be that of a file before
		m.touch(m.locks[i], m.mtime)
		m.serial++
		m.disk[i] = modelFile{serial: m.serial, hand: true, text: m.disk[i].text}
	}
}

func (m *model) Create() {
	if i := m.any(); m.disk[i].serial == 0 && !m.lost {
		m.create(m.locks[i])
		m.serial++
		m.disk[i] = modelFile{serial: m.serial, hand: true}
	}
}

func (m *model) Rm() {
	if i := m.any(); m.disk[i].serial != 0 {
		m.rm(m.locks[i])
		m.disk[i] = modelFile{}
	}
}

func (m *model) Mv() {
	if i, j := m.any(), m.any(); i != j && m.disk[i].serial != 0 {
		m.must(os.Rename(m.file(m.locks[i]), m.file(m.locks[j])))
		m.disk[i], m.disk[j] = modelFile{}, m.disk[i]
	}
}

func (m *model) LoseDir() {
	if !m.lost {
		m.rmRf()
	}
	m.disk = make([]modelFile, len(m.locks))
	m.dir++
	m.lost = true
	if rapid.Bool().Draw(m.rt, "remade by a hand") {
		m.must(os.Mkdir(m.path, 0o755))
		m.lost = false
	}
}

// Settle scans, with restart after starting Sluice again, and compares.
func (m *model) Settle(restart bool) {
	got := m.reported() // what the methods found by themselves
	if restart {
		m.open()
		m.seen = m.dir
	}
	got = append(got, m.settle()...)
	m.scanned()
	if g, w := slices.Sorted(slices.Values(short(got))), slices.Sorted(slices.Values(m.events)); !slices.Equal(g, w) {
		m.rt.Fatalf("events %q, want %q", g, w)
	}
	m.events = nil
	m.compare()
}

// scanned is what a scan does to the model.
func (m *model) scanned() {
	lost := m.seen != m.dir
	m.seen, m.lost = m.dir, false
	clear(m.leave)
	for i := range m.locks {
		k, f := m.known[i], m.disk[i]
		switch {
		case !k.known && f.serial == 0:
		case !k.known:
			m.operators(i, "made")
		case f.serial == 0 && k.dir == m.dir:
			m.due(i, "released")
			m.known[i] = modelLock{}
		case f.serial == 0:
			m.newFile(i)
			lost = lost || k.dir != 0
		case k.dir == 0:
			m.operators(i, "made")
		case k.operator || m.ours(i):
			m.adopt(i, k.operator)
		default:
			m.operators(i, "taken")
		}
	}
	if lost {
		m.events = append(m.events, "lost")
	}
}

// compare checks Files, the disk and the notes against the model.
func (m *model) compare() {
	notes := 0
	for i, l := range m.locks {
		want := ""
		if k := m.known[i]; k.known && k.operator {
			want = "operator"
		} else if k.known {
			want = "sluice"
		}
		if want != "" {
			notes++
		}
		if got := m.state(l); got != want {
			m.rt.Fatalf("%s is %q, want %q", entryName(l), got, want)
		}
		if m.exists(l) != (want != "") {
			m.rt.Fatalf("file %s stands: %v, want it %q", entryName(l), m.exists(l), want)
		}
	}
	entries, err := os.ReadDir(m.path)
	m.must(err)
	if len(entries) != notes || len(m.notes.m) != notes {
		m.rt.Fatalf("%d files and %d notes, want %d", len(entries), len(m.notes.m), notes)
	}
}

func TestAgainstTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(rt, t)
		defer func() { m.must(os.RemoveAll(filepath.Dir(m.path))) }()
		actions := map[string]func(*rapid.T){
			"make":          func(*rapid.T) { m.Make(false) },
			"make operator": func(*rapid.T) { m.Make(true) },
			"unmake":        func(*rapid.T) { m.Unmake() },
			"remove":        func(*rapid.T) { m.Remove() },
			"hand":          func(*rapid.T) { m.hand() },
			"lose":          func(*rapid.T) { m.LoseDir() },
			"settle":        func(*rapid.T) { m.Settle(false) },
			"restart":       func(*rapid.T) { m.Settle(true) },
		}
		rt.Repeat(actions)
		m.Settle(false)
	})
}

func (m *model) hand() {
	hands := []func(){m.Touch, m.Edit, m.Replace, m.Create, m.Rm, m.Mv}
	hands[rapid.IntRange(0, len(hands)-1).Draw(m.rt, "hand")]()
}
