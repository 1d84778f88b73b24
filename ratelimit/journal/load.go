package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The files in the directory: segment-N has changes; snapshot-N has the state after
// all segments before N.
const (
	segmentPrefix  = "segment-"
	snapshotPrefix = "snapshot-"
	temporary      = ".tmp"
)

// The first byte of those sections of a snapshot that are not the Ledger's: the end
// of the snapshot, and notes.
const (
	sectionEnd   = 'E'
	sectionNotes = 'N'
)

type journalFile struct {
	prefix string
	n      uint64
}

func (s *Store) path(prefix string, n uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s%016d", prefix, n))
}

// files lists the files of the journal by number, and removes unfinished snapshots.
func (s *Store) files() ([]journalFile, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var files []journalFile
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), temporary) {
			os.Remove(filepath.Join(s.dir, e.Name()))
			continue
		}
		for _, prefix := range []string{segmentPrefix, snapshotPrefix} {
			digits, ok := strings.CutPrefix(e.Name(), prefix)
			if n, err := strconv.ParseUint(digits, 10, 64); ok && err == nil {
				files = append(files, journalFile{prefix, n})
			}
		}
	}
	slices.SortFunc(files, func(a, b journalFile) int {
		return cmp.Or(cmp.Compare(a.n, b.n), strings.Compare(a.prefix, b.prefix))
	})
	return files, nil
}

// load reads the last snapshot and the segments since, and begins a new segment.
func (s *Store) load() error {
	files, err := s.files()
	if err != nil {
		return err
	}
	var segments []uint64
	var from uint64
	for _, f := range files {
		s.segment.n = max(s.segment.n, f.n)
		switch f.prefix {
		case segmentPrefix:
			segments = append(segments, f.n)
		case snapshotPrefix:
			from = f.n
		}
	}
	if from > 0 {
		segments = slices.DeleteFunc(segments, func(n uint64) bool { return n < from })
		if s.snapshot, err = s.loadSnapshot(from); err != nil {
			return err
		}
	}
	written, err := s.lastWritten(segments)
	if err != nil {
		return err
	}
	last, tail := uint64(0), int64(0)
	for _, n := range segments {
		size, err := s.loadSegment(n, n >= written, &last)
		if err != nil {
			return err
		}
		tail += size
	}
	// A full disk is no reason not to start; tick tries again.
	if _, err := s.rotate(); err != nil {
		s.fail(fmt.Errorf("begin a journal file: %w", err))
	}
	s.ledger.Ready(last)
	s.segment.tailBefore = tail
	// A process that is killed again and again before a snapshot is complete must
	// not have more to read at each start.
	if s.damaged != nil || tail > s.maxTail() || len(segments) > maxSegments {
		if err := s.Save(); err != nil {
			s.fail(err)
		}
	}
	return nil
}

// lastWritten finds the last segment with anything in it. It need not be the last
// one: rotate makes the next segment before changes go to it.
func (s *Store) lastWritten(segments []uint64) (last uint64, err error) {
	for _, n := range slices.Backward(segments) {
		last = n
		if blank, err := onlyZeros(s.path(segmentPrefix, n)); err != nil || !blank {
			return last, err
		}
	}
	return last, nil
}

// maxSegments is how many segments there may be at a start without a new snapshot:
// each takes at least a segmentStep of disk space.
const maxSegments = 16

func (s *Store) loadSnapshot(n uint64) (int64, error) {
	whole := false
	path := s.path(snapshotPrefix, n)
	size, err := s.read(path, false, func(_ uint64, section []byte) error {
		switch {
		case len(section) > 0 && section[0] == sectionEnd:
			whole = true
			return nil
		case len(section) > 0 && section[0] == sectionNotes:
			return s.notes.restore(section[1:])
		}
		return s.ledger.Restore(section)
	})
	if err == nil && !whole {
		s.reportDamage(path, size, 0, errors.New("its end is missing"))
	}
	return size, err
}

func (s *Store) loadSegment(n uint64, last bool, seq *uint64) (int64, error) {
	return s.read(s.path(segmentPrefix, n), last, func(number uint64, entry []byte) error {
		if isNote(entry) {
			return s.notes.restore(entry[1:])
		}
		*seq = max(*seq, number)
		return s.ledger.Replay(number, entry)
	})
}

// read calls f for every intact frame of a file, and reports damage. If the file is
// the last one, an incomplete write at its end is cut off. It returns how many bytes
// it has read.
func (s *Store) read(path string, last bool, f func(seq uint64, payload []byte) error) (int64, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	frames := newFrames(file, info.Size())
	for {
		from := frames.at
		seq, payload, err := frames.next()
		if err == nil {
			if err := f(seq, payload); err != nil {
				s.reportDamage(path, from, frames.at-from, err)
			}
			continue
		}
		if errors.Is(err, io.EOF) {
			return frames.at, nil
		}
		if !errors.Is(err, errFrame) {
			return 0, err
		}
		if blank, err := frames.onlyZeros(); err != nil {
			return 0, err
		} else if blank { // allocated ahead, and not written
			return from, file.Truncate(from)
		}
		more, resyncErr := frames.resync()
		switch {
		case resyncErr != nil:
			return 0, resyncErr
		case more:
			s.reportDamage(path, from, frames.at-from, err)
		case last:
			s.options.Reporter.JournalCut(path, from, info.Size()-from)
			return from, file.Truncate(from)
		default:
			s.reportDamage(path, from, info.Size()-from, err)
			return from, nil
		}
	}
}

// reportDamage reports damage, and has the file kept for the operator.
func (s *Store) reportDamage(path string, at, bytes int64, reason error) {
	s.options.Reporter.JournalDamaged(path, at, bytes, reason)
	if !slices.Contains(s.damaged, path) {
		s.damaged = append(s.damaged, path)
	}
}
