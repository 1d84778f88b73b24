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

// An Asker decides questions. It is called by many goroutines at once and must return soon
// after ctx is cancelled.
type Asker interface {
	Ask(ctx context.Context, now time.Time, r sidecar.Request) sidecar.Reply
}

// Options are the settings of a Server. A zero value means the default.
type Options struct {
	// Admit returns an error for a client that may not ask. Default: everybody may who can
	// connect.
	Admit func(net.Conn) error
	// MaxConns is the largest number of connections. Default 8192.
	MaxConns int
	// FrameTimeout is the time from the first byte of a frame to its last, from the accept to
	// the first frame, and for the client to read an answer. Default 10 s.
	FrameTimeout time.Duration
	// IdleTimeout is the time between frames. Default 70 minutes: Sendmail waits an hour for
	// an SMTP command, and keeps its connection here open for as long.
	IdleTimeout time.Duration
	// DrainTimeout is how long a stopping server waits for messages that have begun.
	// Default 5 s.
	DrainTimeout time.Duration
	Events       event.Sink // required
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

// New returns a server that answers by asker.
func New(asker Asker, o Options) *Server {
	return &Server{asker: asker, opts: o.withDefaults(), wires: map[*wire]struct{}{}}
}

// Serve answers on ln until ctx is cancelled or somebody closes ln. Then it closes ln and
// the connections that are not within a message, waits up to DrainTimeout for the others,
// and returns when all have ended. The error is nil if ctx was cancelled. Serve may be
// called once.
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

// acceptPause is the pause after an accept that failed, most likely because file
// descriptors ran out.
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

// begin has the library handle a connection, if that is admitted.
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
		// The library calls this again after each message and refusal.
		NewMilter: func() milter.Milter { return handler },
		Actions:   milter.OptSetSymList,
		Protocol:  unwanted | unanswered,
		SymList:   wantedMacros,
	}
	// It returns at once, because the second accept fails; by then the library handles the
	// connection.
	library.Serve(&singleListener{conn: w})
}

// unwanted is what the MTA need not send to us.
const unwanted = milter.OptNoHelo | milter.OptNoHeaders | milter.OptNoEOH | milter.OptNoBody | milter.OptNoUnknown | milter.OptNoData

// unanswered are the commands for whose answer the MTA need not wait, if it supports that:
// nothing is refused there, and each wait costs a message a switch of processes.
const unanswered = milter.OptNoConnReply | milter.OptNoMailReply

// answered are the commands for whose answer the MTA always waits.
const answered = milter.OptProtocol(0)

// wantedMacros are the macros that the MTA is asked for. By default Postfix sends some that
// are costly to find, such as the transport of each sender, and that nobody here reads. An
// empty list for a stage would mean the default (milter.c).
var wantedMacros = map[milter.Stage][]string{
	milter.StageConnect:  {"i", "{if_addr}", "{daemon_addr}", "{daemon_port}"},
	milter.StageHelo:     {"i"},
	milter.StageMailFrom: {"i", "{auth_authen}"},
	milter.StageRcptTo:   {"i"},
	milter.StageData:     {"i"},
	milter.StageEOM:      {"i"},
	milter.StageEOH:      {"i"},
}

// A singleListener is a listener that accepts one connection.
type singleListener struct {
	net.Listener
	conn net.Conn
}

func (o *singleListener) Accept() (net.Conn, error) {
	if o.conn == nil {
		return nil, net.ErrClosed
	}
	conn := o.conn
	o.conn = nil
	return conn, nil
}

func (o *singleListener) Close() error { return nil }

// register makes the wire of a connection; nil if there are too many.
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

// unregister removes a connection that has ended.
func (s *Server) unregister(w *wire) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.wires, w)
	s.sessions.Done()
}

// drain ends all connections: those that are not within a message now, the others after
// it, and what is left after DrainTimeout by force.
func (s *Server) drain(stopAsking func()) {
	s.draining.Store(true)
	s.each((*wire).wake)
	forced := make(chan struct{})
	force := time.AfterFunc(s.opts.DrainTimeout, func() {
		defer close(forced)
		n := s.each(func(w *wire) { w.Conn.Close() })
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
