package policyd

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// smallRequest is the size in bytes of the buffer that each connection has, even an idle
// one. A question about one recipient takes 300 to 500 bytes; larger requests borrow a
// buffer.
const smallRequest = 1024

// A reader finds whole requests in a stream of bytes.
type reader struct {
	memory *memory
	buf    []byte // small, or a borrowed one
	n      int    // bytes in buf
	seen   int    // of these, how many were searched for the end
	done   int    // of these, how many the last request took
	small  [smallRequest]byte
}

func (r *reader) init(m *memory) {
	r.memory, r.buf = m, r.small[:]
	r.n, r.seen, r.done = 0, 0, 0
}

// request returns the next request, without the empty line at its end, if it is complete.
func (r *reader) request(limit int) (raw []byte, ok bool, err error) {
	if r.seen == r.n {
		return nil, false, nil // nothing new
	}
	if r.buf[0] == '\n' {
		return nil, false, fmt.Errorf("%w: it is empty", errMalformed)
	}
	from := max(r.seen-1, 0) // the first newline may have come before
	i := bytes.Index(r.buf[from:r.n], []byte("\n\n"))
	if i < 0 {
		r.seen = r.n
		return nil, false, nil
	}
	r.done = from + i + 2
	if r.done > limit {
		return nil, false, tooLarge(limit)
	}
	return r.buf[:r.done-1], true, nil
}

// fill reads more, into a larger buffer if necessary.
func (r *reader) fill(src io.Reader, limit int) error {
	if r.n >= limit {
		return tooLarge(limit)
	}
	if r.n == len(r.buf) {
		bigger, err := r.memory.borrow(len(r.buf), limit)
		if err != nil {
			return err
		}
		copy(bigger, r.buf)
		r.giveBack()
		r.buf = bigger
	}
	n, err := src.Read(r.buf[r.n:min(len(r.buf), limit)])
	r.n += n
	if n > 0 {
		return nil // the error comes again with the next read
	}
	return err
}

// drop discards the request that was returned, and its large buffer.
func (r *reader) drop() {
	rest := r.buf[r.done:r.n]
	if len(rest) <= smallRequest && len(r.buf) > smallRequest {
		copy(r.small[:], rest)
		r.giveBack()
		r.buf = r.small[:]
	} else {
		copy(r.buf, rest)
	}
	r.n, r.seen, r.done = len(rest), 0, 0
}

// release returns what is borrowed, at the end of the connection.
func (r *reader) release() {
	r.giveBack()
	r.buf = nil
}

func (r *reader) giveBack() {
	if len(r.buf) > smallRequest {
		r.memory.giveBack(r.buf)
	}
}

func tooLarge(limit int) error {
	return fmt.Errorf("%w: it is longer than %d bytes", errLimit, limit)
}

// firstLoan is the size in bytes of the first buffer that is borrowed; those are reused.
// Each further one is four times as large as the one before, and is not reused: messages
// with so many recipients are rare.
const firstLoan = 16 << 10

// memory lends buffers to all connections of a server, up to a total.
type memory struct {
	max  int64
	lent atomic.Int64
	pool sync.Pool // of *[firstLoan]byte
}

func newMemory(limit int) *memory { return &memory{max: int64(limit)} }

// borrow returns a buffer larger than size, and not larger than limit if possible.
func (m *memory) borrow(size, limit int) ([]byte, error) {
	want := firstLoan
	if size >= firstLoan {
		want = max(size+1, min(4*size, limit))
	}
	if m.lent.Add(int64(want)) > m.max {
		m.lent.Add(-int64(want))
		return nil, fmt.Errorf("%w: requests in reading take %d bytes together", errLimit, m.max)
	}
	if want > firstLoan {
		return make([]byte, want), nil
	}
	if b, ok := m.pool.Get().(*[firstLoan]byte); ok {
		return b[:], nil
	}
	return make([]byte, firstLoan), nil
}

// giveBack takes back a buffer that borrow returned.
func (m *memory) giveBack(b []byte) {
	m.lent.Add(-int64(len(b)))
	if len(b) == firstLoan {
		m.pool.Put((*[firstLoan]byte)(b))
	}
}
