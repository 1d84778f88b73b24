package journal

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

// record writes a change. The Ledger calls it in the order of the changes.
func (s *Store) record(seq uint64, entry []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.segment.dead {
		return // a snapshot will make up for it
	}
	if err := s.segment.write(seq, entry); err != nil {
		s.bury(err)
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
	s.mu.Lock()
	s.segment.before = 0
	mended := !s.segment.dead && s.failure.Swap(nil) != nil
	s.mu.Unlock()
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
	old := s.segment
	next, err := newSegment(s.path(segmentPrefix, old.n+1), old.n+1)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	next.before = old.before + old.size
	s.segment = next
	s.mu.Unlock()
	if old.file != nil {
		old.finish()
	}
	return next.n, nil
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
	s.mu.Lock()
	file, dead := s.segment.file, s.segment.dead
	s.mu.Unlock()
	if dead {
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
