package hosttest

import (
	"net"
	"sync"
)

// Pipes is a listener whose clients are net.Pipes, for tests whose time is synctest's.
type Pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewPipes returns a listener without clients. In a bubble of synctest it is made there.
func NewPipes() *Pipes {
	return &Pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial connects a client, when it is accepted.
func (l *Pipes) Dial() net.Conn {
	here, there := net.Pipe()
	l.conns <- there
	return here
}

// Accept waits for a client. The error is net.ErrClosed after Close.
func (l *Pipes) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *Pipes) Close() error { l.once.Do(func() { close(l.closed) }); return nil }

// Addr is of no host.
func (l *Pipes) Addr() net.Addr { return &net.UnixAddr{} }
