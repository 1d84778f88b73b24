package journal

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// A segment is the file to which changes are appended. It is written through
// a shared mapping: a copy into memory is all that an answer waits for, and
// like a write it belongs to the kernel at once and survives kill -9. (A
// write for each group of answers made each of them wait for another one.)
type segment struct {
	file      *os.File
	n         uint64 // number in the file name
	mapped    []byte // segmentSpan bytes, of which those up to allocated may be touched
	allocated int64
	size      int64 // how much is written
	before    int64 // size of the segments before it that no snapshot replaces yet
	dead      bool  // it could not be written; only another one will do
}

const (
	// segmentSpan is the most that a segment can hold. Long before, a
	// snapshot replaces it.
	segmentSpan = 256 << 20
	// segmentStep is how much disk space is allocated at a time. It is never
	// left to the page fault: a full disk would be a signal there.
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

// allocate makes sure that the disk has room for the first upTo bytes.
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

// fallocate has the disk keep room for n more bytes. A signal may interrupt it,
// and Go's own, by which it preempts goroutines, come at any time. The os
// package repeats what it is interrupted in; unix does not.
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
	// A disk that fails under the mapping is a fault.
	defer func(old bool) {
		debug.SetPanicOnFault(old)
		if fault := recover(); fault != nil {
			err = fmt.Errorf("write %s: %v", g.file.Name(), fault)
		}
	}(debug.SetPanicOnFault(true))
	b := g.mapped[g.size:end]
	copy(b[headerSize:], payload)
	sealFrame(b, seq)
	g.size = end
	return nil
}

// relieve lets the kernel take back the pages that are on the disk by now, and
// allocates ahead so that no answer has to.
func (g *segment) relieve(synced int64) error {
	if synced &^= 1<<16 - 1; synced > 0 {
		// A hint: the pages are the file's and stay there.
		unix.Madvise(g.mapped[:synced], unix.MADV_DONTNEED)
	}
	return g.allocate(min(segmentSpan, g.size+segmentStep))
}

// finish brings a segment to the disk when another one has taken its place,
// and cuts off what was allocated ahead. If that fails, the snapshot that
// begins now makes up for it.
func (g *segment) finish() {
	if !g.dead {
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
