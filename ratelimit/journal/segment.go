package journal

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// A segment is a file to which changes are appended. It is written through a shared
// memory mapping: a caller waits only for a copy in memory, which is the kernel's at
// once and survives kill -9 as a write does. (Collecting the changes of several callers
// for one write(2) was slower: each caller waited for the write before its own.)
type segment struct {
	file       *os.File
	n          uint64 // number in the file name
	mapped     []byte // segmentSpan bytes, of which only the first allocated may be touched
	allocated  int64
	size       int64 // how many bytes are written
	tailBefore int64 // size of the segments before it that no snapshot replaces yet
	failed     bool  // it could not be written; only another one will do
}

const (
	// segmentSpan is the most bytes that a segment can have. It is replaced long
	// before, see maxTail.
	segmentSpan = 256 << 20
	// segmentStep is how much disk space is allocated at a time, in advance: on a
	// full disk, touching a page without space would be SIGBUS.
	segmentStep = 1 << 20
)

func newSegment(path string, n uint64) (*segment, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	g := &segment{file: file, n: n}
	g.mapped, err = unix.Mmap(int(file.Fd()), 0, segmentSpan, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		err = g.allocate(segmentStep)
	}
	if err != nil {
		g.close()
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return g, nil
}

// allocate reserves disk space for the first upTo bytes.
func (g *segment) allocate(upTo int64) error {
	if upTo <= g.allocated {
		return nil
	}
	if upTo > segmentSpan {
		return fmt.Errorf("extend %s: it has %d bytes, which is the most", g.file.Name(), g.size)
	}
	upTo = min(segmentSpan, (upTo+segmentStep-1)/segmentStep*segmentStep)
	err := g.fallocate(upTo - g.allocated)
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = g.file.WriteAt(make([]byte, upTo-g.allocated), g.allocated)
	}
	if err != nil {
		return fmt.Errorf("extend %s: %w", g.file.Name(), err)
	}
	g.allocated = upTo
	return nil
}

// fallocate reserves disk space for n more bytes. It repeats the call when a signal
// interrupts it, for Go preempts goroutines with signals; unlike package os, unix
// leaves that to its callers.
func (g *segment) fallocate(n int64) error {
	for {
		if err := unix.Fallocate(int(g.file.Fd()), 0, g.allocated, n); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// write appends a frame.
func (g *segment) write(seq uint64, payload []byte) (err error) {
	end := g.size + headerSize + int64(len(payload))
	if err := g.allocate(end); err != nil {
		return err
	}
	// If the disk fails, writing to the mapping is a fault.
	defer func(old bool) {
		debug.SetPanicOnFault(old)
		if fault := recover(); fault != nil {
			err = fmt.Errorf("write %s: %v", g.file.Name(), fault)
		}
	}(debug.SetPanicOnFault(true))
	b := g.mapped[g.size:end]
	copy(b[headerSize:], payload)
	fillHeader(b, seq)
	g.size = end
	return nil
}

// releasePages lets the kernel free the memory of pages that are synced, and
// allocates disk space ahead, so that no caller waits for that.
func (g *segment) releasePages(synced int64) error {
	if synced &^= 1<<16 - 1; synced > 0 {
		// An error does not matter: nothing is lost, the pages are in the file.
		unix.Madvise(g.mapped[:synced], unix.MADV_DONTNEED)
	}
	return g.allocate(min(segmentSpan, g.size+segmentStep))
}

// finish syncs and closes a segment that was replaced, and cuts off what was
// allocated ahead. If that fails, the snapshot that begins now makes up for it.
func (g *segment) finish() {
	if !g.failed {
		g.file.Sync()
		g.file.Truncate(g.size)
	}
	g.close()
}

func (g *segment) close() error {
	var err error
	if g.mapped != nil {
		err = unix.Munmap(g.mapped)
		g.mapped = nil
	}
	return errors.Join(err, g.file.Close())
}
