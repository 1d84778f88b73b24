package lockdir

import (
	"os"
	"strings"
	"testing"
)

// lossRig has a lock of Sluice's and one of the operator's.
func lossRig(t *testing.T) *rig {
	r := newRig(t)
	r.make(hourly)
	r.must(r.d.MakeOperator(other, "locked by root"))
	return r
}

func (r *rig) wantNothingReleased() {
	r.t.Helper()
	events := r.settle()
	r.wantEvents(events, "lost")
	if len(events) == 1 && !strings.Contains(events[0].Err.Error(),
		"made 2 lock files again: max_hourly_example.com, max_hourly_example.org") {
		r.t.Errorf("%v", events[0].Err)
	}
	r.wantState(hourly, "sluice")
	r.wantState(other, "operator")
	r.wantEvents(r.settle())
	r.must(r.d.Unmake(hourly))
	r.wantState(hourly, "")
}

func TestDirectoryLost(t *testing.T) {
	for name, lose := range map[string]func(r *rig){
		"removed":          func(r *rig) { r.rmRf() },
		"removed and made": func(r *rig) { r.rmRf(); r.must(os.Mkdir(r.path, 0o755)) },
		"moved":            func(r *rig) { r.must(os.Rename(r.path, r.path+".old")) },
		"replaced by link": func(r *rig) { r.must(os.Rename(r.path, r.path+".old")); r.must(os.Symlink(r.t.TempDir(), r.path)) },
		"removed, file by file": func(r *rig) {
			r.rm(hourly)
			r.d.scan(r.now)
			r.now = r.now.Add(quiet / 2)
			r.rm(other)
			r.d.scan(r.now)
			r.now = r.now.Add(quiet / 2) // hourly is gone for a whole quiet
			r.d.scan(r.now)
			r.rmRf()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := lossRig(t)
			lose(r)
			r.wantNothingReleased()
		})
		t.Run(name+", while down", func(t *testing.T) {
			r := lossRig(t)
			lose(r)
			r.open()
			r.wantNothingReleased()
		})
	}
}

func TestRemoveAllInSameDirectoryReleasesAll(t *testing.T) {
	r := lossRig(t)
	r.rm(hourly)
	r.rm(other)
	r.wantEvents(r.settle(), "released max_hourly_example.com", "released max_hourly_example.org operator")
}

// Files that keep vanishing do not put off a release for ever.
func TestReleaseIsNotPutOffForEver(t *testing.T) {
	r := lossRig(t)
	r.rm(hourly)
	r.d.scan(r.now)
	r.now = r.now.Add(patience - quiet/2)
	r.rm(other)
	r.d.scan(r.now)
	r.wantEvents(r.reported())
	r.now = r.now.Add(quiet / 2)
	r.d.scan(r.now)
	r.wantEvents(r.reported(), "released max_hourly_example.com")
}

// Whoever removed the directory may be about to put another there.
func TestMissingDirectoryIsLeftAMoment(t *testing.T) {
	r := lossRig(t)
	r.rmRf()
	r.d.scan(r.now)
	r.d.scan(r.now.Add(patience - 1))
	if !r.d.unsettled() {
		t.Error("nobody looks again before the poll")
	}
	r.must(os.Mkdir(r.path, 0o755))
	r.wantNothingReleased()
}

func TestDirectoryComesBackWithItsFiles(t *testing.T) {
	r := lossRig(t)
	away := r.path + ".away"
	r.must(os.Rename(r.path, away)) // as unmounting does
	r.wantEvents(r.settle(), "lost")
	r.rmRf()
	r.must(os.Rename(away, r.path))
	r.wantEvents(r.settle(), "lost")
	r.wantState(hourly, "sluice")
	r.wantState(other, "operator")
	r.must(r.d.Unmake(hourly))
	r.wantState(hourly, "")
}

func TestWishesWhileTheDirectoryIsMissing(t *testing.T) {
	r := lossRig(t)
	r.rmRf()
	r.must(r.d.Unmake(hourly))
	r.must(r.d.Make(deferfail, "6/20 (30%)", 3))
	r.must(r.d.Remove(other))
	if f := r.d.Files(""); len(f) != 1 || f[0].Lock != deferfail {
		t.Errorf("files %v", f)
	}
	r.wantEvents(r.settle(), "lost")
	r.wantState(hourly, "")
	r.wantState(other, "")
	r.wantState(deferfail, "sluice")
}

// Wanted again before the directory that it was in is back.
func TestUnmakeAndMakeWhileTheDirectoryIsMissing(t *testing.T) {
	r := lossRig(t)
	away := r.path + ".away"
	r.must(os.Rename(r.path, away))
	r.must(r.d.Unmake(hourly))
	r.must(r.d.Make(hourly, "20/20 (100%)", 8))
	r.must(os.Rename(away, r.path))
	r.wantEvents(r.settle())
	r.wantState(hourly, "sluice")
	if e := r.d.Files(hourly.Domain)[0].Epoch; e != 8 {
		t.Errorf("epoch %d, want 8", e)
	}
}

// An operator sets another locks.dir and starts sluice again.
func TestAnotherPathInTheConfiguration(t *testing.T) {
	for name, move := range map[string]func(r *rig, old string){
		"empty":   func(*rig, string) {},
		"missing": func(r *rig, _ string) { r.must(os.Remove(r.path)) },
		"left":    func(r *rig, old string) { r.must(os.RemoveAll(old)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := lossRig(t)
			old := r.path
			r.path = t.TempDir()
			move(r, old)
			r.open()
			events := r.settle()
			r.wantEvents(events, "lost")
			want := "locks.dir was " + old + " and is " + r.path + " now; nothing is released; " +
				"made 2 lock files again: max_hourly_example.com, max_hourly_example.org; the files in " + old + " stay"
			if len(events) == 1 && !strings.HasPrefix(events[0].Err.Error(), want) {
				t.Errorf("%v, want %s...", events[0].Err, want)
			}
			r.wantState(hourly, "sluice")
			r.wantState(other, "operator")
			r.open()
			r.wantEvents(r.settle())
			r.rm(hourly)
			r.wantEvents(r.settle(), "released max_hourly_example.com")
		})
	}
}

// The directory itself was moved, and the configuration follows.
func TestDirectoryMovedAndThePathToo(t *testing.T) {
	r := lossRig(t)
	old := r.path
	r.path += ".new"
	r.must(os.Rename(old, r.path))
	r.open()
	events := r.settle()
	r.wantEvents(events, "lost")
	if len(events) == 1 && !strings.Contains(events[0].Err.Error(), "no lock had to be made again") {
		t.Error(events[0].Err)
	}
	r.wantState(hourly, "sluice")
	r.wantState(other, "operator")
}
