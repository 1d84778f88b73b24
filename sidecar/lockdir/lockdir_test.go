package lockdir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"sluice/sidecar/lockfile"
)

func TestMakeAndUnmake(t *testing.T) {
	r := newRig(t)
	defer unix.Umask(unix.Umask(0o077))
	r.make(hourly)
	r.wantState(hourly, "sluice")
	b, err := os.ReadFile(r.file(hourly))
	r.must(err)
	st, err := os.Stat(r.file(hourly))
	r.must(err)
	if string(b) != "20/20 (100%)" || st.Mode() != 0o644 {
		t.Errorf("content %q, mode %v", b, st.Mode())
	}
	want := []lockfile.File{{Lock: hourly, Since: st.ModTime(), Epoch: 7, Content: "20/20 (100%)"}}
	if diff := cmp.Diff(want, r.d.Files("")); diff != "" {
		t.Error(diff)
	}
	r.must(r.d.Unmake(deferfail)) // there is none
	r.must(r.d.Unmake(hourly))
	r.wantState(hourly, "")
	if len(r.notes.m) != 0 {
		t.Errorf("notes are left: %v", r.notes.m)
	}
	r.wantEvents(r.settle())
}

func TestMakeAgainChangesNothing(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	before := r.d.Files("")
	writes := r.notes.writes
	r.must(r.d.Make(hourly, "21/20 (105%)", 8))
	if diff := cmp.Diff(before, r.d.Files("")); diff != "" || r.notes.writes != writes {
		t.Errorf("%d notes written; %s", r.notes.writes-writes, diff)
	}
}

func TestHandRemoves(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	r.make(other)
	r.rm(hourly)
	r.d.scan(r.now)
	r.d.scan(r.now.Add(quiet - 1))
	r.wantEvents(r.reported())
	r.d.scan(r.now.Add(quiet))
	events := r.reported()
	r.wantEvents(events, "released max_hourly_example.com")
	if events[0].File.Epoch != 7 {
		t.Errorf("epoch %d released, want the one it saw, 7", events[0].File.Epoch)
	}
	r.wantState(hourly, "")
	r.wantState(other, "sluice")
	r.wantEvents(r.settle())
}

func TestHandRemovesWhileSluiceIsDown(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	r.create(other)
	r.wantEvents(r.settle(), "made max_hourly_example.org operator")
	r.rm(hourly)
	r.rm(other)
	r.open()
	events := r.settle()
	r.wantEvents(events, "released max_hourly_example.com", "released max_hourly_example.org operator")
	if events[0].File.Epoch != 7 {
		t.Errorf("epoch %d released, want 7", events[0].File.Epoch)
	}
	r.open()
	r.wantEvents(r.settle())
}

// A release that was not reported before the crash is reported again.
func TestReleaseIsToldUntilHeard(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	r.rm(hourly)
	r.d.scan(r.now)
	r.d.scan(r.now.Add(patience)) // pending now
	r.open()
	r.wantEvents(r.settle(), "released max_hourly_example.com")
	if len(r.notes.m) != 0 {
		t.Errorf("notes are left: %v", r.notes.m)
	}
}

// Whoever hears of a release may lock the domain anew; that lock is kept.
func TestMakeWhileReleaseIsHeard(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	r.rm(hourly)
	r.d.scan(r.now)
	r.d.scan(r.now.Add(patience))
	r.d.Deliver(func(lockfile.Event) { r.must(r.d.Make(hourly, "20/20 (100%)", 8)) })
	r.open()
	r.wantEvents(r.settle())
	r.wantState(hourly, "sluice")
}

func TestMakeAndUnmakeLeaveAHandToTheScan(t *testing.T) {
	for name, do := range map[string]func(*rig){
		"make":   func(r *rig) { r.make(hourly) },
		"unmake": func(r *rig) { r.must(r.d.Unmake(hourly)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.make(hourly)
			r.rm(hourly)
			do(r)
			r.wantEvents(r.settle(), "released max_hourly_example.com")
			r.wantState(hourly, "")
		})
	}
}

func TestHandTakes(t *testing.T) {
	for name, take := range map[string]func(*rig){
		"touch":   func(r *rig) { r.touch(hourly, noon) },
		"edit":    func(r *rig) { r.edit(hourly) },
		"replace": func(r *rig) { r.replace(hourly) },
		"edit, same size and time": func(r *rig) {
			st, err := os.Stat(r.file(hourly))
			r.must(err)
			r.must(os.WriteFile(r.file(hourly), []byte("99/99 (100%)"), 0o644))
			r.touch(hourly, st.ModTime())
		},
		"link": func(r *rig) {
			r.rm(hourly)
			r.must(os.Symlink("/nonexistent", r.file(hourly)))
		},
	} {
		t.Run(name+", seen by a scan", func(t *testing.T) {
			r := newRig(t)
			r.make(hourly)
			r.settle()
			take(r)
			r.wantEvents(r.settle(), "taken max_hourly_example.com operator")
			r.must(r.d.Unmake(hourly))
			r.wantState(hourly, "operator")
			r.rm(hourly)
			r.wantEvents(r.settle(), "released max_hourly_example.com operator")
		})
		t.Run(name+", seen by Unmake", func(t *testing.T) {
			r := newRig(t)
			r.make(hourly)
			take(r)
			r.must(r.d.Unmake(hourly))
			r.wantState(hourly, "operator")
			r.wantEvents(r.settle(), "taken max_hourly_example.com operator")
		})
		t.Run(name+", while down", func(t *testing.T) {
			r := newRig(t)
			r.make(hourly)
			take(r)
			r.open()
			r.wantEvents(r.settle(), "taken max_hourly_example.com operator")
			r.wantState(hourly, "operator")
		})
	}
}

func TestChmodAndHardLinkTakeNothing(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	r.must(os.Chmod(r.file(hourly), 0o600))
	r.must(os.Link(r.file(hourly), filepath.Join(filepath.Dir(r.path), "kept")))
	r.wantEvents(r.settle())
	r.wantState(hourly, "sluice")
}

func TestHandMakes(t *testing.T) {
	r := newRig(t)
	r.create(hourly)
	r.touch(hourly, time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)) // JSON knows no such year
	r.make(hourly)                                                // before any scan
	r.wantState(hourly, "operator")
	r.wantEvents(r.settle(), "made max_hourly_example.com operator")
	if y := r.d.Files("")[0].Since.UTC().Year(); y > 9999 {
		t.Errorf("since %d", y)
	}
	r.edit(hourly) // their own file
	r.wantEvents(r.settle())
	r.must(r.d.Unmake(hourly))
	r.wantState(hourly, "operator")
	if c := r.d.Files("example.com")[0].Content; c != " spam run, see ticket" {
		t.Errorf("content %q", c)
	}
	r.rm(hourly)
	r.wantEvents(r.settle(), "released max_hourly_example.com operator")
}

func TestMakeOperator(t *testing.T) {
	r := newRig(t)
	r.must(r.d.MakeOperator(hourly, "locked by root"))
	r.wantState(hourly, "operator")
	r.must(r.d.Unmake(hourly))
	r.make(hourly)
	r.wantState(hourly, "operator")

	r.make(other)
	r.must(r.d.MakeOperator(other, "locked by root")) // ours stands
	r.must(r.d.Unmake(other))
	r.wantState(other, "operator")
	r.open()
	r.wantState(other, "operator")
	r.wantEvents(r.settle())
}

func TestRemove(t *testing.T) {
	r := newRig(t)
	r.must(r.d.Remove(hourly)) // there is none
	r.make(hourly)
	r.create(deferfail)
	r.create(other) // not seen yet
	r.d.check(r.now, deferfail)
	for _, l := range []lockfile.Lock{hourly, deferfail, other} {
		r.must(r.d.Remove(l))
		r.wantState(l, "")
	}
	r.wantEvents(r.settle())

	r.make(hourly)
	r.rm(hourly)
	r.settleQuietly()
	r.must(r.d.Remove(hourly)) // an operator was faster and is not reported yet
	r.wantEvents(r.settle())
	r.open()
	r.wantEvents(r.settle())
	if len(r.notes.m) != 0 {
		t.Errorf("notes are left: %v", r.notes.m)
	}
}

// settleQuietly is settle that leaves the events pending.
func (r *rig) settleQuietly() {
	for range 3 {
		r.d.scan(r.now)
		r.now = r.now.Add(patience)
	}
}

func TestMove(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	r.must(os.Rename(r.file(hourly), r.file(other)))
	r.wantEvents(r.settle(), "made max_hourly_example.org operator", "released max_hourly_example.com")
}

// Editors rename the old file away and write a new one.
func TestEditorReplacesSlowly(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	r.must(os.Rename(r.file(hourly), r.file(hourly)+"~"))
	r.d.scan(r.now)
	r.create(hourly)
	r.wantEvents(r.settle(), "taken max_hourly_example.com operator")
}

func TestFilesOfADomain(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	r.make(other)
	r.must(r.d.Make(deferfail, "6/20 (30%)", 1))
	names := func(files []lockfile.File) (s string) {
		for _, f := range files {
			s += entryName(f.Lock) + " "
		}
		return strings.TrimSpace(s)
	}
	for domain, want := range map[string]string{
		"example.com": "max_deferfail_example.com max_hourly_example.com",
		"example.net": "",
		"":            "max_deferfail_example.com max_hourly_example.com max_hourly_example.org",
	} {
		if got := names(r.d.Files(domain)); got != want {
			t.Errorf("Files(%q) = %q, want %q", domain, got, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, o := range []Options{{Path: "limits", Notes: newNotes()}, {Path: "", Notes: newNotes()}, {Path: t.TempDir()}} {
		if _, err := Open(o); err == nil {
			t.Errorf("Open(%+v) succeeded", o)
		}
	}
}

func TestNotesThatAreNotUnderstood(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	r.notes.m["lock/max_hourly/example.com"] = "{"
	r.notes.m["lock/max_hourly/../../etc/passwd"] = `{"state":"unmaking"}`
	r.notes.m["lock/max_hourly/example.org"] = `{"state":"asleep"}`
	r.open()
	r.wantEvents(r.settle(), "trouble", "trouble", "trouble", "made max_hourly_example.com operator")
	if len(r.notes.m) != 1 {
		t.Errorf("notes are left: %v", r.notes.m)
	}
}
