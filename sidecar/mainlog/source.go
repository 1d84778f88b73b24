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
	// maxLine bounds a line; what is longer loses its end. Fields come first.
	maxLine = 1 << 20
	// blockSize is how much is read at once. Of more, what was parsed no longer is in
	// the processor's cache when it is recorded; of less, fewer sends of a batch have
	// the same payers.
	blockSize = 1 << 20
)

// A source is one file of a log that is read.
type source struct {
	name   string
	file   *os.File
	info   os.FileInfo // as it was opened
	reader io.Reader
	packed *gzip.Reader // nil if it is not compressed
	offset int64        // of the first line not handed out
	block  []byte       // what was read from there on
	skip   int64        // bytes of that line that were dropped, being too many
	head   []byte       // the first bytes, as they were seen last
	key    uint64       // by which a position knows the file; 0 if it does not
}

// errTruncated is told when a file no longer is what was read of it.
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
		s.head, err = s.beginning()
		return err
	}
	if s.packed, err = gzip.NewReader(bufio.NewReader(s.file)); err != nil {
		return err
	}
	unpacked := bufio.NewReader(s.packed)
	head, _ := unpacked.Peek(headSize) // what is broken shows when it is read
	s.head, s.reader = bytes.Clone(head), unpacked
	return nil
}

// beginning reads the first bytes of a file that is not compressed.
func (s *source) beginning() ([]byte, error) {
	head := make([]byte, headSize)
	n, err := s.file.ReadAt(head, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return head[:n], err
}

// skipTo goes to where reading ended.
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

// lines returns the next lines that are whole, each with its end, or io.EOF if
// there is none yet. It returns many at once, so that what is done for each
// return costs little for each line.
//
// Whether the file was truncated is seen after reading: by then it may be as long
// again, and what was read from the middle of something else.
func (s *source) lines() (string, error) {
	err := s.fill()
	if broken := s.check(); broken != nil {
		return "", broken
	}
	end := bytes.LastIndexByte(s.block, '\n') + 1
	if end == 0 {
		return "", err
	}
	lines := string(s.block[:end])
	if s.skip > 0 { // the first line is a part of one
		first := bytes.IndexByte(s.block, '\n')
		lines = string(s.block[:min(first, maxLine)]) + lines[first:]
	}
	s.offset += int64(end) + s.skip
	s.skip = 0
	s.block = s.block[:copy(s.block, s.block[end:])]
	return lines, nil
}

// fill reads until the block is full, or there is no more. It grows for a line
// that does not fit; one over maxLine loses its end.
func (s *source) fill() error {
	if s.block == nil {
		s.block = make([]byte, 0, blockSize)
	}
	for {
		n, err := s.reader.Read(s.block[len(s.block):cap(s.block)])
		s.block = s.block[:len(s.block)+n]
		if len(s.block) == cap(s.block) {
			if bytes.IndexByte(s.block, '\n') >= 0 {
				return nil
			}
			if len(s.block) <= maxLine {
				s.block = slices.Grow(s.block, maxLine+1)
				continue
			}
			s.skip += int64(len(s.block) - maxLine)
			s.block = s.block[:maxLine]
		}
		if err != nil {
			return err
		}
	}
}

// rest is a last line without an end.
func (s *source) rest() string {
	line := string(s.block[:min(len(s.block), maxLine)])
	s.offset += int64(len(s.block)) + s.skip
	s.block, s.skip = s.block[:0], 0
	return line
}

// check fails if a file no longer is what was seen of it.
func (s *source) check() error {
	if s.packed != nil {
		return nil
	}
	head, err := s.beginning()
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(head, s.head) || s.size() < s.offset+s.skip+int64(len(s.block)) {
		return errTruncated
	}
	if s.offset < int64(len(head)) { // a part of the head was not seen before, but read
		both := head[s.offset:]
		n := min(len(both), len(s.block))
		if !bytes.Equal(both[:n], s.block[:n]) {
			return errTruncated
		}
	}
	s.head = head
	return nil
}

// size is that of the file as it is stored, in bytes.
func (s *source) size() int64 {
	info, err := s.file.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// fresh tells whether a file was written to within a time, by a clock that may have
// been set since.
func (s *source) fresh(within time.Duration) bool {
	info, err := s.file.Stat()
	return err == nil && time.Since(info.ModTime()).Abs() < within
}

// length is how long what a file says is, in bytes. A compressed one has it at its
// end, modulo 4 GiB (RFC 1952, ISIZE).
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

// unread is how much of a file is not read yet, in bytes.
func (s *source) unread() int64 {
	if s.packed != nil {
		return int64(uint32(s.length() - s.offset))
	}
	return max(0, s.size()-s.offset)
}

// repeats tells whether another file says all that this one does, being what this
// is a copy or the beginning of.
func (s *source) repeats(o *source) bool {
	switch {
	case !bytes.HasPrefix(o.head, s.head):
		return false
	case len(s.head) < len(o.head): // then it is all of this one
		return true
	case (s.packed == nil) != (o.packed == nil):
		return s.packed != nil // it may be in the making
	}
	return s.length() <= o.length()
}

// saidBy tells whether one of other files says all that this one does.
func (s *source) saidBy(others []*source) bool {
	return s.check() == nil && slices.ContainsFunc(others, func(o *source) bool {
		return bytes.HasPrefix(o.head, s.head) && s.length() <= o.length()
	})
}

func (s *source) close() { s.file.Close() }

func closeAll(files []*source) {
	for _, s := range files {
		s.close()
	}
}
