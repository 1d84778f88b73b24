package lockdir

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"sluice/sidecar"
)

// Run watches the directory until ctx ends and calls report for everything
// that happened in it without Sluice, what happened before Open included.
// report is called by one goroutine at a time and may call the Dir's methods.
//
// The kernel's notices only say where to look, and soon; what they miss, such
// as a mount over the directory, the poll finds.
func (d *Dir) Run(ctx context.Context, report func(sidecar.LockEvent)) error {
	return d.run(ctx, &watch{path: d.path}, report)
}

func (d *Dir) run(ctx context.Context, w *watch, report func(sidecar.LockEvent)) error {
	defer w.close()
	tick := time.NewTicker(d.poll)
	defer tick.Stop()
	again := time.After(0)
	for {
		d.deliver(report)
		select {
		case <-ctx.Done():
			return nil
		case event := <-w.events():
			d.noticed(w, event)
		case <-w.errors(): // such as an overflow of the kernel's queue
			d.lookAround(w)
		case <-tick.C:
			d.lookAround(w)
		case <-again:
			again = nil
			d.lookAround(w)
		case <-d.wake:
		}
		if again == nil && d.unsettled(time.Now()) {
			again = time.After(quiet / 2)
		}
	}
}

// lookAround scans, with the watch on the directory that is there before and
// after: a file that comes in between is seen by the one or the other.
func (d *Dir) lookAround(w *watch) {
	err := w.follow()
	d.scan(time.Now())
	if !w.follows() {
		err = w.follow()
		d.scan(time.Now())
	}
	d.busy.Lock()
	defer d.busy.Unlock()
	d.tell("watch", err)
}

// noticed looks where the kernel says that something happened.
func (d *Dir) noticed(w *watch, event fsnotify.Event) {
	if event.Name == d.path {
		d.lookAround(w)
		return
	}
	name := filepath.Base(event.Name)
	if l, ok := parseName(name); ok {
		d.check(time.Now(), l)
	} else if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
		d.noticedUsage(name)
	}
}

// noticedUsage looks whether a usage file of ours has gone.
func (d *Dir) noticedUsage(name string) {
	d.busy.Lock()
	defer d.busy.Unlock()
	if _, known := d.usage[name]; !known {
		return // as nearly always: our own temporary files
	}
	if at, err := openDir(d.path); err == nil {
		defer at.close()
		d.checkUsage(at, name, time.Now())
	}
}

// A watch is the kernel's notices about whichever directory is at path. Each
// directory gets a new watcher: events of an old one cannot confuse it.
type watch struct {
	path string
	w    *fsnotify.Watcher // nil if there is none
	on   dirID
}

// follow watches the directory that is at path now. A missing one is no
// error here; the scan deals with it.
func (w *watch) follow() error {
	if w.follows() {
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

// follows tells whether the directory at path is the one that is watched.
func (w *watch) follows() bool {
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
