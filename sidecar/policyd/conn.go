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

// A phase is what a connection is doing. Its handler advances it. The server reads it to
// find out who is over time, and which connections it can close without cutting off a
// question.
type phase int64

const (
	silent  phase = iota // accepted, nothing received yet
	reading              // a part of a request was received
	asking               // the Asker is working on a question
	writing              // the reply is being written
	idle                 // it was answered, and may ask again
	closed               // by the server: its handler ends
)

// phaseBits is how many bits of a mark hold the phase.
const phaseBits = 3

// mark packs a phase and its beginning into one number, so that both change at once.
func mark(p phase, since time.Duration) int64 { return int64(since)<<phaseBits | int64(p) }

// unmark unpacks a mark.
func unmark(m int64) (phase, time.Duration) {
	return phase(m & (1<<phaseBits - 1)), time.Duration(m >> phaseBits)
}

// A conn is the connection of one client. It is kept small: ten thousand may be idle.
type conn struct {
	nc   net.Conn
	mark atomic.Int64
	in   reader
	kept keptSocket
	out  [160]byte // has room for most replies; longer ones are allocated
}

// begin prepares c, new or used before, for an accepted connection.
func (c *conn) begin(nc net.Conn, m *memory, now time.Duration) {
	c.nc = nc
	c.in.init(m)
	c.kept = keptSocket{}
	c.mark.Store(mark(silent, now))
}

// setPhase moves the connection to a phase. It returns false if the server has closed it.
func (c *conn) setPhase(p phase, now time.Duration) bool {
	m := c.mark.Load()
	if was, _ := unmark(m); was == closed {
		return false
	}
	return c.mark.CompareAndSwap(m, mark(p, now)) // fails only if the server calls closeIf in between
}

// closeIf closes the connection if its mark is still the one that was seen, and reports
// whether it did.
func (c *conn) closeIf(seen int64) bool {
	if !c.mark.CompareAndSwap(seen, mark(closed, 0)) {
		return false
	}
	c.nc.Close()
	return true
}

// stopReading lets the handler read what has arrived, and then the end of the stream. A
// plain close would discard a question that waits in the socket's buffer.
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
		if !errors.Is(err, net.ErrClosed) { // closed by the server, to make room
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
		if !c.setPhase(asking, now.Sub(s.start)) {
			return
		}
		out, err := s.answer(ctx, now, c, raw, c.out[:0])
		if err != nil {
			s.events.unanswered(err)
			return
		}
		if !s.write(c, out, now.Sub(s.start)) {
			return
		}
	}
}

// read returns the next request without the empty line at its end. It is valid until
// c.in.drop.
//
// On TCP anybody on this host can connect. Until there is a token, nothing is read that is
// longer than a question needs to be.
func (s *Server) read(c *conn) ([]byte, error) {
	limit := s.opts.MaxRequest
	if len(s.opts.Tokens) > 0 {
		limit = maxUntrusted
	}
	for begun := false; ; {
		if limit < s.opts.MaxRequest && s.validToken(leadingToken(c.in.buf[:c.in.n])) {
			limit = s.opts.MaxRequest
		}
		raw, ok, err := c.in.request(limit)
		if ok || err != nil {
			return raw, err
		}
		if !begun && c.in.n > 0 {
			// From now on the client has RequestTimeout for the rest, even if it keeps
			// sending.
			begun = true
			if !c.setPhase(reading, time.Since(s.start)) {
				return nil, net.ErrClosed
			}
		}
		if err := c.in.fill(c.nc, limit); err != nil {
			return nil, err
		}
	}
}

// readEnded reports why a connection ended, if its client did not keep to the protocol.
func (s *Server) readEnded(c *conn, err error) {
	switch {
	case errors.Is(err, errMalformed), errors.Is(err, errLimit):
		s.events.unanswered(err)
	case errors.Is(err, io.EOF) && c.in.n > 0:
		s.events.unanswered(fmt.Errorf("%w: the connection ended after %d bytes of it", errMalformed, c.in.n))
	}
	// Otherwise the client ended it, or the server did and has reported that.
}

// answer parses a raw request and appends the reply to dst. After an error the client gets
// no answer.
func (s *Server) answer(ctx context.Context, now time.Time, c *conn, raw, dst []byte) ([]byte, error) {
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
		if len(s.opts.Tokens) > 0 && !s.validToken(attrs.token) {
			return nil, errToken
		}
		if err := s.admitOriginator(attrs.originator, &r); err != nil {
			return nil, err
		}
		reply, err := s.ask(ctx, now, &r)
		if err != nil {
			return nil, err
		}
		return appendReply(dst, r.Stage, reply, attrs.number), nil
	case "smtpd_access_policy":
		return s.answerPostfix(ctx, now, c, &attrs, dst)
	default:
		return nil, fmt.Errorf("%w: request=%s is not served here", errMalformed, clip(kind))
	}
}

// ask calls the Asker. A panic there is a bug that this one message triggers. It costs
// this message its answer and no other message anything. A crash would cost all messages
// theirs, again each time the client comes back.
func (s *Server) ask(ctx context.Context, now time.Time, r *sidecar.Request) (reply sidecar.Reply, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.events.panicked(p, debug.Stack())
			err = errPanicked
		}
	}()
	return s.asker.Ask(ctx, now, *r), nil
}

// write sends a reply in one piece and makes the connection idle. It returns false if the
// connection ends. It takes the time of the question as the present: reading the clock
// once more for each question would cost measurably, and for a reply that took longer than
// WriteTimeout nobody waits.
func (s *Server) write(c *conn, out []byte, now time.Duration) bool {
	if !c.setPhase(writing, now) {
		return false
	}
	if _, err := c.nc.Write(out); err != nil {
		// If the server closed it for being slow, it has reported that.
		if p, _ := unmark(c.mark.Load()); p != closed {
			s.events.tooLate(err)
		}
		return false
	}
	s.events.answered()
	c.in.drop()
	if !c.setPhase(idle, now) {
		return false
	}
	if s.draining.Load() {
		c.stopReading()
	}
	return true
}
