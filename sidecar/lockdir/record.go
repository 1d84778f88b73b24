package lockdir

import (
	"fmt"
	"time"

	"sluice/sidecar/lockfile"
	"sluice/sidecar/notes"
)

// A state is how far a lock has come.
type state string

const (
	making   state = "making"   // the file may exist already
	made     state = "made"     // the file exists; if not, an operator has removed it
	unmaking state = "unmaking" // the file may still exist, and is to be removed
)

// A record is what is noted of a lock, before and after each step on the disk, so that
// even after a crash between two steps it is known whose the file is.
type record struct {
	State    state `json:"state"`
	Operator bool  `json:"operator,omitempty"` // only an operator, or Remove, removes the file
	Epoch    int64 `json:"epoch,omitempty"`    // the domain's, when Make was called
	File     stamp `json:"file"`               // only the content, while the file could not be written yet
	Dir      dirID `json:"dir"`                // where the file is
}

// An entry is a record in memory.
type entry struct {
	record
	seen  fileState // at the last look: an unchanged file need not be read again
	noted bool      // whether the record is in the notes; if not, the next scan tries again
}

// load reads the records back. One that cannot be read is reported and forgotten. Its
// file then counts as the operator's, which is the safe side: Sluice never removes it.
func (d *Dir) load() {
	var bad []string
	unread := func(key string, err error) {
		bad = append(bad, key)
		d.reports.addTrouble(fmt.Errorf("read note %q of a lock: %w; if its file stands it counts as made by hand", key, err))
	}
	d.notes = notes.New[record](d.store, d.kind.notes, 2, unread)
	d.notes.Load(func(name []string, r record) error {
		l := lockfile.Lock{Kind: lockfile.Kind(name[0]), Domain: name[1]}
		if _, err := fileName(l); err != nil {
			return err
		}
		if r.State != making && r.State != made && r.State != unmaking {
			return fmt.Errorf("there is no state %q", r.State)
		}
		if before := r.Dir.Path; before != d.path && before != "" {
			d.movedFrom = before
		}
		d.put(l, entry{record: r, noted: true})
		return nil
	})
	for _, key := range bad {
		if err := d.store.Forget(key); err != nil {
			d.reports.addTrouble(err)
		}
	}
}

// save stores a record in memory and notes it, if it has changed. After an error it is
// in memory all the same.
func (d *records) save(l lockfile.Lock, r record) error {
	e, known := d.locks[l]
	if known && e.record == r && e.noted {
		return nil
	}
	err := d.notes.Put(r, string(l.Kind), l.Domain)
	e.record, e.noted = r, err == nil
	d.put(l, e)
	if err != nil {
		return fmt.Errorf("note that the lock file %s is %s: %w", entryName(l), r.State, err)
	}
	return nil
}

// forget drops a record whose file is gone for good, from memory and from the notes.
func (d *Dir) forget(l lockfile.Lock) error {
	d.drop(l)
	if err := d.notes.Drop(string(l.Kind), l.Domain); err != nil {
		return fmt.Errorf("forget the lock file %s: %w", entryName(l), err)
	}
	return nil
}

// put and drop are the only ones to change d.locks.
func (d *records) put(l lockfile.Lock, e entry) {
	d.locks[l] = e
	d.publish(l.Domain)
}

func (d *Dir) drop(l lockfile.Lock) {
	delete(d.absent.locks, l)
	delete(d.locks, l)
	d.publish(l.Domain)
}

// publish updates what Files returns for a domain.
func (d *records) publish(domain string) {
	var files []lockfile.File
	for _, kind := range []lockfile.Kind{lockfile.DeferFail, lockfile.Hourly, lockfile.Stopped} {
		l := lockfile.Lock{Kind: kind, Domain: domain}
		if e, ok := d.locks[l]; ok && e.State != unmaking {
			files = append(files, e.file(l))
		}
	}
	if len(files) == 0 {
		d.standing.Delete(domain)
		return
	}
	d.standing.Store(domain, files)
}

// file is the lock as other packages see it.
func (e entry) file(l lockfile.Lock) lockfile.File {
	// An operator can set any time; JSON has no year past 9999.
	sec := min(max(e.File.Mtime.Sec, 0), 253402300799)
	return lockfile.File{
		Lock:     l,
		Operator: e.Operator,
		Since:    time.Unix(sec, e.File.Mtime.Nsec),
		Epoch:    e.Epoch,
		Content:  e.File.Content,
	}
}
