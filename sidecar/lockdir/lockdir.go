package lockdir

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"sluice/sidecar"
	"sluice/sidecar/notes"
)

// Options are what Open needs.
type Options struct {
	Path  string        // absolute; made if missing
	Notes Notes         // this package uses the keys that begin with lock/
	Poll  time.Duration // how often to scan for what the kernel gave no notice of; 0 is a second
	Now   time.Time     // time of the first scan
	// Stopped says that it is the directory of the stopped, below the lock directory: its
	// files are named after an author alone, and for nobody to list.
	Stopped bool
}

// Notes survive a crash.
type Notes interface {
	sidecar.Notes
	// Failure returns why a note made now would not survive one; nil if it would.
	Failure() error
}

// A Dir is the lock directory. Its methods may be called at any time from any
// goroutine. All but Files and Failure work on the disk (a few fsyncs), so no answer to
// a mail server may wait for them.
type Dir struct {
	path string
	kind dirKind
	poll time.Duration
	wake chan struct{} // wakes Run when there is something to report

	mu        sync.Mutex // guards what follows, and is held while files change
	id        dirID      // the directory of the last scan; zero before the first
	movedFrom string     // the earlier locks.dir, if the records are of another than path; empty once reported
	records
	absent  absences
	usage   usageFiles
	reports reports
}

// records are what is noted of the lock files.
type records struct {
	store Notes             // keeps the notes
	notes notes.Map[record] // by kind and domain
	locks map[sidecar.Lock]entry

	// standing is what Files returns for each domain: string to []sidecar.LockFile, by
	// name. Every question to the policy looks there, and nearly none finds anything: with
	// a sync.Map they neither wait nor write.
	standing sync.Map
}

// absences are what was found missing and may have been removed by an operator.
type absences struct {
	locks  map[sidecar.Lock]time.Time // when each was found missing
	last   time.Time                  // when the last of them was
	dir    time.Time                  // when the directory was; zero while it is there
	looked time.Time                  // when the directory was last looked for
}

// reports are what Run has to report, and what is wrong.
type reports struct {
	pending  []sidecar.LockEvent
	troubles map[string]string      // the error last reported, by what was being done
	ignored  []string               // names that reportIgnored has reported
	failure  atomic.Pointer[string] // all troubles in one text; nil if there are none
}

var _ sidecar.LockDir = (*Dir)(nil)

// Open reads the notes and looks at the directory once, so that Files is
// right from the start. If the directory cannot be made or read, Run reports that and
// tries again: mail flows without it.
func Open(o Options) (*Dir, error) {
	if !filepath.IsAbs(o.Path) {
		return nil, fmt.Errorf("open lock directory %q: the path must begin with /", o.Path)
	}
	if o.Notes == nil {
		return nil, fmt.Errorf("open lock directory %s: no notes to keep its state in", o.Path)
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	d := &Dir{
		path:    filepath.Clean(o.Path),
		kind:    lockFiles,
		poll:    o.Poll,
		wake:    make(chan struct{}, 1),
		records: records{store: o.Notes, locks: map[sidecar.Lock]entry{}},
		absent:  absences{locks: map[sidecar.Lock]time.Time{}},
		usage:   usageFiles{path: filepath.Clean(o.Path), files: map[string]usageFile{}},
		reports: reports{troubles: map[string]string{}},
	}
	if o.Stopped {
		d.kind = stopFiles
	}
	d.load()
	d.scan(o.Now)
	if err := Shared(d.path); err != nil {
		d.reports.pending = append(d.reports.pending, sidecar.LockEvent{Kind: sidecar.LockDirShared, Err: err})
	}
	return d, nil
}

// Make makes a lock file that is Sluice's, unless a file of that name exists. After an
// error each poll tries again, until Unmake.
func (d *Dir) Make(l sidecar.Lock, content string, epoch int64) error {
	return d.make(l, record{Epoch: epoch, File: stamp{Content: content}})
}

// MakeOperator makes a lock file that only an operator or Remove removes. If Sluice's
// exists, it becomes the operator's. After an error each poll tries again, until Remove.
func (d *Dir) MakeOperator(l sidecar.Lock, content string) error {
	return d.make(l, record{Operator: true, File: stamp{Content: content}})
}

// Adopt makes an operator's file Sluice's, as it is.
func (d *Dir) Adopt(l sidecar.Lock) error {
	d.mu.Lock()
	defer d.done()
	e, known := d.locks[l]
	if !known || !e.Operator {
		return nil
	}
	e.Operator = false
	if err := d.checkDurable(l, e.record); err != nil {
		return err
	}
	return d.save(l, e.record)
}

func (d *Dir) make(l sidecar.Lock, want record) error {
	if _, err := fileName(l); err != nil {
		return err
	}
	if c := want.File.Content; len(c) > maxContent || !utf8.ValidString(c) {
		return fmt.Errorf("make lock file %s: content %.40q... is over %d bytes or no UTF-8", d.pathOf(l), c, maxContent)
	}
	d.mu.Lock()
	defer d.done()
	have := d.locks[l].record // zero if there is none
	switch {
	case have.State == made: // if an operator has just removed it, the scan finds out
		have.Operator = have.Operator || want.Operator
		return d.save(l, have)
	case have.State == making:
		want.Operator = want.Operator || have.Operator
	case have.State == unmaking && !have.Operator && have.File.Ino != 0:
		want.File, want.Dir = have.File, have.Dir // it may still exist
	}
	want.State = making
	at, err := openDir(d.path)
	if err == nil {
		defer at.close()
		return d.ensure(at, l, want)
	}
	return d.postpone(l, want, err)
}

// postpone notes what is to be done, for the scan to do as soon as the directory can be
// opened. It is no error that there is no directory: the scan makes it.
func (d *Dir) postpone(l sidecar.Lock, r record, openErr error) error {
	note := d.save
	if r.State == unmaking && r.File.Ino == 0 { // there never was a file
		note = func(sidecar.Lock, record) error { return d.forget(l) }
	}
	if err := note(l, r); err != nil || errors.Is(openErr, unix.ENOENT) {
		return err
	}
	return withRemedy("open lock directory", d.path, openErr)
}

// Unmake removes a lock file if Sluice made it and nobody touched it. After an error
// each poll tries again, until Make.
func (d *Dir) Unmake(l sidecar.Lock) error {
	if _, err := fileName(l); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.done()
	e, known := d.locks[l]
	if !known || e.Operator {
		return nil
	}
	at, err := openDir(d.path)
	if err != nil {
		e.State = unmaking
		return d.postpone(l, e.record, err)
	}
	defer at.close()
	s, err := d.inspect(at, l, e.seen)
	if err != nil {
		return err
	}
	switch {
	case !s.there && e.State == made && e.Dir == at.id:
		return nil // an operator was faster: the scan reports that
	case s.there && e.State == made && !e.stands(at, s):
		return d.giveToOperator(at, l, e.record, s, sidecar.LockTakenOver)
	}
	return d.finish(at, l, e.record)
}

// Remove removes a lock file, whoever made it. No LockEvent about it follows, not even
// one that was already pending. After an error each poll tries again, until Make.
func (d *Dir) Remove(l sidecar.Lock) error {
	if _, err := fileName(l); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.done()
	d.reports.pending = slices.DeleteFunc(d.reports.pending, func(e sidecar.LockEvent) bool { return e.File.Lock == l })
	r := d.locks[l].record
	at, err := openDir(d.path)
	if err != nil {
		r.State = unmaking
		return d.postpone(l, r, err)
	}
	defer at.close()
	s, err := d.inspect(at, l, fileState{})
	if err != nil {
		return err
	}
	r.File, r.Dir = s.stamp, at.id // whatever file is there is removed
	return d.finish(at, l, r)
}

// Files lists the lock files of a domain, or of all domains for "", by name. It includes
// those that could not be made, or not be removed, yet.
func (d *records) Files(domain string) []sidecar.LockFile {
	if domain != "" {
		if files, ok := d.standing.Load(domain); ok {
			return slices.Clone(files.([]sidecar.LockFile))
		}
		return nil
	}
	var all []sidecar.LockFile
	d.standing.Range(func(_, files any) bool {
		all = append(all, files.([]sidecar.LockFile)...)
		return true
	})
	slices.SortFunc(all, func(a, b sidecar.LockFile) int { return byName(a.Lock, b.Lock) })
	return all
}

// Failure returns what is wrong with the directory, nil if nothing is.
func (d *Dir) Failure() error {
	if trouble := d.reports.failure.Load(); trouble != nil {
		return errors.New(*trouble)
	}
	return nil
}

// done unlocks the mutex, and wakes Run if there is something to report.
func (d *Dir) done() {
	pending := len(d.reports.pending) > 0
	d.mu.Unlock()
	if pending {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}
