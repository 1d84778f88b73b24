package mainlog

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	// maxLine is how many bytes of a line are kept. Fields come first, so a longer line
	// loses nothing of interest.
	maxLine = 1 << 20
	// blockSize is how many bytes are read at once. With more, what was parsed is no longer
	// in the processor's cache when it is recorded; with less, fewer sends of a batch have
	// the same payers.
	blockSize = 1 << 20
)

// A source is one file of a log, opened for reading.
type source struct {
	name       string
	file       *os.File
	info       os.FileInfo // as it was opened
	reader     io.Reader
	packed     *gzip.Reader // nil if it is not compressed
	offset     int64        // of the first line that lines has not returned
	buf        []byte       // what was read from offset on
	dropped    int64        // bytes dropped of that line, because it is too long
	firstBytes []byte       // the first bytes, as last seen
	key        uint64       // the file's in the position; 0 if it has none
}

// errTruncated says that a file no longer has what was read of it.
var errTruncated = errors.New("it was truncated")

// open opens a file, to be read from its beginning.
func open(name string) (*source, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	s := &source{name: name, file: file}
	if err := s.begin(); err != nil {
		file.Close()
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return s, nil
}

func (s *source) begin() (err error) {
	if s.info, err = s.file.Stat(); err != nil {
		return err
	}
	if !s.info.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	if !strings.HasSuffix(s.name, ".gz") {
		s.reader = s.file
		s.firstBytes, err = s.readFirst()
		return err
	}
	if s.packed, err = gzip.NewReader(bufio.NewReader(s.file)); errors.Is(err, gzip.ErrHeader) {
		return fmt.Errorf("%w: it is not compressed by gzip: give its name another ending than .gz", err)
	} else if err != nil {
		return err
	}
	unpacked := bufio.NewReader(s.packed)
	firstBytes, _ := unpacked.Peek(firstSize) // an error comes again when it is read
	s.firstBytes, s.reader = bytes.Clone(firstBytes), unpacked
	return nil
}

// readFirst reads the first bytes of a file that is not compressed.
func (s *source) readFirst() ([]byte, error) {
	firstBytes := make([]byte, firstSize)
	n, err := s.file.ReadAt(firstBytes, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return firstBytes[:n], err
}

// skipTo skips what was read before.
func (s *source) skipTo(offset int64) (err error) {
	if s.offset = offset; s.packed != nil {
		_, err = io.CopyN(io.Discard, s.reader, offset)
	} else {
		_, err = s.file.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", s.name, err)
	}
	return nil
}

// lines returns the next whole lines, with their line ends, or io.EOF if there is none
// yet. It returns many at once, so that the work per call costs little per line.
//
// It checks for truncation after reading: by then the file may be as long again, and what
// was read from the middle of something else.
func (s *source) lines() (string, error) {
	err := s.fill()
	if broken := s.check(); broken != nil {
		return "", broken
	}
	end := bytes.LastIndexByte(s.buf, '\n') + 1
	if end == 0 {
		return "", err
	}
	lines := string(s.buf[:end])
	if s.dropped > 0 { // the first line is a part of one
		first := bytes.IndexByte(s.buf, '\n')
		lines = string(s.buf[:min(first, maxLine)]) + lines[first:]
	}
	s.offset += int64(end) + s.dropped
	s.dropped = 0
	s.buf = s.buf[:copy(s.buf, s.buf[end:])]
	return lines, nil
}

// fill reads until the buffer is full, or there is no more. It grows for a line that does
// not fit; a line over maxLine loses its end.
func (s *source) fill() error {
	if s.buf == nil {
		s.buf = make([]byte, 0, blockSize)
	}
	for {
		n, err := s.reader.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		if len(s.buf) == cap(s.buf) {
			if bytes.IndexByte(s.buf, '\n') >= 0 {
				return nil
			}
			if len(s.buf) <= maxLine {
				s.buf = slices.Grow(s.buf, maxLine+1)
				continue
			}
			s.dropped += int64(len(s.buf) - maxLine)
			s.buf = s.buf[:maxLine]
		}
		if err != nil {
			return err
		}
	}
}

// rest returns a last line that has no line end.
func (s *source) rest() string {
	line := string(s.buf[:min(len(s.buf), maxLine)])
	s.offset += int64(len(s.buf)) + s.dropped
	s.buf, s.dropped = s.buf[:0], 0
	return line
}

// check fails if a file no longer has what was seen of it.
func (s *source) check() error {
	if s.packed != nil {
		return nil
	}
	firstBytes, err := s.readFirst()
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(firstBytes, s.firstBytes) || s.size() < s.offset+s.dropped+int64(len(s.buf)) {
		return errTruncated
	}
	if s.offset < int64(len(firstBytes)) { // a part of them was read, but not seen as such yet
		both := firstBytes[s.offset:]
		n := min(len(both), len(s.buf))
		if !bytes.Equal(both[:n], s.buf[:n]) {
			return errTruncated
		}
	}
	s.firstBytes = firstBytes
	return nil
}

// size is that of the file as stored, in bytes.
func (s *source) size() int64 {
	info, err := s.file.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// writtenWithin reports whether a file was written to within a time, by a clock that may
// have been set since.
func (s *source) writtenWithin(within time.Duration) bool {
	info, err := s.file.Stat()
	return err == nil && time.Since(info.ModTime()).Abs() < within
}

// length is that of a file's text, in bytes. A compressed file has it at its end, modulo 4
// GiB (RFC 1952, ISIZE).
func (s *source) length() int64 {
	size := s.size()
	if s.packed == nil {
		return size
	}
	var end [4]byte
	if _, err := s.file.ReadAt(end[:], max(0, size-int64(len(end)))); err != nil {
		return 0
	}
	return int64(binary.LittleEndian.Uint32(end[:]))
}

// unread is how many bytes of a file's text are not read yet.
func (s *source) unread() int64 {
	if s.packed != nil {
		return int64(uint32(s.length() - s.offset))
	}
	return max(0, s.size()-s.offset)
}

// duplicates reports whether s is a copy of o, or of its beginning, so that o has all that
// s has.
func (s *source) duplicates(o *source) bool {
	switch {
	case !bytes.HasPrefix(o.firstBytes, s.firstBytes):
		return false
	case len(s.firstBytes) < len(o.firstBytes): // they are all of s
		return true
	case (s.packed == nil) != (o.packed == nil):
		return s.packed != nil // it may be incomplete: still being compressed
	}
	return s.length() <= o.length()
}

// containedIn reports whether one of other files has all that this one has.
func (s *source) containedIn(others []*source) bool {
	return s.check() == nil && slices.ContainsFunc(others, func(o *source) bool {
		return bytes.HasPrefix(o.firstBytes, s.firstBytes) && s.length() <= o.length()
	})
}

func (s *source) close() { s.file.Close() }

func closeAll(files []*source) {
	for _, s := range files {
		s.close()
	}
}
