// Package milter answers Postfix and Sendmail as a mail filter (the milter
// protocol of Sendmail's libmilter), on emersion/go-milter.
//
// The library is wrapped, for it has no deadlines, cannot be drained, forgets a
// connection after each message, and always speaks version 2:
//
//  1. Server.Serve admits a connection and registers it;
//  2. wire, the net.Conn that the library gets, checks each frame before the
//     library sees it, keeps deadlines and has the MTA's version answered
//     (wire.go, frame.go);
//  3. session is the one handler of a connection, for all of its messages: it
//     asks at each RCPT whether there is room and charges at the end of a message
//     (session.go).
//
// Headers and body are not asked for. What cannot be answered is let pass, or the
// connection is closed, and the MTA does what it is configured to do then: a
// refusal is always the Asker's.
package milter

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-milter"

	"sluice/sidecar"
	"sluice/sidecar/event"
)

// An Asker answers questions. It is called by many goroutines at once and must
// return soon after ctx is cancelled.
type Asker interface {
	Ask(ctx context.Context, now time.Time, r sidecar.Request) sidecar.Reply
}

// Options are what a Server may be told. Zero values mean the defaults.
type Options struct {
	// Admit tells who may ask. Default: everybody who can connect.
	Admit func(net.Conn) error
	// MaxConns is the number of connections. Default 8192.
	MaxConns int
	// FrameTimeout is from the first byte of a frame to its last, from the accept
	// to the first frame, and for the client to take an answer. Default 10 s.
	FrameTimeout time.Duration
	// IdleTimeout is between frames. Default 70 minutes: Sendmail waits an hour for
	// an SMTP command, and a connection of its own stays open for as long.
	IdleTimeout time.Duration
	// DrainTimeout is how long a stopping server waits for messages that have begun.
	// Default 5 s.
	DrainTimeout time.Duration
	Events       event.Sink // needed
}

func (o Options) withDefaults() Options {
	o.MaxConns = cmp.Or(o.MaxConns, 8192)
	o.FrameTimeout = cmp.Or(o.FrameTimeout, 10*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 70*time.Minute)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 5*time.Second)
	if o.Admit == nil {
		o.Admit = func(net.Conn) error { return nil }
	}
	return o
}

// A Server answers the MTAs of one listener.
type Server struct {
	asker    Asker
	opts     Options
	draining atomic.Bool
	sessions sync.WaitGroup

	mu    sync.Mutex
	wires map[*wire]struct{}
}

// New returns a server that has asker answer.
func New(asker Asker, o Options) *Server {
	return &Server{asker: asker, opts: o.withDefaults(), wires: map[*wire]struct{}{}}
}

// Serve answers on ln until ctx is cancelled or ln is closed by another. It then
// closes ln and the connections that are within no message, waits up to
// DrainTimeout for the others, and returns when all of them have ended. The error
// is nil if ctx was cancelled. Serve may be called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	asking, stopAsking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAsking()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	err := s.accept(ctx, asking, ln)
	ln.Close()
	s.drain(stopAsking)
	return err
}

// acceptPause is after an accept that failed, most likely for want of descriptors.
const acceptPause = 50 * time.Millisecond

func (s *Server) accept(ctx, asking context.Context, ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			s.begin(asking, nc)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			s.opts.Events.Emit(event.Event{Kind: event.MilterNotAccepted, Err: err})
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
		}
	}
}

// begin has the library handle a connection, if it may stay.
func (s *Server) begin(ctx context.Context, nc net.Conn) {
	if err := s.opts.Admit(nc); err != nil {
		s.opts.Events.Emit(event.Event{Kind: event.MilterRefused, Err: err})
		nc.Close()
		return
	}
	w := s.register(nc)
	if w == nil {
		s.opts.Events.Emit(event.Event{Kind: event.MilterCrowded, Attrs: event.Attrs("maximum", s.opts.MaxConns)})
		nc.Close()
		return
	}
	handler := &session{Server: s, ctx: ctx, wire: w}
	library := milter.Server{
		// After each message and refusal the library asks for a new handler.
		NewMilter: func() milter.Milter { return handler },
		Actions:   milter.OptSetSymList,
		Protocol:  unwanted | unanswered,
		SymList:   wantedMacros,
	}
	// It returns at once: the second accept fails, and by then the library handles
	// the first connection.
	library.Serve(&once{conn: w})
}

// unwanted is what the MTA need not send.
const unwanted = milter.OptNoHelo | milter.OptNoHeaders | milter.OptNoEOH | milter.OptNoBody | milter.OptNoUnknown | milter.OptNoData

// unanswered is what the MTA need not wait for, if it knows how: nothing is refused
// there, and each answer is a switch of processes in the way of a message.
const unanswered = milter.OptNoConnReply | milter.OptNoMailReply

// answered is what the MTA always waits for.
const answered = milter.OptProtocol(0)

// wantedMacros are what the MTA need send. By default Postfix sends what it has to ask
// others for, such as the transport of each sender, which nobody here reads. A stage
// without any macro would mean those by default (milter.c).
var wantedMacros = map[milter.Stage][]string{
	milter.StageConnect:  {"i"},
	milter.StageHelo:     {"i"},
	milter.StageMailFrom: {"i", "{auth_authen}"},
	milter.StageRcptTo:   {"i"},
	milter.StageData:     {"i"},
	milter.StageEOM:      {"i"},
	milter.StageEOH:      {"i"},
}

// A once is a listener to which one connection comes.
type once struct {
	net.Listener
	conn net.Conn
}

func (o *once) Accept() (net.Conn, error) {
	if o.conn == nil {
		return nil, net.ErrClosed
	}
	conn := o.conn
	o.conn = nil
	return conn, nil
}

func (o *once) Close() error { return nil }

// register makes a connection's wire; nil if there are too many.
func (s *Server) register(nc net.Conn) *wire {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wires) >= s.opts.MaxConns {
		return nil
	}
	s.sessions.Add(1)
	w := newWire(s, nc)
	s.wires[w] = struct{}{}
	return w
}

// ended takes a connection out of the registry.
func (s *Server) ended(w *wire) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.wires, w)
	s.sessions.Done()
}

// drain ends all connections: those within no message now, the others behind it,
// and what is left after DrainTimeout by force.
func (s *Server) drain(stopAsking func()) {
	s.draining.Store(true)
	s.each((*wire).wake)
	forced := make(chan struct{})
	force := time.AfterFunc(s.opts.DrainTimeout, func() {
		defer close(forced)
		n := s.each(func(w *wire) { w.nc.Close() })
		s.opts.Events.Emit(event.Event{Kind: event.MilterCut, Attrs: event.Attrs("connections", n)})
		stopAsking()
	})
	s.sessions.Wait()
	if !force.Stop() {
		<-forced
	}
}

// each calls f for every connection, and returns how many there are.
func (s *Server) each(f func(*wire)) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.wires {
		f(w)
	}
	return len(s.wires)
}

// Open returns the number of connections now.
func (s *Server) Open() int { return s.each(func(*wire) {}) }
