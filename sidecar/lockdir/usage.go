package lockdir

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar/lockfile"
)

// usageBatch is how many usage files are written before the mutex is released for
// others: about a millisecond of work, or ten on a slow disk.
const usageBatch = 16

// usageFiles are the usage files that are ours.
type usageFiles struct {
	path  string               // of the lock directory
	files map[string]usageFile // by name, which is the domain
	dir   dirID                // the directory that they are in
}

// A usageFile is one that this process wrote or took over from an earlier one. It is not
// noted: after a crash, leftover recognizes it.
type usageFile struct {
	stamp
	epoch int64 // of the domain, when the file was last right
}

// ShowUsage writes these usage files, where they have changed, and removes all others of
// ours. A file that an operator has put in the place of a usage file stays, and is not
// ours any more.
//
// In a directory that it sees for the first time it takes over what an earlier process
// left: see leftover.
func (d *Dir) ShowUsage(files []lockfile.Usage) {
	want := make(map[string]lockfile.Usage, len(files))
	for _, u := range files {
		if usageName(u.Domain) {
			want[u.Domain] = u
		}
	}
	names := d.staleUsage(want) // first, because removing them frees space
	for _, u := range files {
		if _, ok := want[u.Domain]; ok {
			names = append(names, u.Domain)
		}
	}
	var failed error
	for batch := range slices.Chunk(names, usageBatch) {
		if err := d.writeUsageBatch(batch, want); err != nil && failed == nil {
			failed = err
		}
	}
	d.mu.Lock()
	defer d.done()
	d.reports.setTrouble("usage", failed)
}

// usageName reports whether a domain may name a usage file. Without a dot it could be
// the name of somebody else's file, such as cPanel's track.
func usageName(domain string) bool {
	_, err := fileName(lockfile.Lock{Kind: lockfile.Hourly, Domain: domain})
	return err == nil && strings.Contains(domain, ".")
}

func usageLock(domain string) lockfile.Lock {
	return lockfile.Lock{Kind: lockfile.OfUsage, Domain: domain}
}

// staleUsage returns the names of our usage files that are no longer wanted. In a
// directory not seen before, it returns all names that may be such files.
func (d *Dir) staleUsage(want map[string]lockfile.Usage) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, err := openDir(d.path)
	if err != nil {
		return nil // the scan makes it, or reports why not
	}
	defer at.close()
	names := slices.Sorted(maps.Keys(d.usage.files))
	if at.id != d.usage.dir {
		clear(d.usage.files)
		d.absent.unmarkUsage()
		d.usage.dir = at.id
		names, _ = at.names() // the scan reports an error
	}
	return slices.DeleteFunc(names, func(name string) bool {
		_, wanted := want[name]
		return wanted || !usageName(name)
	})
}

// writeUsageBatch writes, or removes, some usage files. It returns the first error.
func (d *Dir) writeUsageBatch(names []string, want map[string]lockfile.Usage) (failed error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, err := openDir(d.path)
	if err != nil {
		return nil
	}
	defer at.close()
	if at.id != d.usage.dir { // replaced just now: the next call sees to it
		return nil
	}
	for _, name := range names {
		u, wanted := want[name]
		if err := d.usage.update(at, name, u, wanted); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

// update writes the usage file of one domain, or removes it if it is not wanted.
func (f *usageFiles) update(at *handle, name string, u lockfile.Usage, wanted bool) error {
	have, known := f.files[name]
	if known && wanted && have.Content == u.Content {
		have.epoch = u.Epoch
		f.files[name] = have
		return nil
	}
	s, there, err := f.inspect(at, name)
	switch {
	case err != nil:
		return err
	case !there && known:
		return nil // removed by an operator, as the next scan will find
	case there && s.Ino == 0: // somebody else's
		delete(f.files, name)
		return nil
	case there && wanted && s.Content == u.Content: // left by an earlier process, and still right
		f.files[name] = usageFile{s, u.Epoch}
		return nil
	case wanted:
		return f.write(at, u, there)
	case there:
		f.files[name] = usageFile{stamp: s} // still ours if it cannot be removed now
		return f.remove(at, name)
	}
	return nil
}

// inspect reports whether a file of that name exists. Its stamp is zero unless it is
// a usage file of ours.
func (f *usageFiles) inspect(at *handle, name string) (s stamp, there bool, err error) {
	have, known := f.files[name]
	now, st, err := at.stat(name)
	switch {
	case err != nil:
		return stamp{}, false, withRemedy("look at usage file", filepath.Join(f.path, name), err)
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
		return stamp{}, true, withRemedy("read usage file", filepath.Join(f.path, name), err)
	}
	if !leftover(now.Content) {
		return stamp{}, true, nil
	}
	return now.stamp, now.there, nil
}

// leftover reports whether an earlier process of ours wrote a usage file of this content.
// It has to be exactly what we write: no newline, as in a lock file, and at least half of
// the limit. Noting each of thousands of files every ten seconds would cost the journal
// more than this information is worth.
func leftover(content string) bool {
	var used, limit, percent int64
	if n, err := fmt.Sscanf(content, "%d/%d (%d%%)", &used, &limit, &percent); err != nil || n != 3 {
		return false
	}
	return limit > 0 && used >= limit-used && percent == used*100/limit &&
		fmt.Sprintf("%d/%d (%d%%)", used, limit, percent) == content
}

// write writes a usage file; over says that it replaces one of ours. It need not
// survive a power cut, so nothing is synced.
func (f *usageFiles) write(at *handle, u lockfile.Usage, over bool) error {
	temp, s, err := at.writeTemp(u.Content, lockFiles.file, false)
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
		return withRemedy("write usage file", filepath.Join(f.path, u.Domain), err)
	}
	f.files[u.Domain] = usageFile{s, u.Epoch}
	return nil
}

func (f *usageFiles) remove(at *handle, name string) error {
	if err := at.unlink(name); err != nil {
		return withRemedy("remove usage file", filepath.Join(f.path, name), err)
	}
	delete(f.files, name)
	return nil
}

// findVanished finds usage files that an operator removed, given all names in the
// directory. Mostly all are there, and it checks none.
func (f *usageFiles) findVanished(absent *absences, at *handle, names []string, now time.Time) {
	if at.id != f.dir {
		absent.unmarkUsage()
		return
	}
	there := 0
	for _, name := range names {
		if _, ok := f.files[name]; ok {
			there++
		}
	}
	if there == len(f.files) {
		absent.unmarkUsage()
		return
	}
	for name := range f.files {
		f.check(absent, at, name, now)
	}
}

// check is findVanished for one file.
func (f *usageFiles) check(absent *absences, at *handle, name string, now time.Time) {
	if _, known := f.files[name]; !known || at.id != f.dir {
		return
	}
	if s, _, err := at.stat(name); err == nil && !s.there {
		absent.markVanished(usageLock(name), now)
	} else {
		delete(absent.locks, usageLock(name))
	}
}

// unmarkUsage drops the marks of missing usage files: no operator has removed them.
func (a *absences) unmarkUsage() {
	maps.DeleteFunc(a.locks, func(l lockfile.Lock, _ time.Time) bool { return l.Kind == lockfile.OfUsage })
}

// release drops a usage file that an operator removed, and returns it.
func (f *usageFiles) release(absent *absences, l lockfile.Lock) lockfile.File {
	u := f.files[l.Domain]
	delete(f.files, l.Domain)
	delete(absent.locks, l)
	return lockfile.File{Lock: l, Epoch: u.epoch, Content: u.Content}
}
