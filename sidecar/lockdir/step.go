package lockdir

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar/lockfile"
)

// step compares one lock's record with its file and does what the table in
// the package comment says. It reports whether it made a lost file again.
func (d *Dir) step(at *handle, l lockfile.Lock, now time.Time) (remade bool, err error) {
	e, known := d.locks[l]
	s, err := d.inspect(at, l, e.seen)
	here := e.Dir == at.id // the directory in which the file was made
	if err != nil || s.there || !here {
		delete(d.absent.locks, l)
	}
	if err != nil {
		return false, err
	}
	switch {
	case !known && !s.there:
		return false, nil
	case !known:
		return false, d.giveToOperator(at, l, record{}, s, lockfile.Made)
	case e.State == making:
		return false, d.ensure(at, l, e.record)
	case e.State == unmaking:
		return false, d.finish(at, l, e.record)
	case !s.there && here:
		d.absent.markVanished(l, now)
		return false, nil
	case !s.there:
		err := d.create(at, l, e.record)
		return err == nil, err
	case e.Operator || e.stands(at, s):
		return false, d.confirm(at, l, e.record, s)
	}
	return false, d.giveToOperator(at, l, e.record, s, lockfile.TakenOver)
}

// stands reports whether the file that was seen is the recorded one. In another directory
// it is enough that size and content are ours. That happens when a directory is unmounted
// and comes back: its old files differ in time and inode from those that were made again
// meanwhile. For an operator's file it is not enough, because those are often empty.
func (r record) stands(at *handle, s fileState) bool {
	if r.Dir == at.id || r.Dir == (dirID{}) || r.Operator {
		return s.stamp == r.File
	}
	return s.Size == r.File.Size && s.Content == r.File.Content
}

// inspect returns the state of a lock's file.
func (d *Dir) inspect(at *handle, l lockfile.Lock, last fileState) (fileState, error) {
	name, err := fileName(l)
	if err != nil {
		return fileState{}, err
	}
	s, err := at.inspect(name, last)
	if err != nil {
		return fileState{}, withRemedy("look at lock file", d.pathOf(l), err)
	}
	return s, nil
}

// ensure makes the file of a lock unless one exists.
func (d *Dir) ensure(at *handle, l lockfile.Lock, r record) error {
	s, err := d.inspect(at, l, d.locks[l].seen)
	switch {
	case err != nil:
		noteErr := d.save(l, r)
		return errors.Join(err, noteErr)
	case !s.there:
		return d.create(at, l, r)
	case r.stands(at, s):
		return d.confirm(at, l, r, s)
	}
	return d.giveToOperator(at, l, r, s, lockfile.Made)
}

// create makes the file of a record that has none. It notes the stamp before the file
// gets its name, so that after a crash the file is known to be ours.
func (d *Dir) create(at *handle, l lockfile.Lock, r record) error {
	if err := d.checkDurable(l, r); err != nil {
		r.State = making
		return errors.Join(err, d.save(l, r))
	}
	temp, st, err := at.writeTemp(r.File.Content, d.kind.file, true)
	if err != nil {
		st = stamp{Content: r.File.Content}
	}
	r.State, r.File, r.Dir = making, st, at.id
	noteErr := errors.Join(d.save(l, r), d.checkDurable(l, r))
	if err == nil && noteErr == nil {
		err = at.place(temp, entryName(l))
	}
	if temp != "" && (err != nil || noteErr != nil) {
		at.unlink(temp) // if this fails too, a scan removes it
	}
	switch {
	case noteErr != nil:
		return noteErr
	case errors.Is(err, unix.EEXIST):
		return nil // an operator was faster; the scan for the new file makes it the operator's
	case errors.Is(err, unix.ENOENT):
		return nil // the directory was removed meanwhile; the scan makes both again
	case err != nil:
		return withRemedy("make lock file", d.pathOf(l), err)
	}
	if err := at.sync(); err != nil {
		return withRemedy("make lock file", d.pathOf(l), err)
	}
	r.State = made
	return d.save(l, r)
}

// checkDurable fails if a record would not survive a crash and must. An operator's file
// needs none: a file without a record is the operator's.
func (d *Dir) checkDurable(l lockfile.Lock, r record) error {
	if err := d.store.Failure(); err != nil && !r.Operator {
		return fmt.Errorf("make lock file %s: not before it can be noted whose it is: %w", d.pathOf(l), err)
	}
	return nil
}

// finish removes the file of a lock that is no longer wanted, if it is still the
// recorded one. It notes what it is about to do before it looks at the file.
func (d *Dir) finish(at *handle, l lockfile.Lock, r record) error {
	r.State = unmaking
	if err := d.save(l, r); err != nil {
		return err
	}
	s, err := d.inspect(at, l, d.locks[l].seen)
	if err != nil {
		return err
	}
	if s.there && !r.stands(at, s) {
		return d.giveToOperator(at, l, r, s, lockfile.Made)
	}
	if s.there {
		if err := at.unlink(entryName(l)); err != nil {
			return withRemedy("remove lock file", d.pathOf(l), err)
		}
		if err := at.sync(); err != nil {
			return withRemedy("remove lock file", d.pathOf(l), err)
		}
	}
	return d.forget(l)
}

// giveToOperator makes a lock the operator's.
func (d *Dir) giveToOperator(at *handle, l lockfile.Lock, r record, s fileState, kind lockfile.EventKind) error {
	r.Operator = true
	if kind == lockfile.Made {
		r.Epoch = 0
	}
	err := d.confirm(at, l, r, s)
	d.reports.pending = append(d.reports.pending, lockfile.Event{Kind: kind, File: d.locks[l].file(l)})
	return err
}

// confirm records that the file exists as seen.
func (d *Dir) confirm(at *handle, l lockfile.Lock, r record, s fileState) error {
	r.State, r.File, r.Dir = made, s.stamp, at.id
	err := d.save(l, r)
	if e := d.locks[l]; e.seen != s {
		e.seen = s
		d.put(l, e)
	}
	return err
}
