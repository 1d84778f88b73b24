package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"sluice/sidecar/lockdir"
)

// checkLocks looks at the lock directory, and whether Exim uses it too.
func (d *doctor) checkLocks() {
	const check = "lock directory"
	dir := d.config.Locks.Dir
	info, err := os.Stat(dir)
	shared := lockdir.Shared(dir)
	totals := d.running.status.Totals
	switch {
	case err == nil && !info.IsDir():
		d.wrong(check, "Move away what stands in its place, and: mkdir -p "+dir, "%s is no directory: a limit does not hold while sluice is stopped", dir)
	case err != nil:
		d.wrong(check, "mkdir -p "+dir, "%s is no directory: a limit does not hold while sluice is stopped", dir)
	case info.Mode().Perm()&0o002 != 0:
		d.wrong(check, "chmod o-w "+dir, "any local user may write to %s, and so lock and release every domain", dir)
	case d.running.err == nil && totals.Locks != "ok":
		d.wrong(check, "See to "+dir+"; under systemd a directory elsewhere needs a drop-in with ReadWritePaths="+dir+".", "%s", totals.Locks)
	case errors.Is(syscall.Access(dir, 2), syscall.EROFS):
		d.wrong(check, "Set locks.dir, and SLUICE_LOCKS in Exim's macros, to one that can be written to.", "%s cannot be written to: read-only file system", dir)
	case shared != nil:
		d.wrong(check, "Part them.", "cPanel's own limiter uses it too: its locks count as made by hand, and ours that it removes as released by hand: %v", shared)
	case !d.hasExim:
		d.ok(check, "%s, for sluice; no Exim looks into it", dir)
	default:
		d.checkEximsLocks(dir)
	}
}

// checkEximsLocks looks whether Exim looks into the lock directory.
func (d *doctor) checkEximsLocks(dir string) {
	const check = "lock directory"
	theirs, known := d.exim.Macro(d.ctx, "SLUICE_LOCKS")
	enters, err := d.exim.Expand(d.ctx, d.exim.User, "${if exists{"+dir+"/.}{yes}{no}}")
	switch {
	case !known:
		d.wrong(check, reinstall, "Exim's macros have no SLUICE_LOCKS: it looks for lock files nowhere, and no limit holds while sluice is stopped")
	case !sameFile(dir, theirs):
		d.wrong(check, "Set SLUICE_LOCKS = "+dir+" in Exim's macros, or locks.dir = \""+theirs+"\".",
			"sluice makes lock files in %s, and Exim looks for them in %s", dir, theirs)
	case err == nil && enters != "yes":
		d.wrong(check, "Let "+d.exim.User+" enter "+dir+": each directory of the path needs x for it.", "%s cannot look into %s", d.exim.User, dir)
	default:
		d.checkStopped(dir)
	}
}

// checkStopped looks whether Exim, and nobody else, sees who is stopped while sluice does not
// answer.
func (d *doctor) checkStopped(locks string) {
	const check = "lock directory"
	dir := filepath.Join(locks, lockdir.StoppedName)
	info, err := os.Lstat(dir)
	enters, asked := d.exim.Expand(d.ctx, d.exim.User, "${if exists{"+dir+"/.}{yes}{no}}")
	switch {
	case err != nil || !info.IsDir():
		d.wrong(check, "mkdir -m 711 "+dir, "%s is no directory: whom sluice stop has stopped may send while sluice does not run", dir)
	case info.Mode().Perm()&0o006 != 0:
		d.wrong(check, "chmod 711 "+dir, "any local user may list or change who is stopped (%s has mode %04o)", dir, info.Mode().Perm())
	case asked == nil && enters != "yes":
		d.wrong(check, "chmod 711 "+dir, "%s cannot look into %s: whom sluice stop has stopped may send while sluice does not run", d.exim.User, dir)
	default:
		d.ok(check, "%s, for sluice and for Exim", locks)
	}
}

// checkClock asks the kernel whether somebody keeps its clock right.
func (d *doctor) checkClock() {
	if zone, err := d.exim.Expand(d.ctx, "", "$tod_zone"); err == nil && zone != time.Now().Format("-0700") {
		d.note("clock", "Where Exim's log has no zones, start sluice with Exim's (TZ in its unit).", "Exim's time zone is %s, and here it is %s", zone, time.Now().Format("-0700"))
	}
	d.reportClock(syscall.Adjtimex(&syscall.Timex{}))
}

// reportClock reports what adjtimex(2) has returned.
func (r *report) reportClock(state int, err error) {
	const unsynchronised = 5 // TIME_ERROR
	switch {
	case err != nil:
		r.note("clock", "", "whether anybody keeps the system's clock right cannot be told: %v", err)
	case state == unsynchronised:
		r.note("clock", "Run chrony or systemd-timesyncd: windows do not mind, dates in logs and refusals do.", "nobody keeps the system's clock right")
	default:
		r.ok("clock", "the system's clock is kept right")
	}
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// checkPassword looks who may read the configuration file, if a password is in it: with it
// any local user could change the counts in Redis.
func (d *doctor) checkPassword() {
	info, err := os.Stat(d.File)
	if err != nil || !d.config.HasPassword() {
		return
	}
	if mode := info.Mode().Perm(); mode&0o004 != 0 {
		d.wrong("password", "chmod o-r "+d.File+", or put the URL into a file of mode 0600 that store.url_file names; and change the password.",
			"any local user may read %s (mode %04o), which has the password of store.url in it", d.File, mode)
		return
	}
	d.ok("password", "not everybody may read %s, which has that of store.url in it", d.File)
}
