package lockdir

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"sluice/sidecar/lockfile"
)

// Run watches the directory until ctx ends and calls report for everything that others
// did in it, also before Open. report is called by one goroutine at a time and may call
// the Dir's methods.
//
// The kernel's notices only make it scan sooner; what they miss, such as a mount over
// the directory, the poll finds.
func (d *Dir) Run(ctx context.Context, report func(lockfile.Event)) error {
	return d.run(ctx, &watch{path: d.path}, report)
}

func (d *Dir) run(ctx context.Context, w *watch, report func(lockfile.Event)) error {
	defer w.close()
	tick := time.NewTicker(d.poll)
	defer tick.Stop()
	again := time.After(0)
	for {
		d.Deliver(report)
		select {
		case <-ctx.Done():
			return nil
		case event := <-w.events():
			d.handleEvent(w, event)
		case <-w.errors(): // such as an overflow of the kernel's queue
			d.rescan(w)
		case <-tick.C:
			d.rescan(w)
		case <-again:
			again = nil
			d.rescan(w)
		case <-d.wake:
		}
		if again == nil && d.unsettled() {
			again = time.After(quiet / 2)
		}
	}
}

// Deliver calls report for all that was found and not reported yet, as Run does. Before Run
// that is what Open found: what hands did while nobody looked.
//
// It does not hold the mutex then, because whoever is told of a release may remove other
// lock files, which takes the mutex.
func (d *Dir) Deliver(report func(lockfile.Event)) {
	for {
		d.mu.Lock()
		if len(d.reports.pending) == 0 {
			d.reports.pending = nil
			d.mu.Unlock()
			return
		}
		event := d.reports.pending[0]
		d.reports.pending = d.reports.pending[1:]
		d.mu.Unlock()

		report(event)
		if event.Kind == lockfile.RemovedByHand {
			d.forgetReleased(event.File.Lock)
		}
	}
}

// rescan scans while the directory at the path is watched. If that was another one
// afterwards, it watches that one and scans again, so that no new file escapes both. Both
// scans are of one time, so that a missing directory is made by the first, or by neither.
func (d *Dir) rescan(w *watch) {
	now := time.Now()
	err := w.attach()
	d.scan(now)
	if !w.attached() {
		err = w.attach()
		d.scan(now)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports.setTrouble("watch", err)
}

// handleEvent checks the file that the kernel says something happened to.
func (d *Dir) handleEvent(w *watch, event fsnotify.Event) {
	if event.Name == d.path {
		d.rescan(w)
		return
	}
	name := filepath.Base(event.Name)
	if l, ok := d.kind.parse(name); ok {
		d.check(time.Now(), l)
	} else if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
		d.checkUsageEvent(name)
	}
}

// checkUsageEvent checks whether a usage file of ours is gone.
func (d *Dir) checkUsageEvent(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.usage.files[name]; !known {
		return // nearly always one of our own temporary files
	}
	if at, err := openDir(d.path); err == nil {
		defer at.close()
		d.usage.check(&d.absent, at, name, time.Now())
	}
}

// A watch receives the kernel's notices about whichever directory is at path. Each
// directory gets a new watcher, so that no event of an old one is taken for its own.
type watch struct {
	path string
	w    *fsnotify.Watcher // nil if there is none
	on   dirID
}

// attach watches the directory that is at path now. It is no error here if there is none:
// the scan deals with that.
func (w *watch) attach() error {
	if w.attached() {
		return nil
	}
	w.close()
	at, err := openDir(w.path)
	if err != nil {
		return nil
	}
	defer at.close()
	if w.w, err = fsnotify.NewWatcher(); err != nil {
		w.w = nil
		return w.failed(err)
	}
	if err := w.w.Add(w.path); err != nil {
		w.close()
		return w.failed(err)
	}
	w.on = at.id
	return nil
}

func (w *watch) failed(err error) error {
	return fmt.Errorf("watch lock directory %s: %w: a hand in it is noticed by the poll only; "+
		"raise fs.inotify.max_user_instances and max_user_watches", w.path, err)
}

// attached reports whether the directory at path is the one that is watched.
func (w *watch) attached() bool {
	at, err := openDir(w.path)
	if err != nil {
		return false
	}
	defer at.close()
	return w.w != nil && w.on == at.id
}

func (w *watch) events() <-chan fsnotify.Event {
	if w.w == nil {
		return nil
	}
	return w.w.Events
}

func (w *watch) errors() <-chan error {
	if w.w == nil {
		return nil
	}
	return w.w.Errors
}

func (w *watch) close() {
	if w.w != nil {
		w.w.Close()
	}
	w.w, w.on = nil, dirID{}
}
