package policyd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"sluice/sidecar"
)

// A phase is what a connection is doing. Its handler moves it on; the server
// looks at it to see who is over time and who can be closed without cutting
// off a question.
type phase int64

const (
	silent  phase = iota // accepted, nothing has come yet
	reading              // a part of a request has come
	asking               // a question is in flight
	writing              // the reply is being written
	idle                 // was answered, may ask again
	closed               // by the server: its handler ends
)

// phaseBits is the room for a phase in a mark.
const phaseBits = 3

// mark packs a phase and since when it lasts, so that both change at once.
func mark(p phase, since time.Duration) int64 { return int64(since)<<phaseBits | int64(p) }

// unmark takes a mark apart.
func unmark(m int64) (phase, time.Duration) {
	return phase(m & (1<<phaseBits - 1)), time.Duration(m >> phaseBits)
}

// A conn is one client. It is kept small: ten thousand may be idle.
type conn struct {
	nc   net.Conn
	mark atomic.Int64
	in   reader
	out  [160]byte // room for most replies; longer ones are allocated
}

// begin makes c, new or used, stand for an accepted connection.
func (c *conn) begin(nc net.Conn, m *memory, now time.Duration) {
	c.nc = nc
	c.in.init(m)
	c.mark.Store(mark(silent, now))
}

// enter moves the connection to a phase. It is false if the server has closed it.
func (c *conn) enter(p phase, now time.Duration) bool {
	m := c.mark.Load()
	if was, _ := unmark(m); was == closed {
		return false
	}
	return c.mark.CompareAndSwap(m, mark(p, now)) // only the server's cut comes between
}

// cut closes the connection if it still is as it was seen, and tells whether it did.
func (c *conn) cut(seen int64) bool {
	if !c.mark.CompareAndSwap(seen, mark(closed, 0)) {
		return false
	}
	c.nc.Close()
	return true
}

// stopReading lets the handler read what has arrived, and then the end. A
// plain close would throw away a question that waits in the socket's buffer.
func (c *conn) stopReading() {
	type readCloser interface{ CloseRead() error }
	if rc, ok := c.nc.(readCloser); ok {
		rc.CloseRead()
		return
	}
	c.nc.Close()
}

// handle answers the questions of one connection until it ends.
func (s *Server) handle(ctx context.Context, c *conn) {
	defer s.remove(c)
	if err := s.admit(c.nc); err != nil {
		if !errors.Is(err, net.ErrClosed) { // by us, to make room
			s.events.peerRefused(err)
		}
		return
	}
	for {
		raw, err := s.read(c)
		if err != nil {
			s.readEnded(c, err)
			return
		}
		now := time.Now()
		if !c.enter(asking, now.Sub(s.start)) {
			return
		}
		out, err := s.answer(ctx, now, raw, c.out[:0])
		if err != nil {
			s.events.unanswered(err)
			return
		}
		if !s.write(c, out, now.Sub(s.start)) {
			return
		}
	}
}

// read returns the next request without its last, empty line. It is valid
// until c.in.next.
func (s *Server) read(c *conn) ([]byte, error) {
	for begun := false; ; {
		raw, ok, err := c.in.take(s.opts.MaxRequest)
		if ok || err != nil {
			return raw, err
		}
		if !begun && c.in.n > 0 {
			// From here the client has RequestTimeout for the rest, however
			// many bytes it sends in the meantime.
			begun = true
			if !c.enter(reading, time.Since(s.start)) {
				return nil, net.ErrClosed
			}
		}
		if err := c.in.fill(c.nc, s.opts.MaxRequest); err != nil {
			return nil, err
		}
	}
}

// readEnded says why a connection ended, where that is worth saying.
func (s *Server) readEnded(c *conn, err error) {
	switch {
	case errors.Is(err, errMalformed), errors.Is(err, errLimit):
		s.events.unanswered(err)
	case errors.Is(err, io.EOF) && c.in.n > 0:
		s.events.unanswered(fmt.Errorf("%w: the connection ended after %d bytes of it", errMalformed, c.in.n))
	}
	// All else is the client's end, or our own close, which was told where it was made.
}

// answer turns a raw request into the reply, appended to dst. An error means
// that there is no answer.
func (s *Server) answer(ctx context.Context, now time.Time, raw, dst []byte) ([]byte, error) {
	attrs := attributes{rest: raw, limit: s.opts.MaxAttributes}
	kind, err := attrs.kind()
	if err != nil {
		return nil, err
	}
	switch string(kind) {
	case "sluice":
		var r sidecar.Request
		if err := sluiceRequest(&attrs, &r); err != nil {
			return nil, err
		}
		if len(s.opts.Tokens) > 0 && !s.proves(attrs.token) {
			return nil, errToken
		}
		reply, err := s.ask(ctx, now, &r)
		if err != nil {
			return nil, err
		}
		return appendReply(dst, r.Stage, reply), nil
	case "smtpd_access_policy":
		return s.answerPostfix(ctx, now, &attrs, dst)
	default:
		return nil, fmt.Errorf("%w: request=%s is not served here", errMalformed, clip(kind))
	}
}

// ask calls the Asker. A panic there is a bug that one message brought out:
// it costs that message its answer and no other message anything, where a
// crash would cost everybody's, again each time the client comes back.
func (s *Server) ask(ctx context.Context, now time.Time, r *sidecar.Request) (reply sidecar.Reply, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.events.panicked(p, debug.Stack())
			err = errPanicked
		}
	}()
	return s.asker.Ask(ctx, now, *r), nil
}

// write sends a reply in one piece and makes the connection idle. It is false
// if the connection ends. The time of the question stands for now: another
// look at the clock for each one would show, and a reply that took longer than
// WriteTimeout to find has nobody waiting for it.
func (s *Server) write(c *conn, out []byte, now time.Duration) bool {
	if !c.enter(writing, now) {
		return false
	}
	if _, err := c.nc.Write(out); err != nil {
		// If the server closed it for being slow, that was told already.
		if p, _ := unmark(c.mark.Load()); p != closed {
			s.events.tooLate(err)
		}
		return false
	}
	s.events.answered()
	c.in.next()
	if !c.enter(idle, now) {
		return false
	}
	if s.draining.Load() {
		c.stopReading()
	}
	return true
}
