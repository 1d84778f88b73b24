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

	"sluice/sidecar"
)

const (
	// quiet is how long no lock file may have vanished before those that did
	// count as removed by hand: rm -rf is between two files for microseconds.
	quiet = 100 * time.Millisecond
	// patience is when they count in any case, and how long a missing
	// directory is left to whoever is about to put another in its place
	// (`rm -rf d && mkdir d` and `mv d old && mv new d` fail or go wrong if we
	// make it first).
	patience = 300 * time.Millisecond
)

// scan compares every record with the directory, and reports trouble that was
// not reported before.
func (d *Dir) scan(now time.Time) {
	d.busy.Lock()
	defer d.busy.Unlock()
	d.scanLocked(now)
}

// check is scan for one lock.
func (d *Dir) check(now time.Time, l sidecar.Lock) {
	d.busy.Lock()
	defer d.busy.Unlock()
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
		d.tell("scan", err)
	}
}

func (d *Dir) scanLocked(now time.Time) {
	at, err := d.enter(now)
	if at == nil {
		clear(d.gone) // whatever was missing in it: the directory is
		if err != nil {
			d.tell("scan", err)
		}
		return
	}
	defer at.close()
	lost := at.id != d.id && d.id != dirID{} || d.movedOff != ""
	locks, err := d.list(at, now)
	var remade []string
	for _, l := range locks {
		again, stepErr := d.step(at, l, now)
		if again {
			remade = append(remade, baseName(l))
		}
		if err == nil {
			err = stepErr
		}
	}
	d.believe(now)
	d.id = at.id
	if err == nil {
		err = d.writable(at)
	}
	if lost || len(remade) > 0 {
		d.pending = append(d.pending, sidecar.LockEvent{Kind: sidecar.LockDirLost, Err: d.lost(remade)})
	}
	d.tell("scan", err)
}

// enter opens the directory, and makes it if it has been missing for a while.
// Without a handle and without an error there is still time.
func (d *Dir) enter(now time.Time) (*handle, error) {
	at, err := openDir(d.path)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fault("open lock directory", d.path, err)
	}
	if err == nil {
		d.missing = time.Time{}
		return at, nil
	}
	if d.missing.IsZero() {
		d.missing = now
	}
	first := d.id == dirID{}
	if !first && now.Sub(d.missing) < patience {
		return nil, nil
	}
	if err := makeDir(d.path); err != nil {
		return nil, fault("make lock directory", d.path, err)
	}
	if at, err = openDir(d.path); err != nil {
		return nil, fault("open lock directory", d.path, err)
	}
	d.missing = time.Time{}
	return at, nil
}

// list names the locks that are recorded or stand in the directory, and
// removes temporary files that a crash left.
func (d *Dir) list(at *handle, now time.Time) ([]sidecar.Lock, error) {
	names, err := at.names()
	if errors.Is(err, unix.ENOENT) { // it went away meanwhile: for the next scan
		return nil, nil
	}
	if err != nil {
		err = fault("list lock directory", d.path, err)
	}
	if err == nil {
		d.missUsage(at, names, now)
	}
	all := map[sidecar.Lock]bool{}
	var ignored []string
	for _, name := range names {
		if strings.HasPrefix(name, tempPrefix) {
			at.unlink(name) // what fails to go does no harm
		}
		if l, ok := parseName(name); ok {
			all[l] = true
		} else if likeLock(name) {
			ignored = append(ignored, name)
		}
	}
	d.tellIgnored(ignored)
	for l := range d.locks {
		all[l] = true
	}
	return slices.SortedFunc(maps.Keys(all), byName), err
}

// suspect is for a lock that is made and absent: a hand. But `rm -rf` of the
// whole directory removes its files one by one before it, and an editor may
// put a new file in the place of the old a moment later. So it is only marked.
func (d *Dir) suspect(l sidecar.Lock, now time.Time) {
	if _, ok := d.gone[l]; !ok {
		d.gone[l], d.lastGone = now, now
	}
}

// believe releases the locks that this scan still found gone, once no further
// file vanished for a moment, and not much later in any case. Their records
// are dropped from memory only: the notes stay until the event was heard
// (deliver), or a crash in between would lose the release.
func (d *Dir) believe(now time.Time) {
	for _, l := range slices.SortedFunc(maps.Keys(d.gone), byName) {
		if now.Sub(d.lastGone) < quiet && now.Sub(d.gone[l]) < patience {
			continue
		}
		file := d.locks[l].file(l)
		if l.Kind == sidecar.LockUsage {
			file = d.usageReleased(l)
		} else {
			d.drop(l)
		}
		d.pending = append(d.pending, sidecar.LockEvent{Kind: sidecar.LockReleased, File: file})
	}
}

// unsettled tells whether a scan should follow soon.
func (d *Dir) unsettled(now time.Time) bool {
	d.busy.Lock()
	defer d.busy.Unlock()
	return len(d.gone) > 0 || !d.missing.IsZero() && now.Sub(d.missing) < patience
}

// lost words a LockDirLost.
func (d *Dir) lost(remade []string) error {
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
	if before := d.movedOff; before != "" {
		d.movedOff = ""
		return fmt.Errorf("locks.dir was %s and is %s now; nothing is released; %s; "+
			"the files in %s stay: set Exim's SLUICE_LOCKS too, then remove them", before, d.path, what, before)
	}
	return fmt.Errorf("lock directory %s was removed, replaced or mounted over; nothing is released; %s", d.path, what)
}

// writable finds out that locks could not be made before one is due.
func (d *Dir) writable(at *handle) error {
	if err := at.writable(); err != nil {
		return fault("write to lock directory", d.path, err)
	}
	return nil
}

// tell reports what went wrong, unless it is what was told last, and that
// nothing is wrong any more.
func (d *Dir) tell(about string, err error) {
	last, told := d.told[about]
	switch {
	case err == nil && !told, err != nil && told && last == err.Error():
		return
	case err == nil:
		delete(d.told, about)
	default:
		d.told[about] = err.Error()
	}
	if len(d.told) == 0 {
		d.trouble.Store(nil)
		d.pending = append(d.pending, sidecar.LockEvent{Kind: sidecar.LockMended})
		return
	}
	all := strings.Join(slices.Compact(slices.Sorted(maps.Values(d.told))), "; ")
	d.trouble.Store(&all)
	if err != nil {
		err = fmt.Errorf("%w; tried again by itself", err)
		d.pending = append(d.pending, sidecar.LockEvent{Kind: sidecar.LockTrouble, Err: err})
	}
}

// deliver hands over what happened. Nothing is locked meanwhile: whoever
// hears of a release takes other locks away.
func (d *Dir) deliver(report func(sidecar.LockEvent)) {
	for {
		d.busy.Lock()
		if len(d.pending) == 0 {
			d.pending = nil
			d.busy.Unlock()
			return
		}
		event := d.pending[0]
		d.pending = d.pending[1:]
		d.busy.Unlock()

		report(event)
		if event.Kind == sidecar.LockReleased {
			d.heard(event.File.Lock)
		}
	}
}

// heard forgets a released lock, unless there is a new one by now.
func (d *Dir) heard(l sidecar.Lock) {
	d.busy.Lock()
	defer d.busy.Unlock()
	if _, known := d.locks[l]; known || l.Kind == sidecar.LockUsage {
		return
	}
	d.tell("forget", d.forget(l))
}

func byName(a, b sidecar.Lock) int { return strings.Compare(baseName(a), baseName(b)) }

// baseName is fileName for a lock that was checked before.
func baseName(l sidecar.Lock) string {
	if l.Kind == sidecar.LockUsage {
		return l.Domain
	}
	return string(l.Kind) + "_" + l.Domain
}

func (d *Dir) pathOf(l sidecar.Lock) string { return d.file(baseName(l)) }

func (d *Dir) file(name string) string { return filepath.Join(d.path, name) }
