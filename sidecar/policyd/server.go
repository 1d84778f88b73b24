package policyd

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar"
	"sluice/sidecar/event"
)

// An Asker decides questions. It is called by many goroutines at once. It must return soon
// after ctx is cancelled, which happens only when a stopping server has waited
// DrainTimeout for it.
type Asker interface {
	Ask(ctx context.Context, now time.Time, r sidecar.Request) sidecar.Reply
}

// Options are the settings of a Server. A zero value means the default.
type Options struct {
	// MaxRequest is the largest request in bytes. Default 4 MiB: some 50,000 recipients.
	// About the recipients of a larger message Exim's router asks one by one.
	MaxRequest int
	// MaxAttributes is the largest number of lines in a request. Default 64: Postfix sends
	// up to 40, our Exim configuration 23.
	MaxAttributes int
	// MaxBuffered is the memory in bytes for all requests longer than 1 KiB that are being
	// read, so that many large ones at once cannot exhaust the machine's memory. Default
	// 256 MiB.
	MaxBuffered int
	// MaxConns is the largest number of connections. Default 8192: one for each Exim process
	// of a very large machine. See Server.shed for what happens then.
	MaxConns int
	// RequestTimeout is the time from the first byte of a request, or from the accept for
	// the first request, to its last byte. Default 2 s: clients give up after 0.3 s.
	RequestTimeout time.Duration
	// IdleTimeout is the time between requests on a connection. Default 10 minutes: longer
	// than Exim's wait for an SMTP command and Postfix's max_idle, both 5 minutes, so that
	// the client, which knows whether it will ask again, closes first.
	IdleTimeout time.Duration
	// WriteTimeout is the time that a client has to read its reply. Default 2 s.
	WriteTimeout time.Duration
	// DrainTimeout is how long a stopping server waits for questions that are being
	// answered. Default 5 s.
	DrainTimeout time.Duration
	// AllowUIDs are the user ids that may ask: Exim's, Postfix's. Root and the server's own
	// user always may. On TCP it is not known who asks, but who started the Exim that does.
	AllowUIDs []int
	// Tokens are for a listener on TCP: it serves only clients on the loopback, and only
	// questions with one of them. Default: the listener is a unix socket, and peer
	// credentials show who asks.
	Tokens []string
	// Events receives what operators must see, each kind at most once in ten seconds.
	// Default: events are only counted.
	Events event.Sink
}

// withDefaults sets the defaults.
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
	admit    func(net.Conn) error // decides who may ask, by the kind of listener
	askers   []string             // the users that may ask, as Exim writes their ids
	events   *events
	memory   *memory
	start    time.Time // connections store times as offsets from it
	draining atomic.Bool
	spare    atomic.Int64 // number of handlers that wait for a connection

	mu    sync.Mutex
	conns map[*conn]struct{} // only its handler uses a conn without holding mu

	used sync.Pool // of *conn that have ended, to be reused: one takes more than a kilobyte
}

// New returns a server that answers by asker.
func New(asker Asker, opts Options) *Server {
	opts = opts.withDefaults()
	admit := AdmitUsers(opts.AllowUIDs)
	if len(opts.Tokens) > 0 {
		admit = AdmitLoopback
	}
	var askers []string
	for _, uid := range mayAsk(opts.AllowUIDs) {
		askers = append(askers, strconv.Itoa(uid))
	}
	return &Server{
		askers: askers,
		opts:   opts,
		asker:  asker,
		admit:  admit,
		events: newEvents(opts.Events),
		memory: newMemory(opts.MaxBuffered),
		start:  time.Now(),
		conns:  make(map[*conn]struct{}),
	}
}

// Serve answers on ln until ctx is cancelled or somebody closes ln. Then it closes ln and
// idle connections at once, waits up to DrainTimeout for questions that are being
// answered, and returns when all its goroutines have ended. The error is nil if ctx was
// cancelled. Serve may be called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	asking, stopAsking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAsking()
	done := make(chan struct{})
	var own, handlers sync.WaitGroup
	own.Go(func() { s.sweep(done) })
	own.Go(func() {
		select {
		case <-ctx.Done():
			wake(ln)
		case <-done:
		}
	})

	work := make(chan *conn)
	err := s.accept(ctx, ln, func(c *conn) {
		select {
		case work <- c: // a waiting handler takes it
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

// spareHandlers is how many goroutines may wait for another connection after theirs has
// ended. A new goroutine would begin with a small stack and grow it during its first
// question, which is a tenth of the work where each connection asks only one.
const spareHandlers = 64

// handleAll handles c and then further connections from work until that is closed, or
// until enough other handlers wait.
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

// wake ends the accept loop's wait for another connection, so that it sees that the
// server stops.
func wake(ln net.Listener) {
	if d, ok := ln.(deadliner); !ok || d.SetDeadline(time.Now()) != nil {
		ln.Close()
	}
}

// A deadliner is a listener whose Accept can be ended without closing it.
type deadliner interface{ SetDeadline(time.Time) error }

// backlog passes each connection that waits in the backlog of ln to serve: those clients
// have already asked, and closing the listener would leave them unanswered. It ends when
// none waits, or after DrainTimeout if there are always new ones.
func (s *Server) backlog(ln net.Listener, serve func(*conn)) {
	d, ok := ln.(deadliner)
	end := time.Now().Add(s.opts.DrainTimeout)
	for ok && time.Now().Before(end) && connectionWaits(ln) {
		if d.SetDeadline(end) != nil {
			return
		}
		nc, err := ln.Accept()
		switch {
		case err == nil:
			if c := s.add(nc); c != nil {
				serve(c)
			}
		case errors.Is(err, os.ErrDeadlineExceeded): // wake came in between
		default:
			s.events.acceptFailed(err, s.shed())
			time.Sleep(minBackoff)
		}
	}
}

// connectionWaits reports whether ln's next Accept would return at once.
func connectionWaits(ln net.Listener) bool {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return err == nil && n > 0
}

// These bound the pause after a failed accept. It stays short: the clients that wait in
// the backlog have a deadline of 300 ms.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = 80 * time.Millisecond
)

// accept passes each new connection to serve until ctx is cancelled or the listener is
// closed. No other error ends it: file descriptors and memory become available again, and
// a policy server that has quit limits nothing.
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
			s.backlog(ln, serve)
			return nil
		}
		if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
			return err
		}
		// Most likely file descriptors ran out (EMFILE, ENFILE): shed frees some.
		s.events.acceptFailed(err, s.shed())
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// add registers a connection. At MaxConns it first closes others; if none can be closed,
// because all are being answered, it closes the new one and returns nil.
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

// remove closes a connection and unregisters it.
func (s *Server) remove(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.nc.Close()
	c.in.release()
	c.nc = nil
	s.used.Put(c)
}

// shedGrace is how long a client may take to ask, from the accept, before it can be closed
// for others or when the server stops: the clients' own deadline.
const shedGrace = 300 * time.Millisecond

// shed closes a 32nd of the connections, at least one, and returns how many. First it
// closes those that are silent, send a request in drips or do not read their reply, the
// oldest first; then idle ones, the longest idle first; last those that have only just
// begun. It never closes one that is being answered. So if a client opens too many
// connections, it loses them, while one that asks at once is answered. It closes a 32nd at
// a time because finding them is a walk over all.
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
		if v.c.closeIf(v.mark) {
			delete(s.conns, v.c)
			n++
		}
	}
	return n
}

// sweep closes the connections that are over their time. It looks at all of them in coarse
// intervals, because setting two deadlines for each question would cost as much as reading
// it.
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

// cutOverdue closes the connections that are over their time at now.
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
		if p == asking || p == closed || now-since < limits[p] || !c.closeIf(m) {
			continue
		}
		delete(s.conns, c)
		if p != idle {
			s.events.tooSlow(p)
		}
	}
}

// drain ends all connections: idle ones now, those that were accepted and have not asked
// yet after shedGrace, the others after their answer, and what is left after DrainTimeout
// by force.
func (s *Server) drain(handlers *sync.WaitGroup, stopAsking func()) {
	s.draining.Store(true)
	// A handler that becomes idle after this checks draining itself.
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
