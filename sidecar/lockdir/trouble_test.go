package lockdir

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/sidecar/hosttest"
)

// privileged skips a test that needs what only root may, except in CI.
func privileged(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		hosttest.Missing(t, err)
	}
}

// ownMounts gives the test's thread its own mounts. The thread ends with the
// test, because nothing unlocks it.
func ownMounts(t *testing.T) {
	runtime.LockOSThread()
	privileged(t, unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS))
	privileged(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
}

func (r *rig) mount(options string) {
	r.t.Helper()
	r.must(unix.Mount("tmpfs", r.path, "tmpfs", 0, options))
	r.t.Cleanup(func() { unix.Unmount(r.path, unix.MNT_DETACH) })
}

func TestMountedOverAndUnmounted(t *testing.T) {
	ownMounts(t)
	r := lossRig(t)
	r.mount("")
	r.wantEvents(r.settle(), "lost")
	r.wantState(hourly, "sluice")
	r.wantState(other, "operator")
	r.rm(other) // an operator, in the new directory
	r.wantEvents(r.settle(), "released max_hourly_example.org operator")
	r.must(unix.Unmount(r.path, 0)) // nothing of ours keeps it mu
	r.wantEvents(r.settle(), "made max_hourly_example.org operator", "lost")
	r.wantState(hourly, "sluice")
}

func TestReadOnlyDirectory(t *testing.T) {
	ownMounts(t)
	r := newRig(t)
	r.mount("")
	r.settle()
	r.make(hourly)
	r.must(unix.Mount("", r.path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))

	for what, err := range map[string]error{
		"make":     r.d.Make(deferfail, "6/20 (30%)", 1),
		"operator": r.d.MakeOperator(other, "locked by root"),
		"unmake":   r.d.Unmake(hourly),
	} {
		if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "mount it read-write") ||
			!strings.Contains(err.Error(), r.path) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r.wantEvents(r.settle(), "trouble") // once for all, and not at each poll
	r.wantEvents(r.settle())
	if files := r.d.Files(""); len(files) != 2 || files[0].Lock != deferfail || files[1].Lock != other {
		t.Errorf("files %v, want those to be made, and not the one to be removed", files)
	}

	r.must(unix.Mount("", r.path, "", unix.MS_REMOUNT, ""))
	r.wantEvents(r.settle(), "mended")
	r.wantState(hourly, "")
	r.wantState(deferfail, "sluice")
	r.wantState(other, "operator")
}

func TestUnmakeFailsAndIsWantedAgain(t *testing.T) {
	ownMounts(t)
	r := newRig(t)
	r.mount("")
	r.settle()
	r.make(hourly)
	r.must(unix.Mount("", r.path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if err := r.d.Unmake(hourly); err == nil {
		t.Error("removed from a read-only file system")
	}
	r.must(r.d.Make(hourly, "20/20 (100%)", 8)) // it stands already
	r.must(unix.Mount("", r.path, "", unix.MS_REMOUNT, ""))
	r.wantEvents(r.settle())
	r.wantState(hourly, "sluice")
}

func TestFullDirectory(t *testing.T) {
	ownMounts(t)
	r := newRig(t)
	r.mount("nr_inodes=2")
	r.settle()
	r.create(other)
	r.settle()
	if err := r.d.Make(hourly, "20/20 (100%)", 1); !errors.Is(err, unix.ENOSPC) ||
		!strings.Contains(err.Error(), "free some space") {
		t.Error(err)
	}
	r.wantEvents(r.settle(), "trouble")
	r.rm(other)
	r.wantEvents(r.settle(), "mended", "released max_hourly_example.org operator")
	r.wantState(hourly, "sluice")
}

func TestNotADirectory(t *testing.T) {
	r := lossRig(t)
	r.rmRf()
	r.must(os.WriteFile(r.path, nil, 0o644))
	if err := r.d.Make(deferfail, "6/20 (30%)", 1); !errors.Is(err, unix.ENOTDIR) {
		t.Error(err)
	}
	r.wantEvents(r.settle(), "trouble")
	if r.d.unsettled() {
		t.Error("a directory that cannot be opened is looked at more often than the poll")
	}
	r.must(os.Remove(r.path))
	r.wantEvents(r.settle(), "lost", "mended")
	r.wantState(hourly, "sluice")
	r.wantState(deferfail, "sluice")
	r.wantState(other, "operator")
}

func TestDirectoryCannotBeMadeAtOpen(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "parent")
	r := &rig{t: t, path: filepath.Join(parent, "limits"), notes: newNotes(), now: noon}
	r.must(os.WriteFile(parent, nil, 0o644))
	r.open()
	if err := r.d.Make(hourly, "20/20 (100%)", 7); !errors.Is(err, unix.ENOTDIR) {
		t.Error(err)
	}
	r.wantEvents(r.settle(), "trouble")
	r.must(os.Remove(parent))
	r.wantEvents(r.settle(), "mended")
	r.wantState(hourly, "sluice")
}

func TestNotesFail(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	r.notes.fail = errors.New("disk full")
	if err := r.d.Make(other, "20/20 (100%)", 1); err == nil || r.exists(other) {
		t.Errorf("made a file that a crash would orphan: %v", err)
	}
	if err := r.d.Unmake(hourly); err == nil || !r.exists(hourly) {
		t.Errorf("removed a file whose absence would look like a hand: %v", err)
	}
	r.create(deferfail)
	r.wantEvents(r.settle(), "made max_deferfail_example.com operator", "trouble")
	r.notes.fail = nil
	r.settle()
	r.open()
	r.wantEvents(r.settle())
	r.wantState(hourly, "")
	r.wantState(other, "sluice")
	r.wantState(deferfail, "operator")
}

// While the journal cannot be written a lock of Sluice's has no file: after a crash
// it would be the operator's, and stay for ever.
func TestNotesThatACrashWouldLose(t *testing.T) {
	r := newRig(t)
	r.notes.unkept = unix.ENOSPC
	if err := r.d.Make(hourly, "20/20 (100%)", 1); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "max_hourly_example.com") {
		t.Errorf("made: %v", err)
	}
	r.must(r.d.MakeOperator(other, "locked by root"))
	r.wantEvents(r.settle(), "trouble")
	if r.exists(hourly) {
		t.Error("its file stands")
	}
	r.wantState(other, "operator")

	r.notes.unkept = nil
	r.wantEvents(r.settle(), "mended")
	r.wantState(hourly, "sluice")
	r.open()
	r.wantEvents(r.settle())
	r.wantState(hourly, "sluice")

	r.notes.full = r.notes.writes + 1
	if err := r.d.Make(deferfail, "6/20 (30%)", 1); !errors.Is(err, unix.ENOSPC) || r.exists(deferfail) {
		t.Errorf("made while its note was lost: %v", err)
	}
	r.must(r.d.Unmake(hourly)) // what goes needs no note: its absence releases
	r.wantState(hourly, "")
}
