package redisstore

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A proxy stands between a node and its Redis, and makes it worse.
type proxy struct {
	listener net.Listener
	target   atomic.Pointer[string]
	mode     atomic.Int32
	lose     atomic.Int32 // of 1,000 replies, so many are swallowed and their connection is cut
	delay    atomic.Int64 // of replies, nanoseconds

	mu    sync.Mutex
	conns map[net.Conn]bool
	all   sync.WaitGroup
}

// What a proxy does.
const (
	pass    = iota
	cut     // closes connections, and new ones at once
	stall   // passes nothing on, and closes nothing
	drip    // passes replies on a byte at a time
	swallow // passes requests on and no reply
)

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, conns: map[net.Conn]bool{}}
	p.target.Store(&target)
	p.all.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.set(cut)
		p.all.Wait()
	})
	return p
}

func (p *proxy) url() string { return "redis://" + p.listener.Addr().String() }

// set changes what the proxy does, to connections that stand as well.
func (p *proxy) set(mode int32) {
	p.mode.Store(mode)
	if mode == cut {
		p.drop()
	}
}

// drop cuts all connections once.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.mode.Load() == cut {
			c.Close()
			continue
		}
		s, err := net.Dial("tcp", *p.target.Load())
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

// pump passes on what from says, until one end is closed.
func (p *proxy) pump(to, from net.Conn, replies bool) {
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
		for p.mode.Load() == stall {
			time.Sleep(time.Millisecond)
		}
		if !replies {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
			continue
		}
		if p.mode.Load() == swallow {
			continue
		}
		if rand.Int32N(1000) < p.lose.Load() || !p.reply(to, b[:n]) {
			return
		}
	}
}

func (p *proxy) reply(to net.Conn, b []byte) bool {
	time.Sleep(time.Duration(p.delay.Load()))
	for p.mode.Load() == drip && len(b) > 0 {
		if _, err := to.Write(b[:1]); err != nil {
			return false
		}
		b = b[1:]
		time.Sleep(5 * time.Millisecond)
	}
	_, err := to.Write(b)
	return err == nil
}
