package lockdir

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/sidecar/event"
	"sluice/sidecar/lock"
	"sluice/sidecar/lockfile"
)

// said is what the operator reads of events.
func said(events []lockfile.Event) string {
	var b bytes.Buffer
	log := event.NewStream(event.NewLog(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Value.String() == "" {
				return slog.Attr{}
			}
			return a
		}}))))
	for _, e := range events {
		log.Emit(lock.EventOf(e))
	}
	return b.String()
}

const (
	inTrouble = `msg="lock directory in trouble: domains are counted and refused all the same, but not while sluice is stopped" error="`
	byItself  = `; tried again by itself"` + "\n"
	mendedNow = `msg="lock directory mended: all lock files are as they should be" dir=`
)

// A condition is something that an operator has to put right.
type condition struct {
	before  func(r *rig) // while all is well
	begin   func(r *rig)
	hourly  bool // a lock is to be made
	usage   bool // a usage file is to be written
	trouble string
	lost    string
	end     func(r *rig)
}

func (r *rig) remount(flags uintptr) {
	r.t.Helper()
	r.must(unix.Mount("", r.path, "", unix.MS_REMOUNT|flags, ""))
}

// as has this thread, and no other, be another user until it is root again.
func (r *rig) as(uid uintptr) {
	r.t.Helper()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, 0); errno != 0 {
		privileged(r.t, errno)
	}
}

const nobody = 65534

// immutable is `chattr +i`, or -i.
func (r *rig) immutable(on bool) {
	r.t.Helper()
	dir, err := os.Open(r.path)
	r.must(err)
	defer dir.Close()
	flags, err := unix.IoctlGetUint32(int(dir.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		flags &^= unix.STATX_ATTR_IMMUTABLE // the same bit as FS_IMMUTABLE_FL
		if on {
			flags |= unix.STATX_ATTR_IMMUTABLE
		}
		err = unix.IoctlSetPointerInt(int(dir.Fd()), unix.FS_IOC_SETFLAGS, int(flags))
	}
	privileged(r.t, err) // or a file system that does not know it
}

// searchable lets all users reach the directory.
func (r *rig) searchable() {
	for _, dir := range []string{filepath.Dir(r.path), filepath.Dir(filepath.Dir(r.path))} {
		r.must(os.Chmod(dir, 0o755))
	}
}

var conditions = map[string]condition{
	"read-only, no lock due": {
		before:  func(r *rig) { r.mount("") },
		begin:   func(r *rig) { r.remount(unix.MS_RDONLY) },
		trouble: "write to lock directory DIR: read-only file system: mount it read-write (in a systemd unit: ReadWritePaths) or set locks.dir to another directory",
		end:     func(r *rig) { r.remount(0) },
	},
	"read-only": {
		before:  func(r *rig) { r.mount("") },
		begin:   func(r *rig) { r.remount(unix.MS_RDONLY) },
		hourly:  true,
		trouble: "make lock file DIR/max_hourly_example.com: read-only file system: mount it read-write (in a systemd unit: ReadWritePaths) or set locks.dir to another directory",
		end:     func(r *rig) { r.remount(0) },
	},
	"no inodes left": {
		before:  func(r *rig) { r.mount("nr_inodes=3") },
		begin:   func(r *rig) { r.write("full.txt", ""); r.write("fuller.txt", "") },
		hourly:  true,
		trouble: "make lock file DIR/max_hourly_example.com: no space left on device: free some space or inodes there",
		end:     func(r *rig) { r.must(os.Remove(filepath.Join(r.path, "full.txt"))) },
	},
	"full": {
		before:  func(r *rig) { r.mount("size=4k") },
		begin:   func(r *rig) { r.write("full.txt", strings.Repeat("x", 4096)) },
		hourly:  true,
		trouble: "make lock file DIR/max_hourly_example.com: no space left on device: free some space or inodes there",
		end:     func(r *rig) { r.must(os.Remove(filepath.Join(r.path, "full.txt"))) },
	},
	"full, no lock due": {
		before:  func(r *rig) { r.mount("size=4k") },
		begin:   func(r *rig) { r.write("full.txt", strings.Repeat("x", 4096)) },
		usage:   true,
		trouble: "write usage file DIR/example.org: no space left on device: free some space or inodes there",
		end:     func(r *rig) { r.must(os.Remove(filepath.Join(r.path, "full.txt"))) },
	},
	"may not be opened": {
		begin:   func(r *rig) { r.as(nobody) },
		hourly:  true,
		trouble: "open lock directory DIR: permission denied: run sluice as root or give its user the directory",
		end:     func(r *rig) { r.as(0) },
	},
	"may not be written": {
		before:  func(r *rig) { r.searchable() },
		begin:   func(r *rig) { r.as(nobody) },
		trouble: "write to lock directory DIR: permission denied: run sluice as root or give its user the directory",
		end:     func(r *rig) { r.as(0) },
	},
	"immutable": {
		begin:   func(r *rig) { r.immutable(true) },
		trouble: "write to lock directory DIR: operation not permitted: run sluice as root or give its user the directory; if it is root, chattr -i",
		end:     func(r *rig) { r.immutable(false) },
	},
	"gone, and may not be made": {
		before:  func(r *rig) { r.searchable() },
		begin:   func(r *rig) { r.rmRf(); r.as(nobody) },
		hourly:  true,
		trouble: "make lock directory DIR: permission denied: run sluice as root or give its user the directory",
		lost:    "made a lock file again: max_hourly_example.org",
		end:     func(r *rig) { r.as(0) },
	},
	"another thing in its place": {
		begin:   func(r *rig) { r.rmRf(); r.must(os.WriteFile(r.path, nil, 0o644)) },
		hourly:  true,
		trouble: "open lock directory DIR: not a directory: move away what stands in the place of a directory",
		lost:    "made a lock file again: max_hourly_example.org",
		end:     func(r *rig) { r.must(os.Remove(r.path)) },
	},
}

// Each condition is reported once, with what to do, shows for as long as it lasts,
// and mends by itself.
func TestHardConditions(t *testing.T) {
	for what, c := range conditions {
		t.Run(what, func(t *testing.T) {
			ownMounts(t)
			r := newRig(t)
			if c.before != nil {
				c.before(r)
			}
			r.settle()
			if c.lost != "" {
				r.must(r.d.Make(other, "20/20 (100%)", 7))
			}
			c.begin(r)
			if c.hourly && r.d.Make(hourly, "20/20 (100%)", 7) == nil && c.lost == "" {
				t.Error("a lock was made")
			}
			if c.usage {
				r.show("example.org")
			}
			trouble := strings.ReplaceAll(c.trouble, "DIR", r.path)
			if got, want := said(r.settle()), inTrouble+trouble+byItself; got != want {
				t.Errorf("said %s\nwant %s", got, want)
			}
			if err := r.d.Failure(); err == nil || err.Error() != trouble {
				t.Errorf("failure: %v", err)
			}
			if got := said(r.settle()); got != "" {
				t.Errorf("said once more: %s", got)
			}
			c.end(r)
			r.mended(c)
		})
	}
}

func (r *rig) mended(c condition) {
	r.t.Helper()
	if c.usage {
		r.show("example.org")
	}
	mended := mendedNow + r.path + "\n"
	want := mended
	if c.lost != "" {
		want = `msg="lock directory was gone or is another one: nothing is released, locks made again" error="lock directory ` +
			r.path + ` was removed, replaced or mounted over; nothing is released; ` + c.lost + `"` + "\n" + mended
	}
	if got := said(r.settle()); got != want {
		r.t.Errorf("said %s\nwant %s", got, want)
	}
	if err := r.d.Failure(); err != nil {
		r.t.Errorf("failure: %v", err)
	}
	if c.hourly {
		r.wantState(hourly, "sluice")
	}
}

func TestMissingParentIsMade(t *testing.T) {
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "a", "b", "limits"), notes: newNotes(), now: noon}
	r.open()
	r.wantEvents(r.settle())
	r.make(hourly)
	r.must(os.RemoveAll(filepath.Join(r.path, "..", "..")))
	r.wantEvents(r.settle(), "lost")
	r.wantState(hourly, "sluice")
}

func TestFailureIsAllThatIsLeft(t *testing.T) {
	r := newRig(t)
	r.d.reports.setTrouble("scan", errors.New("one"))
	r.d.reports.setTrouble("usage", errors.New("two"))
	if err := r.d.Failure(); err.Error() != "one; two" {
		t.Errorf("failure: %v", err)
	}
	r.d.reports.setTrouble("scan", nil)
	if err := r.d.Failure(); err == nil || err.Error() != "two" {
		t.Errorf("failure: %v", err)
	}
	r.wantEvents(r.reported(), "trouble", "trouble")
	r.d.reports.setTrouble("usage", nil)
	r.wantEvents(r.reported(), "mended")
}

// What has kept the lock directory and that of the stopped is mended by one hand: that is reported
// once, of the whole, and not before both are well.
func TestAMendIsReportedOnce(t *testing.T) {
	r := newRig(t)
	stopped, err := Open(Options{Path: filepath.Join(r.path, StoppedName), Within: r.d, Notes: r.notes, Now: r.now})
	r.must(err)
	both := []*Dir{r.d, stopped}
	reported := func() (all []lockfile.Event) {
		for _, d := range both {
			d.Deliver(func(e lockfile.Event) { all = append(all, e) })
		}
		return all
	}
	for range 2 {
		for _, d := range both {
			d.reports.setTrouble("scan", errors.New("read-only"))
			d.reports.setTrouble("usage", errors.New("full"))
		}
		r.wantEvents(reported(), "trouble", "trouble", "trouble", "trouble")
		slices.Reverse(both)
		both[0].reports.setTrouble("scan", nil)
		both[0].reports.setTrouble("usage", nil)
		both[1].reports.setTrouble("scan", nil)
		r.wantEvents(reported())
		both[1].reports.setTrouble("usage", nil)
		got := reported()
		r.wantEvents(got, "mended")
		if got[0].Dir != r.path {
			t.Errorf("mended: %s, want %s", got[0].Dir, r.path)
		}
	}
}

// rm -rf may remove the directory in the midst of a scan.
func TestDirectoryThatGoesDuringAScanIsNoTrouble(t *testing.T) {
	r := newRig(t)
	at, err := openDir(r.path)
	r.must(err)
	defer at.close()
	r.rmRf()
	_, err = r.d.list(at, r.now)
	r.must(err)
	r.must(canWrite(at, r.d.path))
}
