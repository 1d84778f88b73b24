package lockdir

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar"
)

// usageBatch is how many usage files are written before others have their
// turn in the directory: about a millisecond of work, or ten on a slow disk.
const usageBatch = 16

// A usageFile is one that this process wrote or took over. It is not noted:
// a crash loses nothing but the knowledge that it is ours, and leftover tells.
type usageFile struct {
	stamp
	epoch int64 // of the domain, when the file was last right
}

// ShowUsage has the directory hold these usage files and no others of ours.
// Of files that did not change it writes none. What a hand has put in the place
// of a usage file stays, and is not ours any more.
//
// In a directory that it sees for the first time it takes over what an earlier
// process left: see leftover.
func (d *Dir) ShowUsage(files []sidecar.Usage) {
	want := make(map[string]sidecar.Usage, len(files))
	for _, u := range files {
		if usageName(u.Domain) {
			want[u.Domain] = u
		}
	}
	names := d.staleUsage(want) // first: they make room
	for _, u := range files {
		if _, ok := want[u.Domain]; ok {
			names = append(names, u.Domain)
		}
	}
	var failed error
	for batch := range slices.Chunk(names, usageBatch) {
		if err := d.showBatch(batch, want); err != nil && failed == nil {
			failed = err
		}
	}
	d.busy.Lock()
	defer d.done()
	d.tell("usage", failed)
}

// usageName tells whether a domain may name a usage file. One without a dot
// could be somebody else's file, such as cPanel's track.
func usageName(domain string) bool {
	_, err := fileName(sidecar.Lock{Kind: sidecar.LockHourly, Domain: domain})
	return err == nil && strings.Contains(domain, ".")
}

func usageLock(domain string) sidecar.Lock {
	return sidecar.Lock{Kind: sidecar.LockUsage, Domain: domain}
}

// staleUsage names the files that are, or in a directory not seen before may
// be, usage files of ours that nobody wants any more.
func (d *Dir) staleUsage(want map[string]sidecar.Usage) []string {
	d.busy.Lock()
	defer d.busy.Unlock()
	at, err := openDir(d.path)
	if err != nil {
		return nil // the scan makes it, or tells
	}
	defer at.close()
	names := slices.Sorted(maps.Keys(d.usage))
	if at.id != d.usageDir {
		clear(d.usage)
		d.forgiveUsage()
		d.usageDir = at.id
		names, _ = at.names() // the scan tells
	}
	return slices.DeleteFunc(names, func(name string) bool {
		_, wanted := want[name]
		return wanted || !usageName(name)
	})
}

// showBatch writes, or removes, some usage files.
func (d *Dir) showBatch(names []string, want map[string]sidecar.Usage) (failed error) {
	d.busy.Lock()
	defer d.busy.Unlock()
	at, err := openDir(d.path)
	if err != nil {
		return nil
	}
	defer at.close()
	if at.id != d.usageDir { // replaced just now; next time
		return nil
	}
	for _, name := range names {
		u, wanted := want[name]
		if err := d.showOne(at, name, u, wanted); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

func (d *Dir) showOne(at *handle, name string, u sidecar.Usage, wanted bool) error {
	have, known := d.usage[name]
	if known && wanted && have.Content == u.Content {
		have.epoch = u.Epoch
		d.usage[name] = have
		return nil
	}
	s, there, err := d.lookUsage(at, name)
	switch {
	case err != nil:
		return err
	case !there && known:
		return nil // a hand, as the next scan will find
	case there && s.Ino == 0: // somebody else's
		delete(d.usage, name)
		return nil
	case there && wanted && s.Content == u.Content: // left over, and right
		d.usage[name] = usageFile{s, u.Epoch}
		return nil
	case wanted:
		return d.writeUsage(at, u, there)
	case there:
		d.usage[name] = usageFile{stamp: s} // should it not go, it is ours next time too
		return d.removeUsage(at, name)
	}
	return nil
}

// lookUsage tells whether a file of that name stands. Its stamp is zero unless
// it is a usage file of ours.
func (d *Dir) lookUsage(at *handle, name string) (s stamp, there bool, err error) {
	have, known := d.usage[name]
	now, st, err := at.stat(name)
	switch {
	case err != nil:
		return stamp{}, false, fault("look at usage file", d.file(name), err)
	case !now.there:
		return stamp{}, false, nil
	case known:
		if now.Content = have.Content; now.stamp == have.stamp {
			return now.stamp, true, nil
		}
		return stamp{}, true, nil
	}
	if st.Mode != unix.S_IFREG|0o644 || st.Nlink != 1 || int(st.Uid) != os.Geteuid() {
		return stamp{}, true, nil
	}
	now, err = at.read(name, now)
	if err != nil {
		return stamp{}, true, fault("read usage file", d.file(name), err)
	}
	if !leftover(now.Content) {
		return stamp{}, true, nil
	}
	return now.stamp, now.there, nil
}

// leftover tells whether an earlier process of ours wrote a usage file: it has
// to be, to the letter, what we write (no newline, as in a lock file), and at
// or above half of the limit. To note each of thousands of files, every ten
// seconds, would cost the journal more than this information is worth.
func leftover(content string) bool {
	var used, limit, percent int64
	if n, err := fmt.Sscanf(content, "%d/%d (%d%%)", &used, &limit, &percent); err != nil || n != 3 {
		return false
	}
	return limit > 0 && used >= limit-used && percent == used*100/limit &&
		fmt.Sprintf("%d/%d (%d%%)", used, limit, percent) == content
}

// writeUsage writes a usage file; over is whether it takes the place of ours.
// It need not survive a power cut, so nothing is synced.
func (d *Dir) writeUsage(at *handle, u sidecar.Usage, over bool) error {
	temp, s, err := at.writeTemp(u.Content, false)
	if err == nil {
		if over {
			err = unix.Renameat(at.fd(), temp, at.fd(), u.Domain)
		} else {
			err = at.place(temp, u.Domain)
		}
		if err != nil {
			at.unlink(temp)
		}
	}
	if err != nil {
		return fault("write usage file", d.file(u.Domain), err)
	}
	d.usage[u.Domain] = usageFile{s, u.Epoch}
	return nil
}

func (d *Dir) removeUsage(at *handle, name string) error {
	if err := at.unlink(name); err != nil {
		return fault("remove usage file", d.file(name), err)
	}
	delete(d.usage, name)
	return nil
}

// missUsage looks for usage files that a hand removed, given all names in the
// directory. Mostly all are there, and it looks at none.
func (d *Dir) missUsage(at *handle, names []string, now time.Time) {
	if at.id != d.usageDir {
		d.forgiveUsage()
		return
	}
	there := 0
	for _, name := range names {
		if _, ok := d.usage[name]; ok {
			there++
		}
	}
	if there == len(d.usage) {
		d.forgiveUsage()
		return
	}
	for name := range d.usage {
		d.checkUsage(at, name, now)
	}
}

// checkUsage is missUsage for one file.
func (d *Dir) checkUsage(at *handle, name string, now time.Time) {
	if _, known := d.usage[name]; !known || at.id != d.usageDir {
		return
	}
	if s, _, err := at.stat(name); err == nil && !s.there {
		d.suspect(usageLock(name), now)
	} else {
		delete(d.gone, usageLock(name))
	}
}

// forgiveUsage is for when no missing usage file is a hand's doing.
func (d *Dir) forgiveUsage() {
	maps.DeleteFunc(d.gone, func(l sidecar.Lock, _ time.Time) bool { return l.Kind == sidecar.LockUsage })
}

// usageReleased drops a usage file that a hand removed, and is what it was.
func (d *Dir) usageReleased(l sidecar.Lock) sidecar.LockFile {
	u := d.usage[l.Domain]
	delete(d.usage, l.Domain)
	delete(d.gone, l)
	return sidecar.LockFile{Lock: l, Epoch: u.epoch, Content: u.Content}
}
