// Package lockdir is the email_send_limits directory: the lock files by which
// Exim refuses a domain even when nobody answers, and the hands of operators
// in it.
//
// Each lock has a record (record.go), noted before and after each step on the
// disk. A record is making, made or unmaking, and its file Sluice's or the
// operator's. Whatever happened, also a crash or a hand while sluice was
// down, step (step.go) compares the record with the file:
//
//	record    no file, same directory  no file, other directory  file as recorded  another, touched or edited
//	none      -                        -                         -                 operator's: LockMade
//	making    make it                  make it                   made              operator's: LockMade
//	made      a hand: LockReleased     make it again             -                 operator's: LockTaken
//	unmaking  forget                   forget                    remove, forget    operator's: LockMade
//
// An operator's file may change as it likes. Only made and absent is a hand.
// A directory that is missing or another one (removed, mounted over) is no
// hand: its locks are made again, the operator's too, and a LockDirLost says so.
// In another directory a file with our content is ours: one that was unmounted
// comes back with the files it had.
//
// Make, Unmake and Remove work on the disk and the records under one mutex
// with the scans that compare them, so none of our own doings looks like a
// hand. A scan is always right by itself; the kernel's notices and the poll
// (watch.go) only say when.
//
// Only mtime, inode, size and content tell whose a file is: a chmod, chown or
// further hard link takes nothing over. A lock file that a power cut separates
// from its note, written in the second before, is the operator's. While notes would
// not survive a crash, on a full disk say, no file of Sluice's is made: after one
// it would be taken for the operator's, and nobody would remove it.
//
// Usage files (usage.go), named by the bare domain, share the directory and the
// mutex. They are only information: written anew every few seconds, they have
// no record, and of what a hand does to them only a removal counts.
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
)

// Options say where the directory is.
type Options struct {
	Path  string        // absolute; made if missing
	Notes Notes         // keys that begin with lock/ are this package's
	Poll  time.Duration // how long what the kernel did not tell may go unnoticed; 0 is a second
	Now   time.Time     // of the first scan
}

// Notes are kept over a crash.
type Notes interface {
	sidecar.Notes
	// Failure tells why what is noted now would not be; nil if it would.
	Failure() error
}

// A Dir is the lock directory. Its methods may be called at any time from any
// goroutine; all but Files and Failure work on the disk (a few fsyncs), so they have no
// place between a question and its answer.
type Dir struct {
	path  string
	notes Notes
	poll  time.Duration
	wake  chan struct{} // something is pending

	busy     sync.Mutex // held while records and files change
	id       dirID      // the directory of the last scan; zero before the first
	movedOff string     // another path at which locks were noted, until a scan has told
	missing  time.Time  // since when there is none
	gone     map[sidecar.Lock]time.Time
	lastGone time.Time // when the last of gone was found missing
	pending  []sidecar.LockEvent
	told     map[string]string // last trouble told, by what it is about
	ignored  []string          // names that tellIgnored has told
	usage    map[string]usageFile
	usageDir dirID // where they stand

	locks map[sidecar.Lock]entry

	// standing is what Files returns of a domain: string to []sidecar.LockFile,
	// by name. Every question looks there, and nearly none finds anything: a
	// sync.Map has them wait for nothing and write nothing.
	standing sync.Map

	trouble atomic.Pointer[string] // all of told; nil if there is none
}

var _ sidecar.LockDir = (*Dir)(nil)

// Open reads the notes and looks at the directory once, so that Files is
// right from the start. A directory that cannot be made or read is reported by
// Run and tried again there: mail goes on without it.
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
		path:  filepath.Clean(o.Path),
		notes: o.Notes,
		poll:  o.Poll,
		wake:  make(chan struct{}, 1),
		gone:  map[sidecar.Lock]time.Time{},
		told:  map[string]string{},
		usage: map[string]usageFile{},
		locks: map[sidecar.Lock]entry{},
	}
	d.load()
	d.scan(o.Now)
	if err := Shared(d.path); err != nil {
		d.pending = append(d.pending, sidecar.LockEvent{Kind: sidecar.LockDirShared, Err: err})
	}
	return d, nil
}

// Make makes a lock file of Sluice's unless one of that name stands. After an
// error it is tried again at each poll until Unmake.
func (d *Dir) Make(l sidecar.Lock, content string, epoch int64) error {
	return d.make(l, record{Epoch: epoch, File: stamp{Content: content}})
}

// MakeOperator makes a lock file that only a hand, or Remove, removes. One of
// Sluice's that stands becomes the operator's. After an error it is tried
// again at each poll until Remove.
func (d *Dir) MakeOperator(l sidecar.Lock, content string) error {
	return d.make(l, record{Operator: true, File: stamp{Content: content}})
}

func (d *Dir) make(l sidecar.Lock, want record) error {
	if _, err := fileName(l); err != nil {
		return err
	}
	if c := want.File.Content; len(c) > maxContent || !utf8.ValidString(c) {
		return fmt.Errorf("make lock file %s: content %.40q... is over %d bytes or no UTF-8", d.pathOf(l), c, maxContent)
	}
	d.busy.Lock()
	defer d.done()
	have := d.locks[l].record // zero if there is none
	switch {
	case have.State == made: // should a hand just have removed it, the scan finds out
		have.Operator = have.Operator || want.Operator
		return d.save(l, have)
	case have.State == making:
		want.Operator = want.Operator || have.Operator
	case have.State == unmaking && !have.Operator && have.File.Ino != 0:
		want.File, want.Dir = have.File, have.Dir // it may stand still
	}
	want.State = making
	at, err := openDir(d.path)
	if err == nil {
		defer at.close()
		return d.appear(at, l, want)
	}
	return d.later(l, want, err)
}

// later notes a wish for the scan, which fulfils it when the directory opens.
// That there is none is no error: the scan makes it.
func (d *Dir) later(l sidecar.Lock, r record, openErr error) error {
	note := d.save
	if r.State == unmaking && r.File.Ino == 0 { // there never was a file
		note = func(sidecar.Lock, record) error { return d.forget(l) }
	}
	if err := note(l, r); err != nil || errors.Is(openErr, unix.ENOENT) {
		return err
	}
	return fault("open lock directory", d.path, openErr)
}

// Unmake removes a lock file if Sluice made it and nobody touched it. After an
// error it is tried again at each poll until Make.
func (d *Dir) Unmake(l sidecar.Lock) error {
	if _, err := fileName(l); err != nil {
		return err
	}
	d.busy.Lock()
	defer d.done()
	e, known := d.locks[l]
	if !known || e.Operator {
		return nil
	}
	at, err := openDir(d.path)
	if err != nil {
		e.State = unmaking
		return d.later(l, e.record, err)
	}
	defer at.close()
	s, err := d.look(at, l, e.seen)
	if err != nil {
		return err
	}
	switch {
	case !s.there && e.State == made && e.Dir == at.id:
		return nil // a hand was faster, and is to be heard
	case s.there && e.State == made && !e.stands(at, s):
		return d.take(at, l, e.record, s, sidecar.LockTaken)
	}
	return d.finish(at, l, e.record)
}

// Remove removes a lock file whoever made it. It is no hand: no LockEvent
// follows, not even one that was already on its way. After an error it is
// tried again at each poll until Make.
func (d *Dir) Remove(l sidecar.Lock) error {
	if _, err := fileName(l); err != nil {
		return err
	}
	d.busy.Lock()
	defer d.done()
	d.pending = slices.DeleteFunc(d.pending, func(e sidecar.LockEvent) bool { return e.File.Lock == l })
	r := d.locks[l].record
	at, err := openDir(d.path)
	if err != nil {
		r.State = unmaking
		return d.later(l, r, err)
	}
	defer at.close()
	s, err := d.look(at, l, sight{})
	if err != nil {
		return err
	}
	r.File, r.Dir = s.stamp, at.id // whatever it is, it goes
	return d.finish(at, l, r)
}

// Files lists the lock files of a domain, or of all domains for "", by name.
// Those that could not be made, or not be removed yet are among them.
func (d *Dir) Files(domain string) []sidecar.LockFile {
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

// Failure tells what is wrong with the directory, if something is.
func (d *Dir) Failure() error {
	if trouble := d.trouble.Load(); trouble != nil {
		return errors.New(*trouble)
	}
	return nil
}

// done ends a method that may have found something to report.
func (d *Dir) done() {
	pending := len(d.pending) > 0
	d.busy.Unlock()
	if pending {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}
