package mainlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sluice/sidecar/logline"
)

// A History is files of a log as they are now: rotated, compressed, and the present one.
type History struct {
	Size int64 // bytes of the files as stored

	files  []*source
	parser *Parser
	read   atomic.Int64 // bytes of the files as stored
}

// OpenHistory opens files in the order in which they were written, which their first lines
// tell, whatever the order of names. It leaves out a file that is named twice, and one of
// which a copy is named too, compressed or not.
func OpenHistory(names []string, location *time.Location) (*History, error) {
	h := &History{parser: NewParser(location)}
	var began []time.Time
	for _, name := range names {
		s, at, err := openDated(name, location)
		if err != nil {
			h.Close()
			return nil, err
		}
		if s == nil || slices.ContainsFunc(h.files, func(o *source) bool { return os.SameFile(o.info, s.info) }) {
			continue
		}
		i, _ := slices.BinarySearchFunc(began, at, time.Time.Compare)
		began, h.files = slices.Insert(began, i, at), slices.Insert(h.files, i, s)
	}
	all := h.files
	h.files = nil
	for i, s := range all {
		if isDuplicate(all, i) {
			defer s.close() // later ones are still compared with it
			continue
		}
		h.files = append(h.files, s)
		if info, err := s.file.Stat(); err == nil {
			h.Size += info.Size()
		}
	}
	return h, nil
}

// openDated opens a file and finds when its first line was logged. It returns nil for an
// empty file.
func openDated(name string, location *time.Location) (*source, time.Time, error) {
	s, err := open(name)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer s.close()
	lines, err := s.lines()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, time.Time{}, unreadable(s, err)
	}
	lines = cmp.Or(lines, s.rest())
	if lines == "" {
		return nil, time.Time{}, nil
	}
	parser := NewParser(location)
	for line := range strings.Lines(lines) {
		line = strings.TrimSuffix(line, "\n")
		if parser.clock.hasStamp(line) { // any line will do, also one that is no entry
			t, _ := parser.clock.cutStamp(line)
			again, err := open(name)
			return again, parser.clock.at(t, ""), err
		}
		var e logline.Entry
		if parser.Parse(time.Now(), line, &e) {
			again, err := open(name)
			return again, e.At, err
		}
	}
	return nil, time.Time{}, fmt.Errorf("read %s: this is no main log of Exim's: none of its first lines has a date%s", name, packedHint(lines))
}

// packers are the programs that logs are compressed by, but for gzip, with what their files
// begin with (each one's description of its format).
var packers = []struct{ magic, name string }{{"\xfd7zXZ\x00", "xz"}, {"BZh", "bzip2"}, {"\x28\xb5\x2f\xfd", "zstd"}}

// packedHint says what may be wrong with a file that begins like a gzip file (RFC 1952), or
// like one that something else has compressed.
func packedHint(beginning string) string {
	if strings.HasPrefix(beginning, "\x1f\x8b") {
		return "; it is compressed: give its name the ending .gz"
	}
	for _, p := range packers {
		if strings.HasPrefix(beginning, p.magic) {
			return fmt.Sprintf("; it is compressed by %s: unpack it first, by %[1]s -dk", p.name)
		}
	}
	return ""
}

// unreadable names the file that could not be read. That ends the reading: without the
// file the result would cover less than the operator asked for.
func unreadable(s *source, err error) error {
	if s.packed != nil {
		return fmt.Errorf("read %s: unpack it: %w; leave it out, or mend it", s.name, err)
	}
	return fmt.Errorf("read %s: %w", s.name, err)
}

// EveryLine has Read also pass on the lines about a message that no kind of entry is made
// of: their kind is 0.
func (h *History) EveryLine() { h.parser.every = true }

// Close closes the files.
func (h *History) Close() {
	closeAll(h.files)
	h.files = nil
}

// Progress returns how many bytes of Size were read.
func (h *History) Progress() int64 { return h.read.Load() }

// A Reader reads the entries of a History, batch by batch: while one is read, the next is
// prepared. It may hold on to some; read returns those that it no longer needs. A
// *simulate.Replay is a Reader.
type Reader interface {
	Prepare(entries []logline.Entry) (read func(ctx context.Context) (done [][]logline.Entry))
}

// maxSpare is how many batches are kept to be used again. More are only in use where lines
// are very short.
const maxSpare = 16

// shortLine is the least average length of a line in most batches, in bytes.
const shortLine = 128

// Read passes on what the files say, and calls after for each batch.
func (h *History) Read(ctx context.Context, to Reader, after func()) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	parsed, used := make(chan func(context.Context) [][]logline.Entry, 1), make(chan []logline.Entry, maxSpare)
	failed := make(chan error, 1)
	go func() {
		defer close(parsed)
		failed <- h.parse(ctx, to, parsed, used)
	}()
	for read := range parsed {
		if ctx.Err() != nil {
			continue
		}
		for _, done := range read(ctx) {
			select {
			case used <- done:
			default:
			}
		}
		after()
	}
	return <-failed
}

func (h *History) parse(ctx context.Context, to Reader, parsed chan<- func(context.Context) [][]logline.Entry, used <-chan []logline.Entry) error {
	before := int64(0) // of the files that were read
	for _, s := range h.files {
		for last := false; !last; {
			lines, err := s.lines()
			if last = errors.Is(err, io.EOF); last {
				lines = s.rest()
			} else if err != nil {
				return unreadable(s, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var again []logline.Entry
			select {
			case again = <-used:
			default:
				again = make([]logline.Entry, 0, len(lines)/shortLine)
			}
			entries := parseLines(h.parser, again[:0], lines)
			if len(again) > len(entries) {
				clear(again[len(entries):]) // the rest would hold on to lines of long ago
			}
			parsed <- to.Prepare(entries)
			at, _ := s.file.Seek(0, io.SeekCurrent) // in a compressed file: of what is stored
			h.read.Store(before + at)
		}
		if info, err := s.file.Stat(); err == nil {
			before += info.Size()
		}
	}
	return nil
}
