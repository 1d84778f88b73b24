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

// A wire is the connection that the library reads and writes. It returns whole frames that
// were checked, and ends with io.EOF, because the library would log any other error where
// nobody reads it.
type wire struct {
	net.Conn  // the MTA's
	server    *Server
	in        *bufio.Reader
	frame     []byte // the present one, with its length
	rest      []byte // what the library has not read of it
	sequence  sequence
	offered   offer
	begun     bool        // a frame was received
	answered  bool        // the MTA's offer was answered
	inMessage atomic.Bool // whether a message has begun and not ended
	close     sync.Once
}

// readSize is the size in bytes of the read buffer: thousands of connections may be idle.
const readSize = 512

func newWire(s *Server, nc net.Conn) *wire {
	return &wire{Conn: nc, server: s, in: bufio.NewReaderSize(nc, readSize)}
}

// Read reads from the next frame.
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

// report emits an event if a client does not keep to the protocol, but not if it is gone
// or was idle for too long.
func (w *wire) report(err error) {
	timeout := errors.Is(err, os.ErrDeadlineExceeded) && !w.server.draining.Load()
	if errors.Is(err, errFrame) || timeout && len(w.frame) > 0 {
		w.server.opts.Events.Emit(event.Event{Kind: event.MilterBroken, Err: err})
	}
}

// next reads a frame: its length in four bytes, its command and its data.
func (w *wire) next() error {
	if w.frame = w.frame[:0]; cap(w.frame) > maxIdleFrame {
		w.frame = nil
	}
	if w.in.Buffered() == 0 {
		wait := w.server.opts.IdleTimeout
		if !w.begun {
			wait = w.server.opts.FrameTimeout
		}
		w.Conn.SetReadDeadline(time.Now().Add(wait))
	}
	// Check this after the deadline is set, which would undo that of wake.
	if w.server.draining.Load() && !w.inMessage.Load() {
		return io.EOF
	}
	if _, err := w.in.Peek(1); err != nil {
		return err
	}
	w.begun = true
	if !w.buffered() {
		w.Conn.SetReadDeadline(time.Now().Add(w.server.opts.FrameTimeout))
	}
	var head [4]byte
	if _, err := io.ReadFull(w.in, head[:]); err != nil {
		return midFrame(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 || size > maxFrame {
		return fmt.Errorf("%w: its length is %d, allowed are 1 to %d", errFrame, size, maxFrame)
	}
	w.frame = slices.Grow(w.frame[:0], len(head)+int(size))[:len(head)+int(size)]
	copy(w.frame, head[:])
	if _, err := io.ReadFull(w.in, w.frame[4:]); err != nil {
		return midFrame(err)
	}
	return w.check()
}

// buffered reports whether all of the next frame is in the buffer. Most come whole and
// need no deadline.
func (w *wire) buffered() bool {
	there := w.in.Buffered()
	if there < 4 {
		return false
	}
	head, _ := w.in.Peek(4)
	return uint64(there) >= 4+uint64(binary.BigEndian.Uint32(head))
}

// maxIdleFrame is the size in bytes of the largest frame buffer that an idle connection
// keeps.
const maxIdleFrame = 2 << 10

// midFrame words the end of a connection within a frame.
func midFrame(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the connection ended within it", errFrame)
	}
	return err
}

// check checks whether the frame is valid here, and makes it one that the library
// understands.
func (w *wire) check() error {
	command, data := w.frame[4], w.frame[5:]
	if err := w.sequence.check(command, data); err != nil {
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
		w.frame = append(w.frame[:5], fixAddress(data)...)
		binary.BigEndian.PutUint32(w.frame, uint32(len(w.frame)-4))
	case codeUnknown: // like CodeData, it is answered with "continue"
		w.frame[4] = byte(milter.CodeData)
	case milter.CodeQuitNewConn: // it needs no answer: another client follows
		w.frame[4] = byte(milter.CodeAbort)
	}
	w.rest = w.frame
	return nil
}

// readMacros are the commands whose macros a session reads. Postfix sends some with each
// command, even if not asked for.
var readMacros = []milter.Code{milter.CodeConn, milter.CodeMail, milter.CodeRcpt, milter.CodeEOB}

// Write sends an answer. If the client is gone, the next read fails.
func (w *wire) Write(b []byte) (int, error) {
	frame := b
	if !w.answered {
		w.answered = true
		frame = w.offered.answer(b)
	}
	w.Conn.SetWriteDeadline(time.Now().Add(w.server.opts.FrameTimeout))
	if _, err := w.Conn.Write(frame); err != nil {
		w.Conn.Close()
	}
	return len(b), nil
}

// wake ends a connection that is not within a message.
func (w *wire) wake() {
	if !w.inMessage.Load() {
		w.Conn.SetReadDeadline(time.Now())
	}
}

// Close is called by the library, at the end of the connection.
func (w *wire) Close() error {
	w.close.Do(func() {
		w.Conn.Close()
		w.server.unregister(w)
	})
	return nil
}
