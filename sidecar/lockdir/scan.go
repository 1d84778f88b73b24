package lockdir

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar/lockfile"
)

const (
	// quiet is how long no further lock file may have vanished before those that did
	// count as removed by hand. An rm -rf of the directory takes only microseconds from
	// one file to the next.
	quiet = 100 * time.Millisecond
	// patience is how long a lock file must be missing to count in any case. It is also
	// how long a missing directory is left alone: `rm -rf d && mkdir d` and
	// `mv d old && mv new d` fail or go wrong if we make it in between.
	patience = 300 * time.Millisecond
)

// scan compares every record with the directory, and reports what is newly wrong.
func (d *Dir) scan(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.scanLocked(now)
}

// check is scan for one lock.
func (d *Dir) check(now time.Time, l lockfile.Lock) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, err := openDir(d.path)
	if err != nil {
		d.scanLocked(now)
		return
	}
	defer at.close()
	if at.id != d.id {
		d.scanLocked(now)
		return
	}
	if _, err := d.step(at, l, now); err != nil {
		d.reports.setTrouble("scan", err)
	}
}

func (d *Dir) scanLocked(now time.Time) {
	at, err := d.enter(now)
	if at == nil {
		clear(d.absent.locks) // the directory is missing, not single files
		if err != nil {
			d.reports.setTrouble("scan", err)
		}
		return
	}
	defer at.close()
	lost := at.id != d.id && d.id != dirID{} || d.movedFrom != ""
	locks, err := d.list(at, now)
	var remade []string
	for _, l := range locks {
		again, stepErr := d.step(at, l, now)
		if again {
			remade = append(remade, entryName(l))
		}
		if err == nil {
			err = stepErr
		}
	}
	d.releaseVanished(now)
	d.id = at.id
	if err == nil {
		err = canWrite(at, d.path)
	}
	if lost || len(remade) > 0 {
		d.reports.pending = append(d.reports.pending, lockfile.Event{Kind: lockfile.DirLost, Err: lossOf(d.path, d.movedFrom, remade)})
		d.movedFrom = ""
	}
	d.reports.setTrouble("scan", err)
}

// enter opens the directory, and makes it if it has been missing for longer than
// patience. Until then it returns neither a handle nor an error.
func (d *Dir) enter(now time.Time) (*handle, error) {
	d.absent.looked = now
	at, err := openDir(d.path)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, withRemedy("open lock directory", d.path, err)
	}
	if err == nil {
		d.absent.dir = time.Time{}
		return at, nil
	}
	if d.absent.dir.IsZero() {
		d.absent.dir = now
	}
	first := d.id == dirID{}
	if !first && now.Sub(d.absent.dir) < patience {
		return nil, nil
	}
	if err := d.kind.makeDir(d.path); d.kind.below && errors.Is(err, unix.ENOENT) {
		return nil, nil
	} else if err != nil {
		return nil, withRemedy("make lock directory", d.path, err)
	}
	if at, err = openDir(d.path); err != nil {
		return nil, withRemedy("open lock directory", d.path, err)
	}
	d.absent.dir = time.Time{}
	return at, nil
}

// list returns the locks that are recorded or have a file in the directory. It removes
// temporary files that a crash left.
func (d *Dir) list(at *handle, now time.Time) ([]lockfile.Lock, error) {
	names, err := at.names()
	if errors.Is(err, unix.ENOENT) { // removed meanwhile: the next scan deals with it
		return nil, nil
	}
	if err != nil {
		err = withRemedy("list lock directory", d.path, err)
	}
	if err == nil {
		d.usage.findVanished(&d.absent, at, names, now)
	}
	all := map[lockfile.Lock]bool{}
	var ignored []string
	for _, name := range names {
		if strings.HasPrefix(name, tempPrefix) {
			at.unlink(name) // one that cannot be removed does no harm
		}
		if l, ok := d.kind.parse(name); ok {
			all[l] = true
		} else if d.kind.like(name) {
			ignored = append(ignored, name)
		}
	}
	d.reports.reportIgnored(d.path, ignored, d.kind.why)
	for l := range d.locks {
		all[l] = true
	}
	return slices.SortedFunc(maps.Keys(all), byName), err
}

// markVanished notes that the file of a lock is missing. It need not have been removed
// for good: `rm -rf` of the whole directory removes the files one by one before it, and
// an editor may put a new file in its place a moment later.
func (a *absences) markVanished(l lockfile.Lock, now time.Time) {
	if _, ok := a.locks[l]; !ok {
		a.locks[l], a.last = now, now
	}
}

// releaseVanished releases the locks whose files are still missing, once no further file
// has vanished for quiet, and after patience in any case. It drops their records from
// memory only: Deliver removes the notes after it has reported the release, or a crash in
// between would lose it.
func (d *Dir) releaseVanished(now time.Time) {
	for _, l := range slices.SortedFunc(maps.Keys(d.absent.locks), byName) {
		if now.Sub(d.absent.last) < quiet && now.Sub(d.absent.locks[l]) < patience {
			continue
		}
		file := d.locks[l].file(l)
		if l.Kind == lockfile.OfUsage {
			file = d.usage.release(&d.absent, l)
		} else {
			d.drop(l)
		}
		d.reports.pending = append(d.reports.pending, lockfile.Event{Kind: lockfile.RemovedByHand, File: file})
	}
}

// unsettled reports whether another scan is needed soon: the last one found something
// missing that it still waited for.
func (d *Dir) unsettled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.absent.locks) > 0 || !d.absent.dir.IsZero() && d.absent.looked.Sub(d.absent.dir) < patience
}

// lossOf words a lockfile.DirLost; remade are the names of the files made again.
func lossOf(dir, before string, remade []string) error {
	what := "no lock had to be made again"
	if n := len(remade); n > 0 {
		what = fmt.Sprintf("made %d lock files again: %s", n, strings.Join(remade[:min(n, 10)], ", "))
		if n == 1 {
			what = "made a lock file again: " + remade[0]
		}
		if n > 10 {
			what += ", ..."
		}
	}
	if before != "" {
		return fmt.Errorf("locks.dir was %s and is %s now; nothing is released; %s; "+
			"the files in %s stay: set Exim's SLUICE_LOCKS too, then remove them", before, dir, what, before)
	}
	return fmt.Errorf("lock directory %s was removed, replaced or mounted over; nothing is released; %s", dir, what)
}

// canWrite returns why lock files could not be made, so that operators learn of it
// before one is needed.
func canWrite(at *handle, dir string) error {
	if err := at.writable(); err != nil {
		return withRemedy("write to lock directory", dir, err)
	}
	return nil
}

// setTrouble notes what is wrong now with what was being done, nil if nothing. It reports
// an error once, and that all is well again, of the last directory where it is.
func (r *reports) setTrouble(about string, err error) {
	last, reported := r.troubles[about]
	switch {
	case err == nil && !reported, err != nil && last == err.Error():
		return
	case err == nil:
		delete(r.troubles, about)
	case len(r.troubles) == 0:
		r.all.dirs.Add(1)
		fallthrough
	default:
		r.troubles[about] = err.Error()
	}
	if len(r.troubles) == 0 {
		r.failure.Store(nil)
		if r.all.dirs.Add(-1) == 0 {
			r.pending = append(r.pending, lockfile.Event{Kind: lockfile.DirMended, Dir: r.all.path})
		}
		return
	}
	all := strings.Join(slices.Compact(slices.Sorted(maps.Values(r.troubles))), "; ")
	r.failure.Store(&all)
	if err != nil {
		r.addTrouble(fmt.Errorf("%w; tried again by itself", err))
	}
}

func (r *reports) addTrouble(err error) {
	r.pending = append(r.pending, lockfile.Event{Kind: lockfile.Trouble, Err: err})
}

// forgetReleased removes the note of a released lock, unless it was made again since.
func (d *Dir) forgetReleased(l lockfile.Lock) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.locks[l]; known || l.Kind == lockfile.OfUsage {
		return
	}
	d.reports.setTrouble("forget", d.forget(l))
}

func byName(a, b lockfile.Lock) int { return strings.Compare(entryName(a), entryName(b)) }

// entryName is the name in the directory of a lock that fileName has checked, or of a
// usage file, or of a stop.
func entryName(l lockfile.Lock) string {
	if l.Kind == lockfile.OfUsage || l.Kind == lockfile.Stopped {
		return l.Domain
	}
	return string(l.Kind) + "_" + l.Domain
}

func (d *Dir) pathOf(l lockfile.Lock) string { return filepath.Join(d.path, entryName(l)) }
