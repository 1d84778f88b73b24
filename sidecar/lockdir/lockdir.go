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

	"sluice/sidecar/lockfile"
	"sluice/sidecar/notes"
)

// Options are what Open needs.
type Options struct {
	Path  string        // absolute; made if missing
	Notes Notes         // this package uses the keys that begin with lock/
	Poll  time.Duration // how often to scan for what the kernel gave no notice of; 0 is a second
	Now   time.Time     // time of the first scan
	// Within is the lock directory, if this is the directory of the stopped, below it: its files
	// are named after an author alone, and for nobody to list.
	Within *Dir
}

// Notes survive a crash.
type Notes interface {
	notes.Store
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
	locks map[lockfile.Lock]entry

	// standing is what Files returns for each domain: string to []lockfile.File, by
	// name. Every question to the policy looks there, and nearly none finds anything: with
	// a sync.Map they neither wait nor write.
	standing sync.Map
}

// absences are what was found missing and may have been removed by an operator.
type absences struct {
	locks  map[lockfile.Lock]time.Time // when each was found missing
	last   time.Time                   // when the last of them was
	dir    time.Time                   // when the directory was; zero while it is there
	looked time.Time                   // when the directory was last looked for
}

// reports are what Run has to report, and what is wrong.
type reports struct {
	pending  []lockfile.Event
	troubles map[string]string      // the error last reported, by what was being done
	ignored  []string               // names that reportIgnored has reported
	failure  atomic.Pointer[string] // all troubles in one text; nil if there are none
	all      *inAll
}

// inAll counts the directories in trouble, of the lock directory and what is below it: what one
// hand mends for all is reported once.
type inAll struct {
	path string
	dirs atomic.Int32
}

var _ lockfile.Dir = (*Dir)(nil)

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
		records: records{store: o.Notes, locks: map[lockfile.Lock]entry{}},
		absent:  absences{locks: map[lockfile.Lock]time.Time{}},
		usage:   usageFiles{path: filepath.Clean(o.Path), files: map[string]usageFile{}},
		reports: reports{troubles: map[string]string{}},
	}
	d.reports.all = &inAll{path: d.path}
	if o.Within != nil {
		d.kind, d.reports.all = stopFiles, o.Within.reports.all
	}
	d.load()
	d.scan(o.Now)
	if err := Shared(d.path); err != nil {
		d.reports.pending = append(d.reports.pending, lockfile.Event{Kind: lockfile.DirShared, Err: err})
	}
	return d, nil
}

// Make makes a lock file that is Sluice's, unless a file of that name exists. After an
// error each poll tries again, until Unmake.
func (d *Dir) Make(l lockfile.Lock, content string, epoch int64) error {
	return d.make(l, record{Epoch: epoch, File: stamp{Content: content}})
}

// MakeOperator makes a lock file that only an operator or Remove removes. If Sluice's
// exists, it becomes the operator's. After an error each poll tries again, until Remove.
func (d *Dir) MakeOperator(l lockfile.Lock, content string) error {
	return d.make(l, record{Operator: true, File: stamp{Content: content}})
}

// Adopt makes an operator's file Sluice's, as it is.
func (d *Dir) Adopt(l lockfile.Lock) error {
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

func (d *Dir) make(l lockfile.Lock, want record) error {
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
func (d *Dir) postpone(l lockfile.Lock, r record, openErr error) error {
	note := d.save
	if r.State == unmaking && r.File.Ino == 0 { // there never was a file
		note = func(lockfile.Lock, record) error { return d.forget(l) }
	}
	if err := note(l, r); err != nil || errors.Is(openErr, unix.ENOENT) {
		return err
	}
	return withRemedy("open lock directory", d.path, openErr)
}

// Unmake removes a lock file if Sluice made it and nobody touched it. After an error
// each poll tries again, until Make.
func (d *Dir) Unmake(l lockfile.Lock) error {
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
		return d.giveToOperator(at, l, e.record, s, lockfile.TakenOver)
	}
	return d.finish(at, l, e.record)
}

// Remove removes a lock file, whoever made it. No lockfile.Event about it follows, not even
// one that was already pending. After an error each poll tries again, until Make.
func (d *Dir) Remove(l lockfile.Lock) error {
	if _, err := fileName(l); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.done()
	d.reports.pending = slices.DeleteFunc(d.reports.pending, func(e lockfile.Event) bool { return e.File.Lock == l })
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
	r.Operator, r.File, r.Dir = false, s.stamp, at.id // whatever file is there is removed
	return d.finish(at, l, r)
}

// Files lists the lock files of a domain, or of all domains for "", by name. It includes
// those that could not be made yet, and leaves out those that could not be removed yet: they
// lock nothing any more but where only Exim looks, and if their cause comes back they are made again.
func (d *records) Files(domain string) []lockfile.File {
	if domain != "" {
		if files, ok := d.standing.Load(domain); ok {
			return slices.Clone(files.([]lockfile.File))
		}
		return nil
	}
	var all []lockfile.File
	d.standing.Range(func(_, files any) bool {
		all = append(all, files.([]lockfile.File)...)
		return true
	})
	slices.SortFunc(all, func(a, b lockfile.File) int { return byName(a.Lock, b.Lock) })
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
