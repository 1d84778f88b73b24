package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
)

// record appends a change to what is to be written. The Ledger calls it in
// the order of the changes.
func (s *Store) record(seq uint64, entry []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending.first == 0 {
		s.pending.first = seq
	}
	s.append(entry)
}

// append adds an entry to what is to be written. mu is held.
func (s *Store) append(entry []byte) {
	if len(s.pending.b) == 0 {
		s.pending.b = append(s.pending.b, make([]byte, headerSize)...)
	}
	before := len(s.pending.b)
	s.pending.b = binary.AppendUvarint(s.pending.b, uint64(len(entry)))
	s.pending.b = append(s.pending.b, entry...)
	s.appended.Add(int64(len(s.pending.b) - before))
}

// commit returns when all that was recorded before the call is written.
//
// Whoever comes first writes for all who wait: those find their part written
// when it is their turn, and write nothing.
func (s *Store) commit() {
	mine := s.appended.Load()
	if s.written.Load() >= mine {
		return
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.written.Load() < mine {
		s.flush()
	}
}

// flush writes what is pending. writing is held.
func (s *Store) flush() {
	s.mu.Lock()
	b := s.pending
	s.pending = batch{b: s.spare.b[:0]}
	upTo := s.appended.Load()
	s.mu.Unlock()
	defer s.written.Store(upTo)
	s.spare = b
	if cap(b.b) > 1<<20 {
		s.spare = batch{}
	}
	if len(b.b) == 0 || s.segment.dead {
		return // a snapshot will make up for it
	}
	sealFrame(b.b, b.first)
	if _, err := s.segment.file.Write(b.b); err != nil {
		s.segment.dead = true
		s.fail(fmt.Errorf("write the journal: %w", err))
		return
	}
	s.segment.size += int64(len(b.b))
}

// fail begins a time in which answers may not survive a crash.
func (s *Store) fail(err error) {
	if s.failure.Swap(&err) == nil {
		s.options.Reporter.JournalFailed(err)
	}
}

// Save writes a snapshot, after which the older files are not needed.
func (s *Store) Save() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	n, err := s.rotate()
	if err != nil {
		return fmt.Errorf("begin a journal file: %w", err)
	}
	size, err := s.writeSnapshot(n)
	if err != nil {
		return fmt.Errorf("write a snapshot of the ledger: %w", err)
	}
	s.snapshot = size
	s.writing.Lock()
	mended := !s.segment.dead && s.failure.Swap(nil) != nil
	s.writing.Unlock()
	if mended {
		s.options.Reporter.JournalMended()
	}
	return s.removeBefore(n)
}

// rotate goes on to a new segment, and returns its number. All changes from
// then on are in it, and all before it will be in a snapshot that begins now.
func (s *Store) rotate() (uint64, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil { // it may have been taken away
		return 0, err
	}
	n := s.segment.n + 1
	file, err := os.OpenFile(s.path(segmentPrefix, n), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	s.writing.Lock()
	s.flush()
	old := s.segment.file
	s.segment = segment{file: file, n: n}
	s.writing.Unlock()
	if old != nil {
		old.Sync() // it only matters until the snapshot is there
		old.Close()
	}
	return n, nil
}

// writeSnapshot writes snapshot n and returns its size. It counts only under
// its final name, which it gets when it is whole.
func (s *Store) writeSnapshot(n uint64) (size int64, err error) {
	path := s.path(snapshotPrefix, n)
	file, err := os.OpenFile(path+temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() {
		file.Close()
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	var b []byte
	write := func(section []byte) error {
		b = append(append(b[:0], make([]byte, headerSize)...), section...)
		sealFrame(b, 0)
		n, err := file.Write(b)
		size += int64(n)
		return err
	}
	if err := s.ledger.Snapshot(write); err != nil {
		return 0, err
	}
	if err := s.notes.snapshot(write); err != nil {
		return 0, err
	}
	if err := write([]byte{sectionEnd}); err != nil {
		return 0, err
	}
	if err := s.settle(); err != nil {
		return 0, err
	}
	if err := file.Sync(); err != nil {
		return 0, err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return 0, err
	}
	return size, syncDir(s.dir)
}

// settle brings to the disk every change that a snapshot may have seen: its
// sections were copied at different moments, and the segment makes them agree.
func (s *Store) settle() error {
	s.writing.Lock()
	s.flush()
	segment := s.segment
	s.writing.Unlock()
	if segment.dead {
		return s.Failure()
	}
	return segment.file.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// removeBefore removes the files that snapshot n replaces. Damaged ones are
// kept under another name.
func (s *Store) removeBefore(n uint64) error {
	files, err := s.files()
	if err != nil {
		return err
	}
	for _, f := range files {
		path := s.path(f.prefix, f.n)
		switch {
		case f.n >= n:
			continue
		case slices.Contains(s.damaged, path):
			err = errors.Join(err, os.Rename(path, path+".damaged"))
		default:
			err = errors.Join(err, os.Remove(path))
		}
	}
	s.damaged = nil
	return err
}
