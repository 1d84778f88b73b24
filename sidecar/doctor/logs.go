package doctor

import (
	"os"
	"time"

	"sluice/sidecar/exim"
	"sluice/sidecar/logline"
	"sluice/sidecar/printable"
)

// checkLogs looks whether the log that is followed as Exim's is the one that Exim
// writes, and how far each log was read.
func (d *doctor) checkLogs() {
	postfix := d.config.Postfix.Log
	if d.hasExim || d.config.Exim.Mainlog != "" || postfix == "" {
		d.checkMainLog()
	}
	if postfix != "" {
		d.checkFollowed("Postfix's log", "postfix.log", postfix)
	}
}

func (d *doctor) checkMainLog() {
	const check = "main log"
	name, theirs := d.config.Exim.Mainlog, d.exim.MainLog(d.ctx)
	switch {
	case name == "":
		d.wrong(check, "Set exim.mainlog.", "exim.mainlog is empty: what becomes of mail is not counted")
	case theirs != "" && theirs != name && !sameFile(theirs, name):
		d.wrong(check, "Set exim.mainlog = \""+theirs+"\".", "Exim writes %s, and exim.mainlog is %s", theirs, name)
	default:
		d.checkFollowed(check, "exim.mainlog", logline.File(name, time.Now()))
	}
}

// checkQueue looks whether sluice reads the queue that is Exim's. Exim cannot say which that is to
// sluice serve in its unit.
func (d *doctor) checkQueue() {
	const check = "queue"
	theirs, set, packaged := d.exim.Option(d.ctx, "spool_directory"), d.config.Exim.SpoolDirectory, exim.PackagedSpool()
	do := "Set exim.spool_directory = \"" + theirs + "\"."
	switch {
	case !d.hasExim, theirs == "":
	case set == "" && theirs != packaged && !sameFile(theirs, packaged):
		d.note(check, do, "Exim has its queue in %s: in its unit sluice cannot ask for that", theirs)
	case set != "" && theirs != set && !sameFile(theirs, set):
		d.wrong(check, do, "Exim has its queue in %s, and exim.spool_directory is %s", theirs, set)
	default:
		d.ok(check, "Exim has it in %s", theirs)
	}
}

// checkFollowed looks how far the running sluice has read a log.
func (d *doctor) checkFollowed(check, key, name string) {
	progress := d.running.progress(key)
	info, err := os.Stat(name)
	switch {
	case err != nil:
		d.wrong(check, "Set "+key+" to the file that is logged to; if nothing was logged yet, send a mail.", "%v", err)
	case d.running.err != nil:
		d.note(check, "", "%s; no sluice answers how far it is read", name)
	case progress == nil:
		d.wrong(check, "systemctl restart sluice", "the running sluice does not follow %s", name)
	case progress.Trouble != "":
		d.wrong(check, "Let root read it (under systemd: CAP_DAC_READ_SEARCH), or set "+key+".", "%s", progress.Trouble)
	case progress.Lost != nil:
		d.wrong(check, "If you have the missing file, move it beside the log with .99 behind its name: it is read at once. This is said until sluice is restarted.",
			"%s", progress.LostPart())
	default:
		d.checkLogRead(check, key, name, info.Size())
	}
}

// logPatience is how long a line may stay unread in the log. A running sluice looks
// for new ones at least once a second.
const logPatience = 3 * time.Second

// checkLogRead waits until what is in the log now has been read.
func (d *doctor) checkLogRead(check, key, name string, size int64) {
	end := time.Now().Add(logPatience)
	for p := d.running.progress(key); p != nil; p = d.running.progress(key) {
		if p.Read >= size {
			if ahead := time.Until(p.Last); ahead > time.Minute {
				d.wrong(check, "Give sluice the time zone of the log (TZ in its unit), or set log_timezone in Exim.",
					"its last line would be logged %s from now: the times in it are of another zone", printable.Brief(ahead))
				return
			}
			last := ""
			if !p.Last.IsZero() { // none was read since sluice started
				last = ", the last line is of " + printable.DateTime(p.Last)
			}
			d.ok(check, "%s is read to its end%s", name, last)
			return
		}
		if time.Now().After(end) || d.ctx.Err() != nil {
			d.wrong(check, "Wait, if this number falls; else look at the log of sluice.", "%s of %s are not read yet", printable.Count(size-p.Read, "byte", "bytes"), name)
			return
		}
		time.Sleep(100 * time.Millisecond)
		d.running = d.ask()
	}
}
