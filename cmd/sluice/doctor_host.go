package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/lockdir"
	"sluice/sidecar/operator"
)

// What doctor finds on the host beside Exim: the running sluice, the lock
// directory, the main log, the owner map, the clock.

// running is what the running sluice says of itself.
type running struct {
	err     error
	version admin.Version
	config  []config.Value
	status  operator.Status
}

// ask asks the running sluice for all of it.
func (r *running) ask(t *terminal) {
	r.err = t.askAdmin("ask", func(a *admin.Client) (err error) {
		if r.version, err = a.Version(t.ctx); err != nil {
			return err
		}
		if r.config, err = a.Config(t.ctx); err != nil {
			return err
		}
		r.status, err = a.Status(t.ctx, "")
		return err
	})
}

// progress is how far it has read the log that a key of the configuration names;
// nil if it follows none.
func (r *running) progress(key string) *sidecar.LogProgress {
	for _, l := range r.status.Totals.Logs {
		if l.Key == key && r.err == nil {
			return &l
		}
	}
	return nil
}

// checkServe looks whether sluice runs, whether it is this program, and whether
// it goes by this configuration.
func (d *doctor) checkServe() {
	if err := d.running.err; err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		do := "systemctl start sluice; journalctl -u sluice says why it ended."
		if errors.Is(err, admin.ErrSilent) {
			do = "systemctl restart sluice; journalctl -u sluice may say why it hangs."
		}
		d.add("serve", wrong, do, "no sluice answers, so nothing is counted and only lock files hold: %s", first)
		return
	}
	v := d.running.version
	switch {
	case v.Version != programVersion():
		d.add("serve", wrong, "systemctl restart sluice", "version %s runs since %s, and this program is %s", v.Version, sidecar.DateTime(v.Started), programVersion())
	case replaced(v.PID):
		d.add("serve", wrong, "systemctl restart sluice", "process %d runs a program that was replaced since %s", v.PID, sidecar.DateTime(v.Started))
	default:
		d.add("serve", healthy, "", "process %d, version %s, since %s", v.PID, v.Version, sidecar.DateTime(v.Started))
	}
	d.checkConfig()
	totals := d.running.status.Totals
	if totals.Journal != "ok" {
		d.add("counts", wrong, "Make room in "+d.config.Store.Dir+", or mend the disk.", "what is answered would not survive a crash: %s", totals.Journal)
	} else if totals.Uncounted > 0 {
		d.add("counts", wrong, "Raise store.max_subjects, or find out who makes up so many names.",
			"%s passed uncounted: store.max_subjects, %d, is reached", sidecar.Count(totals.Uncounted, "send", "sends"), d.config.Store.MaxSubjects)
	} else {
		d.add("counts", healthy, "", "%s of %s, in %s", sidecar.Count(totals.Sends, "send", "sends"), sidecar.Count(totals.Subjects, "subject", "subjects"), d.config.Store.Dir)
	}
}

// replaced tells whether a process runs a program file that is gone.
func replaced(pid int) bool {
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && strings.HasSuffix(program, " (deleted)")
}

// differing are the keys that are not the same in two configurations.
func differing(file, running []config.Value) []string {
	values := map[string]string{}
	for _, v := range running {
		values[v.Key] = fmt.Sprint(v.Value)
	}
	var keys []string
	for _, v := range file {
		if is, set := values[v.Key]; !set || is != fmt.Sprint(v.Value) {
			keys = append(keys, v.Key)
		}
		delete(values, v.Key)
	}
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// checkLocks looks at the lock directory, and whether Exim looks into the same.
func (d *doctor) checkLocks() {
	const check = "lock directory"
	dir := d.config.Locks.Dir
	info, err := os.Stat(dir)
	totals := d.running.status.Totals
	switch {
	case err != nil || !info.IsDir():
		d.add(check, wrong, "mkdir -p "+dir, "%s is no directory: a limit does not hold while sluice is stopped", dir)
		return
	case info.Mode().Perm()&0o002 != 0:
		d.add(check, wrong, "chmod o-w "+dir, "any local user may write to %s, and so lock and release every domain", dir)
		return
	case d.running.err == nil && totals.Locks != "ok":
		d.add(check, wrong, "See to "+dir+"; under systemd a directory elsewhere needs a drop-in with ReadWritePaths="+dir+".", "%s", totals.Locks)
		return
	case errors.Is(syscall.Access(dir, 2), syscall.EROFS):
		d.add(check, wrong, "Set locks.dir, and SLUICE_LOCKS in Exim's macros, to one that can be written to.", "%s cannot be written to", dir)
		return
	}
	if err := lockdir.Shared(dir); err != nil {
		d.add(check, wrong, "Part them.", "cPanel's own limiter uses it too: its locks count as made by hand, and ours that it removes as released by hand: %v", err)
		return
	}
	theirs, known := d.exim.Macro(d.ctx, "SLUICE_LOCKS")
	switch {
	case !d.isExim:
		d.add(check, healthy, "", "%s, for sluice; no Exim looks into it", dir)
		return
	case !known:
		d.add(check, wrong, reinstall, "Exim's macros have no SLUICE_LOCKS: it looks for lock files nowhere, and no limit holds while sluice is stopped")
		return
	case !sameFile(dir, theirs):
		d.add(check, wrong, "Set SLUICE_LOCKS = "+dir+" in Exim's macros, or locks.dir = \""+theirs+"\".",
			"sluice makes lock files in %s, and Exim looks for them in %s", dir, theirs)
		return
	}
	if said, err := d.exim.Expand(d.ctx, d.exim.User, "${if exists{"+dir+"/.}{yes}{no}}"); err == nil && said != "yes" {
		d.add(check, wrong, "Let "+d.exim.User+" enter "+dir+": each directory of the path needs x for it.", "%s cannot look into %s", d.exim.User, dir)
		return
	}
	d.add(check, healthy, "", "%s, for sluice and for Exim", dir)
}

// checkLogs looks whether the log that is followed as Exim's is the one that Exim
// writes, and how far each log was read.
func (d *doctor) checkLogs() {
	postfix := d.config.Postfix.Log
	if d.isExim || d.config.Exim.Mainlog != "" || postfix == "" {
		d.checkMainLog()
	}
	if postfix != "" {
		d.checkFollowed("Postfix's log", "postfix.log", postfix)
	}
}

func (d *doctor) checkMainLog() {
	const check = "main log"
	name := d.config.Exim.Mainlog
	if name == "" {
		d.add(check, wrong, "Set exim.mainlog.", "exim.mainlog is empty: what becomes of mail is not counted")
		return
	}
	if theirs := d.exim.MainLog(d.ctx); theirs != "" && theirs != name && !sameFile(theirs, name) {
		d.add(check, wrong, "Set exim.mainlog = \""+theirs+"\".", "Exim writes %s, and exim.mainlog is %s", theirs, name)
		return
	}
	d.checkFollowed(check, "exim.mainlog", logNow(name, time.Now()))
}

// checkFollowed looks how far the running sluice has read a log.
func (d *doctor) checkFollowed(check, key, name string) {
	progress := d.running.progress(key)
	info, err := os.Stat(name)
	switch {
	case err != nil:
		d.add(check, wrong, "Set "+key+" to the file that is logged to; if nothing was logged yet, send a mail.", "%v", err)
	case d.running.err != nil:
		d.add(check, notable, "", "%s; no sluice answers how far it is read", name)
	case progress == nil:
		d.add(check, wrong, "systemctl restart sluice", "the running sluice does not follow %s", name)
	case progress.Trouble != "":
		d.add(check, wrong, "Let root read it (under systemd: CAP_DAC_READ_SEARCH), or set "+key+".", "%s", progress.Trouble)
	case progress.Lost != nil:
		d.add(check, wrong, "If you have the missing file, move it beside the log with .99 behind its name: it is read at once. This is said until sluice is restarted.",
			"%s", progress.LostPart())
	default:
		d.checkLogRead(check, key, name, info.Size())
	}
}

// checkForgery looks whether local users can write lines of their own into the
// main log. With +arguments Exim (4.96 to 4.100) logs the directory in which it was
// run as it is, and a directory's name may have line breaks.
func (d *doctor) checkForgery() {
	if d.exim.LogsArguments(d.ctx) {
		d.add("log selector", notable, "Where you do not trust all local users, put -arguments behind it, unless lfd or `sluice simulate` needs it.",
			"log_selector has +arguments: a local user can name a directory like a line of the log, and so charge and lock others")
	}
}

// logPatience is how long a line may lie in the log unread. The follower looks
// at least once a second.
const logPatience = 3 * time.Second

// checkLogRead waits until what is in the log now has been read.
func (d *doctor) checkLogRead(check, key, name string, size int64) {
	end := time.Now().Add(logPatience)
	for p := d.running.progress(key); p != nil; p = d.running.progress(key) {
		if p.Read >= size {
			if ahead := time.Until(p.Last); ahead > time.Minute {
				d.add(check, wrong, "Give sluice the time zone of the log (TZ in its unit), or set log_timezone in Exim.",
					"its last line would be logged %s from now: the times in it are of another zone", sidecar.Brief(ahead))
				return
			}
			last := ""
			if !p.Last.IsZero() { // none was read since sluice started
				last = ", the last line is of " + sidecar.DateTime(p.Last)
			}
			d.add(check, healthy, "", "%s is read to its end%s", name, last)
			return
		}
		if time.Now().After(end) || d.ctx.Err() != nil {
			d.add(check, wrong, "Wait, if this number falls; else look at the log of sluice.", "%s of %s are not read yet", sidecar.Count(size-p.Read, "byte", "bytes"), name)
			return
		}
		time.Sleep(100 * time.Millisecond)
		d.running.ask(d.terminal)
	}
}

// logNow is the file of a log that is written now: its name may have the date.
func logNow(pattern string, now time.Time) string {
	return strings.NewReplacer("%D", now.Format("20060102"), "%M", now.Format("200601")).Replace(pattern)
}

// checkOwners looks at the owner map, which tells whose a sender's domain is.
func (d *doctor) checkOwners() {
	const check = "owner map"
	name := d.config.Identity.Owners
	switch bad := d.survey.Malformed; {
	case len(bad) > 0:
		d.add(check, wrong, "Each line is \"domain: account\".", "%s has %s without an owner, the first is %.60q", name, sidecar.Count(int64(len(bad)), "line", "lines"), bad[0])
	case d.survey.Owned > 0:
		d.add(check, healthy, "", "%s in %s", sidecar.Count(int64(d.survey.Owned), "domain", "domains"), name)
	case d.exim.AnySender:
		d.add(check, notable, "On a shared host set identity.owners, or take untrusted_set_sender out of Exim's configuration.",
			"there is none (%s), and Exim lets every local user send in any name: one could spend another's budget", cmp.Or(name, "identity.owners is empty"))
	default:
		d.add(check, notable, "", "there is none (%s): mail of local users is charged to their sender's domain", cmp.Or(name, "identity.owners is empty"))
	}
}

// checkLocalDomains looks whether what Exim delivers itself is left out.
func (d *doctor) checkLocalDomains() {
	const check = "local domains"
	if d.survey.Locals == 0 {
		d.add(check, wrong, "List in exim.local_domains what Exim delivers itself.", "exim.local_domains (%s) has none: local mail is counted", strings.Join(d.config.Exim.LocalDomains, ", "))
		return
	}
	domains, err := d.exim.LocalDomains(d.ctx)
	if err != nil {
		d.add(check, wrong, reinstall, "Exim has no domain list local_domains: %v", err)
		return
	}
	var missing []string
	for _, item := range domains {
		if !d.survey.Local(item) && !slices.Contains(d.config.Exim.LocalDomains, item) && !slices.Contains(missing, item) {
			missing = append(missing, item)
		}
	}
	if len(missing) > 0 {
		d.add(check, wrong, "Add them to exim.local_domains.", "Exim delivers these itself, and exim.local_domains does not have them, so that mail to them is counted: %s", strings.Join(missing, ", "))
		return
	}
	d.add(check, healthy, "", "%s, and all that Exim names are among them", sidecar.Count(int64(d.survey.Locals), "domain", "domains"))
}

// checkClock asks the kernel whether somebody keeps its clock right.
func (d *doctor) checkClock() {
	if zone, err := d.exim.Expand(d.ctx, "", "$tod_zone"); err == nil && zone != time.Now().Format("-0700") {
		d.add("clock", notable, "Where Exim's log has no zones, start sluice with Exim's (TZ in its unit).", "Exim's time zone is %s, and here it is %s", zone, time.Now().Format("-0700"))
	}
	d.judgeClock(syscall.Adjtimex(&syscall.Timex{}))
}

// judgeClock goes by what adjtimex(2) returns.
func (d *doctor) judgeClock(state int, err error) {
	const unsynchronised = 5 // TIME_ERROR
	switch {
	case err != nil:
		d.add("clock", notable, "", "whether anybody keeps the system's clock right cannot be told: %v", err)
	case state == unsynchronised:
		d.add("clock", notable, "Run chrony or systemd-timesyncd: windows do not mind, dates in logs and refusals do.", "nobody keeps the system's clock right")
	default:
		d.add("clock", healthy, "", "the system's clock is kept right")
	}
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
