package mainlog

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A position is a place in a log: how much of which file was read. The file is
// known by its inode and by how it begins, for inodes are used again, and a copy
// has another one.
type position struct {
	Inode  uint64 `json:"inode"`
	Head   uint64 `json:"head"`   // hash of its first bytes
	HeadOf int    `json:"headof"` // how many those are
	Offset int64  `json:"offset"` // bytes read, in whole lines
}

const (
	headSize = 1024
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
	reader io.Reader
	packed *gzip.Reader // nil if it is not compressed
	inode  uint64
	offset int64  // of the first line not handed out
	block  []byte // what was read from there on
	skip   int64  // bytes of that line that were dropped, being too many
	head   []byte // the first bytes
}

// openSource opens a file at an offset.
func openSource(name string, offset int64) (*source, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	s := &source{name: name, file: file, offset: offset}
	if err := s.seek(); err != nil {
		file.Close()
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return s, nil
}

func (s *source) seek() error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	s.inode = inodeOf(info)
	if strings.HasSuffix(s.name, ".gz") {
		if s.packed, err = gzip.NewReader(bufio.NewReader(s.file)); err != nil {
			return err
		}
		unpacked := bufio.NewReader(s.packed)
		head, _ := unpacked.Peek(headSize) // what is broken shows when it is read
		s.head, s.reader = bytes.Clone(head), unpacked
		_, err = io.CopyN(io.Discard, s.reader, s.offset)
		return err
	}
	s.reader = s.file
	s.seeHead()
	_, err = s.file.Seek(s.offset, io.SeekStart)
	return err
}

func inodeOf(info os.FileInfo) uint64 {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		return sys.Ino
	}
	return 0
}

// lines returns the next lines that are whole, each with its end, or io.EOF if
// there is none yet. It returns many at once, so that what is done for each
// return costs little for each line.
func (s *source) lines() (string, error) {
	err := s.fill()
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

// unread is how much of a file is not read yet; of a compressed one, at most.
func (s *source) unread() int64 {
	info, err := s.file.Stat()
	if err != nil || s.packed != nil {
		return 0
	}
	return max(0, info.Size()-s.offset)
}

// seeHead looks at the first bytes, until there are enough of them.
func (s *source) seeHead() {
	if len(s.head) == headSize || s.packed != nil {
		return
	}
	head := make([]byte, headSize)
	n, _ := s.file.ReadAt(head, 0)
	if bytes.HasPrefix(head[:n], s.head) { // or else it was truncated just now
		s.head = head[:n]
	}
}

func (s *source) position() position {
	s.seeHead()
	return position{Inode: s.inode, Head: hash(s.head), HeadOf: len(s.head), Offset: s.offset}
}

func hash(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

// changed tells whether another file stands at a path, and whether the file was
// truncated. A path without a file is neither: the next one is still to come.
func (s *source) changed(path string) (replaced, truncated bool, err error) {
	named, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return false, false, nil
		}
		return false, false, fmt.Errorf("find the log: %w", err)
	}
	open, err := s.file.Stat()
	if err != nil {
		return false, false, fmt.Errorf("find the log: %w", err)
	}
	replaced = !os.SameFile(named, open)
	if open.Size() < s.offset {
		return replaced, true, nil
	}
	now := make([]byte, len(s.head))
	n, _ := s.file.ReadAt(now, 0)
	return replaced, !bytes.Equal(now[:n], s.head), nil
}

func (s *source) close() { s.file.Close() }

// holds tells whether a file is the one of a position, and long enough.
func holds(name string, at position) bool {
	s, err := openSource(name, 0)
	if err != nil {
		return false
	}
	defer s.close()
	if at.HeadOf == 0 { // all files begin like an empty one
		return s.inode == at.Inode
	}
	head := make([]byte, at.HeadOf)
	if _, err := io.ReadFull(s.reader, head); err != nil || hash(head) != at.Head {
		return false
	}
	info, err := s.file.Stat()
	return err == nil && (s.packed != nil || info.Size() >= at.Offset)
}

// A rotated file is one that a log was moved to.
type rotated struct {
	name    string
	written time.Time
}

// compare orders files by age, the oldest first. Their names tell it: log.2.gz is
// older than log.1, and log-20261123 than log-20261124. When they were written
// last does not where a process had the older one open for longer.
func (r rotated) compare(o rotated) int {
	a, b := rotationNumber(r.name), rotationNumber(o.name)
	switch {
	case a == "" || b == "":
		return cmp.Or(r.written.Compare(o.written), strings.Compare(r.name, o.name))
	case len(a) < len("20061102") && len(b) < len("20061102"): // how many rotations ago
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(b, a))
	}
	return cmp.Or(strings.Compare(a, b), r.written.Compare(o.written))
}

// rotationNumber is the digits at the end of a name, before ".gz".
func rotationNumber(name string) string {
	name = strings.TrimSuffix(name, ".gz")
	return name[len(strings.TrimRight(name, "0123456789")):]
}

// siblings are the files of a log: the one at path, and those that rotation has
// made of it, the oldest first. pattern may have %D and %M.
func siblings(pattern, path string) ([]string, error) {
	glob := strings.NewReplacer("%D", "*", "%M", "*").Replace(pattern)
	names, err := filepath.Glob(glob + "*")
	if err != nil {
		return nil, fmt.Errorf("list the files of the log: %w", err)
	}
	var all []rotated
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() && name != path {
			all = append(all, rotated{name, info.ModTime()})
		}
	}
	slices.SortFunc(all, rotated.compare)
	names = names[:0]
	for _, d := range all {
		names = append(names, d.name)
	}
	return append(names, path), nil
}

// openSince opens the files from the one of a position up to the present one,
// and reports false where it opens only that, for the position's file is gone.
func openSince(pattern, path string, at position) (files []*source, found bool, err error) {
	for range 10 {
		names, err := siblings(pattern, path)
		if err != nil {
			return nil, false, err
		}
		first := len(names) - 1
		for first >= 0 && !holds(names[first], at) {
			first--
		}
		if found = first >= 0; !found {
			first, at.Offset = len(names)-1, 0
		}
		if files, err = openAll(names[first:], at.Offset); err != nil {
			return nil, found, err
		}
		if stillNamed(files) {
			return files, found, nil
		}
		closeAll(files) // rotated just then
	}
	return nil, false, errors.New("open the log: it is rotated faster than it can be opened")
}

func openAll(names []string, offset int64) ([]*source, error) {
	var files []*source
	for _, name := range names {
		s, err := openSource(name, offset)
		if err != nil {
			closeAll(files)
			return nil, err
		}
		files, offset = append(files, s), 0
	}
	return files, nil
}

// stillNamed tells whether files have the names by which they were opened.
func stillNamed(files []*source) bool {
	for _, s := range files {
		if info, err := os.Stat(s.name); err != nil || inodeOf(info) != s.inode {
			return false
		}
	}
	return true
}

func closeAll(files []*source) {
	for _, s := range files {
		s.close()
	}
}
