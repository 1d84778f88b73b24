package lockdir

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar"
)

// step compares one lock's record with its file and does what the table in
// the package comment says. It tells whether it made a lost file again.
func (d *Dir) step(at *handle, l sidecar.Lock, now time.Time) (remade bool, err error) {
	e, known := d.locks[l]
	s, err := d.look(at, l, e.seen)
	here := e.Dir == at.id // the directory in which the file was made
	if err != nil || s.there || !here {
		delete(d.gone, l)
	}
	if err != nil {
		return false, err
	}
	switch {
	case !known && !s.there:
		return false, nil
	case !known:
		return false, d.take(at, l, record{}, s, sidecar.LockMade)
	case e.State == making:
		return false, d.appear(at, l, e.record)
	case e.State == unmaking:
		return false, d.finish(at, l, e.record)
	case !s.there && here:
		d.suspect(l, now)
		return false, nil
	case !s.there:
		err := d.build(at, l, e.record)
		return err == nil, err
	case e.Operator || e.stands(at, s):
		return false, d.confirm(at, l, e.record, s)
	}
	return false, d.take(at, l, e.record, s, sidecar.LockTaken)
}

// stands tells whether the file that was seen is the recorded one. In another
// directory the content tells ours: one that was unmounted comes back with the
// files it had, and they were made again meanwhile. (What a hand writes, such
// as nothing, may well be the same twice.)
func (r record) stands(at *handle, s sight) bool {
	if r.Dir == at.id || r.Dir == (dirID{}) || r.Operator {
		return s.stamp == r.File
	}
	return s.Size == r.File.Size && s.Content == r.File.Content
}

// look looks at a lock's file.
func (d *Dir) look(at *handle, l sidecar.Lock, last sight) (sight, error) {
	name, err := fileName(l)
	if err != nil {
		return sight{}, err
	}
	s, err := at.look(name, last)
	if err != nil {
		return sight{}, fault("look at lock file", d.pathOf(l), err)
	}
	return s, nil
}

// appear makes the file of a lock unless one stands.
func (d *Dir) appear(at *handle, l sidecar.Lock, r record) error {
	s, err := d.look(at, l, d.locks[l].seen)
	switch {
	case err != nil:
		noteErr := d.save(l, r)
		return errors.Join(err, noteErr)
	case !s.there:
		return d.build(at, l, r)
	case r.stands(at, s):
		return d.confirm(at, l, r, s)
	}
	return d.take(at, l, r, s, sidecar.LockMade)
}

// build makes the file of a record that has none. The stamp is noted before
// the file gets its name, so that after a crash it is known for ours.
func (d *Dir) build(at *handle, l sidecar.Lock, r record) error {
	if err := d.kept(l, r); err != nil {
		r.State = making
		return errors.Join(err, d.save(l, r))
	}
	temp, st, err := at.writeTemp(r.File.Content, true)
	if err != nil {
		st = stamp{Content: r.File.Content}
	}
	r.State, r.File, r.Dir = making, st, at.id
	noteErr := errors.Join(d.save(l, r), d.kept(l, r))
	if err == nil && noteErr == nil {
		err = at.place(temp, baseName(l))
	}
	if temp != "" && (err != nil || noteErr != nil) {
		at.unlink(temp) // if this fails too, a scan does it
	}
	switch {
	case noteErr != nil:
		return noteErr
	case errors.Is(err, unix.EEXIST):
		return nil // a hand was faster; the scan that its file causes takes it
	case errors.Is(err, unix.ENOENT):
		return nil // the directory went away meanwhile; the scan makes both again
	case err != nil:
		return fault("make lock file", d.pathOf(l), err)
	}
	if err := at.sync(); err != nil {
		return fault("make lock file", d.pathOf(l), err)
	}
	r.State = made
	return d.save(l, r)
}

// kept tells why a record would not survive a crash that must, if so. A file that
// is the operator's is so without one.
func (d *Dir) kept(l sidecar.Lock, r record) error {
	if err := d.notes.Failure(); err != nil && !r.Operator {
		return fmt.Errorf("make lock file %s: not before it can be noted whose it is: %w", d.pathOf(l), err)
	}
	return nil
}

// finish removes the file of a lock that is no longer wanted, if it is still
// the one of the record. It looks last, after the note.
func (d *Dir) finish(at *handle, l sidecar.Lock, r record) error {
	r.State = unmaking
	if err := d.save(l, r); err != nil {
		return err
	}
	s, err := d.look(at, l, d.locks[l].seen)
	if err != nil {
		return err
	}
	if s.there && !r.stands(at, s) {
		return d.take(at, l, r, s, sidecar.LockMade)
	}
	if s.there {
		if err := at.unlink(baseName(l)); err != nil {
			return fault("remove lock file", d.pathOf(l), err)
		}
		if err := at.sync(); err != nil {
			return fault("remove lock file", d.pathOf(l), err)
		}
	}
	return d.forget(l)
}

// take makes a lock the operator's.
func (d *Dir) take(at *handle, l sidecar.Lock, r record, s sight, kind sidecar.LockEventKind) error {
	r.Operator = true
	if kind == sidecar.LockMade {
		r.Epoch = 0
	}
	err := d.confirm(at, l, r, s)
	d.pending = append(d.pending, sidecar.LockEvent{Kind: kind, File: d.locks[l].file(l)})
	return err
}

// confirm records that the file stands as seen.
func (d *Dir) confirm(at *handle, l sidecar.Lock, r record, s sight) error {
	r.State, r.File, r.Dir = made, s.stamp, at.id
	err := d.save(l, r)
	if e := d.locks[l]; e.seen != s {
		e.seen = s
		d.put(l, e)
	}
	return err
}
