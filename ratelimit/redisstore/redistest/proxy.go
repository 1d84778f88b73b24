package redistest

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Proxy stands between a node and its Redis, and loses, delays or cuts what passes.
type Proxy struct {
	listener net.Listener
	Target   atomic.Pointer[string]
	mode     atomic.Int32
	Lose     atomic.Int32 // how many of 1,000 replies are swallowed, and their connections cut
	Delay    atomic.Int64 // of replies, in Drip of each byte; nanoseconds

	mu    sync.Mutex
	conns map[net.Conn]bool
	all   sync.WaitGroup
}

// The modes of a Proxy; see Set.
const (
	Pass    = iota
	Cut     // closes connections, and new ones at once
	Stall   // passes nothing on, and closes nothing
	Drip    // passes replies on a byte at a time
	Swallow // passes requests on and no reply
)

// StartProxy starts a proxy in front of HOST:PORT.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, conns: map[net.Conn]bool{}}
	p.Target.Store(&target)
	p.all.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.Set(Cut)
		p.all.Wait()
	})
	return p
}

// URL is a store.url that leads through it.
func (p *Proxy) URL() string { return "redis://" + p.listener.Addr().String() }

// Set changes what the proxy does, to connections that stand as well.
func (p *Proxy) Set(mode int32) {
	p.mode.Store(mode)
	if mode == Cut {
		p.Drop()
	}
}

// Drop cuts all connections once.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.mode.Load() == Cut {
			c.Close()
			continue
		}
		s, err := net.Dial("tcp", *p.Target.Load())
		if err != nil {
			c.Close()
			continue
		}
		p.mu.Lock()
		p.conns[c], p.conns[s] = true, true
		p.mu.Unlock()
		p.all.Go(func() { p.pump(s, c, false) })
		p.all.Go(func() { p.pump(c, s, true) })
	}
}

// pump passes on bytes of from, until one end is closed.
func (p *Proxy) pump(to, from net.Conn, replies bool) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range []net.Conn{to, from} {
			c.Close()
			delete(p.conns, c)
		}
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		for p.mode.Load() == Stall {
			time.Sleep(5 * time.Millisecond)
		}
		if !replies {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
			continue
		}
		if p.mode.Load() == Swallow {
			continue
		}
		if rand.Int32N(1000) < p.Lose.Load() || !p.reply(to, b[:n]) {
			return
		}
	}
}

func (p *Proxy) reply(to net.Conn, b []byte) bool {
	delay := time.Duration(p.Delay.Load())
	time.Sleep(delay)
	for p.mode.Load() == Drip && len(b) > 0 {
		if _, err := to.Write(b[:1]); err != nil {
			return false
		}
		b = b[1:]
		time.Sleep(delay)
	}
	_, err := to.Write(b)
	return err == nil
}
