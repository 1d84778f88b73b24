// Package policyd answers mail servers over Postfix's policy delegation
// protocol (SMTPD_POLICY_README of Postfix): lines name=value, an empty line
// ends the request, the reply is action=... and an empty line, and several
// requests may follow on one connection.
//
// A question passes through
//
//  1. Server.accept: admission by peer credentials (peer.go), room for one more
//     connection (server.go);
//  2. Server.read: a whole request, in a buffer that only lives while it is
//     needed (reader.go);
//  3. Server.answer: the kind of request, its attributes (request.go), the
//     Asker, the reply (reply.go).
//
// What cannot be answered gets no answer: the connection is closed, and Exim
// goes on as if nobody were there. A refusal is always the Asker's.
package policyd

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
)

// An Asker answers questions. It is called by many goroutines at once and
// must return soon after ctx is cancelled, which happens only when a stopping
// server has waited DrainTimeout for it.
type Asker interface {
	Ask(ctx context.Context, now time.Time, r sidecar.Request) sidecar.Reply
}

// Options are what a Server may be told. Zero values mean the defaults.
type Options struct {
	// MaxRequest is the size of a request in bytes. Default 4 MiB: some
	// 50,000 recipients. What is larger, the router asks about one by one.
	MaxRequest int
	// MaxAttributes is the number of lines in a request. Default 64: Postfix
	// sends up to 40, we send 16.
	MaxAttributes int
	// MaxBuffered is the memory in bytes for all requests that are being read
	// and are longer than 1 KiB, so that many large ones at once cannot have
	// the process killed. Default 256 MiB.
	MaxBuffered int
	// MaxConns is the number of connections. Default 8192: one for each Exim
	// process of a very large machine. See Server.shed for what happens there.
	MaxConns int
	// RequestTimeout is from the first byte of a request, or from the accept
	// for the first request, to its last byte. Default 2 s: the clients have
	// given up after 0.3 s.
	RequestTimeout time.Duration
	// IdleTimeout is between the requests of a kept connection. Default 10
	// minutes: longer than Exim's wait for an SMTP command and Postfix's
	// max_idle, both 5 minutes, so that the side that knows closes first.
	IdleTimeout time.Duration
	// WriteTimeout is for a client to take its reply. Default 2 s.
	WriteTimeout time.Duration
	// DrainTimeout is how long a stopping server waits for the questions in
	// flight. Default 5 s.
	DrainTimeout time.Duration
	// AllowUIDs are the user ids that may ask: Exim's, Postfix's. Root and the
	// server's own user always may.
	AllowUIDs []int
	// Tokens are for a listener on TCP, which serves clients on the loopback
	// only, and only questions that carry one of them. Default: the listener
	// is a unix socket, and peer credentials tell who asks.
	Tokens []string
	// Events takes what operators must see, each kind at most once in ten
	// seconds. Default: nobody is told, all is counted.
	Events event.Sink
}

// withDefaults fills in what was left out.
func (o Options) withDefaults() Options {
	o.MaxRequest = cmp.Or(o.MaxRequest, 4<<20)
	o.MaxAttributes = cmp.Or(o.MaxAttributes, 64)
	o.MaxBuffered = cmp.Or(o.MaxBuffered, 256<<20)
	o.MaxConns = cmp.Or(o.MaxConns, 8192)
	o.RequestTimeout = cmp.Or(o.RequestTimeout, 2*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 10*time.Minute)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 2*time.Second)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 5*time.Second)
	o.Events = cmp.Or[event.Sink](o.Events, event.NewStream())
	return o
}

// A Server answers the questions of one listener.
type Server struct {
	opts     Options
	asker    Asker
	admit    func(net.Conn) error // who may ask; one for each kind of listener
	events   *events
	memory   *memory
	start    time.Time // connections note times as offsets from it
	draining atomic.Bool
	spare    atomic.Int64 // handlers that wait for a connection

	mu    sync.Mutex
	conns map[*conn]struct{} // whoever else than its handler looks at a conn finds it here, under mu

	used sync.Pool // of *conn that have ended, for new connections: one is more than a kilobyte
}

// New returns a server that has asker answer.
func New(asker Asker, opts Options) *Server {
	opts = opts.withDefaults()
	admit := AdmitUsers(opts.AllowUIDs)
	if len(opts.Tokens) > 0 {
		admit = AdmitLoopback
	}
	return &Server{
		opts:   opts,
		asker:  asker,
		admit:  admit,
		events: newEvents(opts.Events),
		memory: newMemory(opts.MaxBuffered),
		start:  time.Now(),
		conns:  make(map[*conn]struct{}),
	}
}

// Serve answers on ln until ctx is cancelled or ln is closed by another. It
// then closes ln, closes idle connections at once, waits up to DrainTimeout
// for the questions in flight, and returns when all its goroutines have
// ended. The error is nil if ctx was cancelled. Serve may be called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	asking, stopAsking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAsking()
	done := make(chan struct{})
	var own, handlers sync.WaitGroup
	own.Go(func() { s.sweep(done) })
	own.Go(func() {
		select {
		case <-ctx.Done():
			stopAccepting(ln)
		case <-done:
		}
	})

	work := make(chan *conn)
	err := s.accept(ctx, ln, func(c *conn) {
		select {
		case work <- c: // to a handler that waits
		default:
			handlers.Go(func() { s.handleAll(asking, c, work) })
		}
	})
	close(work)
	ln.Close()
	s.drain(&handlers, stopAsking)
	close(done)
	own.Wait()
	return err
}

// spareHandlers is how many goroutines wait for another connection after theirs
// has ended. A new one would begin with a small stack and grow it over its first
// question, which is a tenth of the work where each connection asks one.
const spareHandlers = 64

// handleAll handles c and then, while there are not too many that wait, what
// comes from work until it is closed.
func (s *Server) handleAll(ctx context.Context, c *conn, work <-chan *conn) {
	for ok := true; ok; {
		s.handle(ctx, c)
		if s.spare.Add(1) > spareHandlers {
			ok = false
		} else {
			c, ok = <-work
		}
		s.spare.Add(-1)
	}
}

// acceptGrace is how long a stopping server still accepts: clients that
// connected before and wait in the backlog have asked, and a close would cut
// them off unanswered.
const acceptGrace = 20 * time.Millisecond

// stopAccepting ends the accept loop after what waits in the backlog.
func stopAccepting(ln net.Listener) {
	type deadliner interface{ SetDeadline(time.Time) error }
	if d, ok := ln.(deadliner); ok && d.SetDeadline(time.Now().Add(acceptGrace)) == nil {
		return
	}
	ln.Close()
}

// The pauses after a failed accept. They stay short: the clients that wait in
// the backlog have a deadline of 300 ms.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = 80 * time.Millisecond
)

// accept hands each new connection to serve until ctx is cancelled or the
// listener closed. No other error ends it: descriptors and memory come back,
// and a policy server that has quit limits nothing.
func (s *Server) accept(ctx context.Context, ln net.Listener, serve func(*conn)) error {
	backoff := minBackoff
	for {
		nc, err := ln.Accept()
		if err == nil {
			backoff = minBackoff
			if c := s.add(nc); c != nil {
				serve(c)
			}
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
			return err
		}
		// Most likely descriptors ran out (EMFILE, ENFILE): the idle give theirs back.
		s.events.acceptFailed(err, s.shed())
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// add registers a connection. At MaxConns it makes room first; where nobody
// can be closed, because all are being answered, the new one is.
func (s *Server) add(nc net.Conn) *conn {
	c, _ := s.used.Get().(*conn)
	if c == nil {
		c = new(conn)
	}
	c.begin(nc, s.memory, time.Since(s.start))
	s.mu.Lock()
	full := len(s.conns) >= s.opts.MaxConns
	if !full {
		s.conns[c] = struct{}{}
	}
	s.mu.Unlock()
	if !full {
		return c
	}
	shed := s.shed()
	s.events.crowded(shed)
	if shed == 0 {
		nc.Close()
		return nil
	}
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	return c
}

// remove forgets a connection and closes it.
func (s *Server) remove(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.nc.Close()
	c.in.release()
	c.nc = nil
	s.used.Put(c)
}

// shedGrace is how long a client has to ask, from the accept, when room is
// needed or the server stops: the client's own deadline.
const shedGrace = 300 * time.Millisecond

// shed closes a 32nd of the connections, at least one, and returns how many.
// First go those that are silent, drip a request or do not read their reply,
// the oldest first; then kept ones, the longest idle first; last those that
// only just began. One that is being answered is never closed. So whoever
// fills the server with connections loses these, while one who asks at once
// is answered. A 32nd, because looking for them is a walk over all.
func (s *Server) shed() int {
	type candidate struct {
		c    *conn
		mark int64
		rank int
	}
	now := time.Since(s.start)
	rank := func(p phase, age time.Duration) int {
		switch {
		case p == idle:
			return 1
		case age >= shedGrace:
			return 0
		}
		return 2
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []candidate
	for c := range s.conns {
		m := c.mark.Load()
		if p, since := unmark(m); p != asking && p != closed {
			all = append(all, candidate{c, m, rank(p, now-since)})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.mark>>phaseBits, b.mark>>phaseBits))
	})
	want, n := max(1, len(s.conns)/32), 0
	for _, v := range all {
		if n == want {
			break
		}
		if v.c.cut(v.mark) {
			delete(s.conns, v.c)
			n++
		}
	}
	return n
}

// sweep closes the connections that are over their time. One walker with
// coarse steps, instead of deadlines on the connections, because setting two
// deadlines for each question costs as much as reading it.
func (s *Server) sweep(done <-chan struct{}) {
	shortest := min(s.opts.RequestTimeout, s.opts.WriteTimeout, s.opts.IdleTimeout)
	t := time.NewTicker(min(max(shortest/8, 5*time.Millisecond), time.Second))
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
			s.cutOverdue(time.Since(s.start))
		}
	}
}

// cutOverdue closes what is over its time at now.
func (s *Server) cutOverdue(now time.Duration) {
	limits := [...]time.Duration{
		silent:  s.opts.RequestTimeout,
		reading: s.opts.RequestTimeout,
		writing: s.opts.WriteTimeout,
		idle:    s.opts.IdleTimeout,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		m := c.mark.Load()
		p, since := unmark(m)
		if p == asking || p == closed || now-since < limits[p] || !c.cut(m) {
			continue
		}
		delete(s.conns, c)
		if p != idle {
			s.events.tooSlow(p)
		}
	}
}

// drain ends all connections: those that have been answered now, those that
// were accepted and have not asked yet after their time for it, the others
// after their answer, and what is left after DrainTimeout by force.
func (s *Server) drain(handlers *sync.WaitGroup, stopAsking func()) {
	s.draining.Store(true)
	// A handler that goes idle after this looks at draining itself.
	s.stopReading(idle)
	ended := make(chan struct{})
	var grace sync.WaitGroup
	grace.Go(func() {
		select {
		case <-ended:
		case <-time.After(shedGrace):
			s.stopReading(silent)
		}
	})
	defer grace.Wait()
	defer close(ended)
	forced := make(chan struct{})
	force := time.AfterFunc(s.opts.DrainTimeout, func() {
		defer close(forced)
		n := 0
		s.each(func(c *conn) {
			c.mark.Store(mark(closed, 0))
			c.nc.Close()
			n++
		})
		s.events.drainedByForce(n)
		stopAsking()
	})
	handlers.Wait()
	if !force.Stop() {
		<-forced
	}
}

// stopReading ends the connections in a phase after what they have sent.
func (s *Server) stopReading(in phase) {
	s.each(func(c *conn) {
		if p, _ := unmark(c.mark.Load()); p == in {
			c.stopReading()
		}
	})
}

// each calls f for every connection.
func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

// Open returns the number of connections now.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Counts returns what happened since New.
func (s *Server) Counts() Counts { return s.events.counts() }
