package milter

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-milter"

	"sluice/sidecar/event"
)

// A wire is the connection that the library reads and writes: it hands out
// whole frames that were checked, and ends without an error of its own, for the
// library would log that to nobody's log.
type wire struct {
	net.Conn // the rest of the interface
	server   *Server
	nc       net.Conn
	in       *bufio.Reader
	frame    []byte // that is handed out now, with its length
	rest     []byte // of it
	order    order
	offered  offer
	begun    bool        // a frame has come
	answered bool        // the offer was
	within   atomic.Bool // a message
	close    sync.Once
}

// readSize is the buffer of a connection: thousands of them are idle.
const readSize = 512

func newWire(s *Server, nc net.Conn) *wire {
	return &wire{Conn: nc, server: s, nc: nc, in: bufio.NewReaderSize(nc, readSize)}
}

// Read hands out the next frame.
func (w *wire) Read(b []byte) (int, error) {
	for len(w.rest) == 0 {
		if err := w.next(); err != nil {
			w.report(err)
			return 0, io.EOF
		}
	}
	n := copy(b, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

// report tells of a client that does not keep to the protocol. That it has gone,
// or that it was idle for too long, is its own affair.
func (w *wire) report(err error) {
	timeout := errors.Is(err, os.ErrDeadlineExceeded) && !w.server.draining.Load()
	if errors.Is(err, errFrame) || timeout && len(w.frame) > 0 {
		w.server.opts.Events.Emit(event.Event{Kind: event.MilterBroken, Err: err})
	}
}

// next reads a frame: its length in four bytes, its command and its data.
func (w *wire) next() error {
	if w.frame = w.frame[:0]; cap(w.frame) > maxKept {
		w.frame = nil
	}
	if w.in.Buffered() == 0 {
		wait := w.server.opts.IdleTimeout
		if !w.begun {
			wait = w.server.opts.FrameTimeout
		}
		w.nc.SetReadDeadline(time.Now().Add(wait))
	}
	// Behind the deadline, which wake would otherwise have set in vain.
	if w.server.draining.Load() && !w.within.Load() {
		return io.EOF
	}
	if _, err := w.in.Peek(1); err != nil {
		return err
	}
	w.begun = true
	if !w.arrived() {
		w.nc.SetReadDeadline(time.Now().Add(w.server.opts.FrameTimeout))
	}
	var head [4]byte
	if _, err := io.ReadFull(w.in, head[:]); err != nil {
		return cutOff(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 || size > maxFrame {
		return fmt.Errorf("%w: its length is %d, allowed are 1 to %d", errFrame, size, maxFrame)
	}
	w.frame = slices.Grow(w.frame[:0], len(head)+int(size))[:len(head)+int(size)]
	copy(w.frame, head[:])
	if _, err := io.ReadFull(w.in, w.frame[4:]); err != nil {
		return cutOff(err)
	}
	return w.check()
}

// arrived tells whether all of the next frame is in the buffer: most come whole, and
// need no deadline.
func (w *wire) arrived() bool {
	there := w.in.Buffered()
	if there < 4 {
		return false
	}
	head, _ := w.in.Peek(4)
	return uint64(there) >= 4+uint64(binary.BigEndian.Uint32(head))
}

// maxKept is the largest buffer that an idle connection keeps.
const maxKept = 2 << 10

// cutOff words the end of a connection within a frame.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the connection ended within it", errFrame)
	}
	return err
}

// check sees whether the frame may come here, and makes it one that the library
// understands.
func (w *wire) check() error {
	command, data := w.frame[4], w.frame[5:]
	if err := w.order.check(command, data); err != nil {
		return err
	}
	switch milter.Code(command) {
	case milter.CodeOptNeg:
		w.offered = readOffer(data)
	case milter.CodeMacro:
		if !slices.Contains(readMacros, milter.Code(data[0])) {
			return nil
		}
	case milter.CodeConn:
		w.frame = append(w.frame[:5], plainAddress(data)...)
		binary.BigEndian.PutUint32(w.frame, uint32(len(w.frame)-4))
	case codeUnknown: // answered with "continue", like CodeData
		w.frame[4] = byte(milter.CodeData)
	case milter.CodeQuitNewConn: // not answered: another connection follows
		w.frame[4] = byte(milter.CodeAbort)
	}
	w.rest = w.frame
	return nil
}

// readMacros are the commands whose macros a session reads. Postfix sends some with
// each, also with those that are not asked for.
var readMacros = []milter.Code{milter.CodeMail, milter.CodeRcpt, milter.CodeEOB}

// Write sends an answer. That the client has gone shows when the next frame is
// read.
func (w *wire) Write(b []byte) (int, error) {
	frame := b
	if !w.answered {
		w.answered = true
		frame = w.offered.answer(b)
	}
	w.nc.SetWriteDeadline(time.Now().Add(w.server.opts.FrameTimeout))
	if _, err := w.nc.Write(frame); err != nil {
		w.nc.Close()
	}
	return len(b), nil
}

// wake ends a connection that is within no message.
func (w *wire) wake() {
	if !w.within.Load() {
		w.nc.SetReadDeadline(time.Now())
	}
}

// Close is called by the library, at the end of the connection.
func (w *wire) Close() error {
	w.close.Do(func() {
		w.nc.Close()
		w.server.ended(w)
	})
	return nil
}
