package lockdir

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sluice/sidecar"
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

const notePrefix = "lock/"

func noteKey(l sidecar.Lock) string { return notePrefix + string(l.Kind) + "/" + l.Domain }

// load reads the records back. One that cannot be parsed is reported and forgotten. Its
// file then counts as the operator's, which is the safe side: Sluice never removes it.
func (d *Dir) load() {
	var bad []string
	d.notes.Notes(notePrefix, func(key string, value []byte) {
		kind, domain, _ := strings.Cut(strings.TrimPrefix(key, notePrefix), "/")
		l := sidecar.Lock{Kind: sidecar.LockKind(kind), Domain: domain}
		var r record
		if _, err := fileName(l); err != nil || json.Unmarshal(value, &r) != nil ||
			r.State != making && r.State != made && r.State != unmaking {
			bad = append(bad, key)
			return
		}
		if before := r.Dir.Path; before != d.path && before != "" {
			d.movedFrom = before
		}
		d.put(l, entry{record: r, noted: true})
	})
	for _, key := range bad {
		err := fmt.Errorf("read note %q of a lock: not understood; if its file stands it counts as made by hand", key)
		d.reports.pending = append(d.reports.pending, sidecar.LockEvent{Kind: sidecar.LockTrouble, Err: err})
		if err := d.notes.Forget(key); err != nil {
			d.reports.pending = append(d.reports.pending, sidecar.LockEvent{Kind: sidecar.LockTrouble, Err: err})
		}
	}
}

// save stores a record in memory and notes it, if it has changed. After an error it is
// in memory all the same.
func (d *records) save(l sidecar.Lock, r record) error {
	e, known := d.locks[l]
	if known && e.record == r && e.noted {
		return nil
	}
	value, err := json.Marshal(r)
	if err == nil {
		err = d.notes.Note(noteKey(l), value)
	}
	e.record, e.noted = r, err == nil
	d.put(l, e)
	if err != nil {
		return fmt.Errorf("note that the lock file %s_%s is %s: %w", l.Kind, l.Domain, r.State, err)
	}
	return nil
}

// forget drops a record whose file is gone for good, from memory and from the notes.
func (d *Dir) forget(l sidecar.Lock) error {
	d.drop(l)
	if err := d.notes.Forget(noteKey(l)); err != nil {
		return fmt.Errorf("forget the lock file %s_%s: %w", l.Kind, l.Domain, err)
	}
	return nil
}

// put and drop are the only ones to change d.locks.
func (d *records) put(l sidecar.Lock, e entry) {
	d.locks[l] = e
	d.publish(l.Domain)
}

func (d *Dir) drop(l sidecar.Lock) {
	delete(d.absent.locks, l)
	delete(d.locks, l)
	d.publish(l.Domain)
}

// publish updates what Files returns for a domain.
func (d *records) publish(domain string) {
	var files []sidecar.LockFile
	for _, kind := range []sidecar.LockKind{sidecar.LockDeferFail, sidecar.LockHourly} {
		l := sidecar.Lock{Kind: kind, Domain: domain}
		if e, ok := d.locks[l]; ok {
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
func (e entry) file(l sidecar.Lock) sidecar.LockFile {
	// An operator can set any time; JSON has no year past 9999.
	sec := min(max(e.File.Mtime.Sec, 0), 253402300799)
	return sidecar.LockFile{
		Lock:     l,
		Operator: e.Operator,
		Since:    time.Unix(sec, e.File.Mtime.Nsec),
		Epoch:    e.Epoch,
		Content:  e.File.Content,
	}
}
