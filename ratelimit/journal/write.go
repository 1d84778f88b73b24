package journal

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

// record writes a change or a note. The Ledger calls it in the order of changes.
func (s *Store) record(seq uint64, entry []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.segment.failed {
		return // a snapshot will make up for it
	}
	if err := s.segment.write(seq, entry); err != nil {
		s.abandonSegment(err)
	}
}

// Save writes a snapshot and removes the older files.
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
	s.mu.Lock()
	s.segment.tailBefore = 0
	mended := !s.segment.failed && s.failure.Swap(nil) != nil
	s.mu.Unlock()
	if mended {
		s.options.Reporter.JournalMended()
	}
	return s.removeBefore(n)
}

// rotate begins a new segment and returns its number. All later changes are in it;
// all earlier ones will be in a snapshot that begins afterwards.
func (s *Store) rotate() (uint64, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil { // somebody may have removed it
		return 0, err
	}
	old := s.segment
	next, err := newSegment(s.path(segmentPrefix, old.n+1), old.n+1)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	next.tailBefore = old.tailBefore + old.size
	s.segment = next
	s.mu.Unlock()
	if old.file != nil {
		old.finish()
	}
	return next.n, nil
}

// writeSnapshot writes snapshot n and returns its size. The file gets its final name
// when it is complete.
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
		fillHeader(b, 0)
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
	if err := s.syncSegment(); err != nil {
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

// syncSegment syncs every change that may be in a snapshot. The sections of a
// snapshot were copied at different moments, and only the segment's changes make them
// consistent.
func (s *Store) syncSegment() error {
	s.mu.Lock()
	file, failed := s.segment.file, s.segment.failed
	s.mu.Unlock()
	if failed {
		return s.Failure()
	}
	return file.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// removeBefore removes the files that snapshot n replaces. Damaged ones are renamed.
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
