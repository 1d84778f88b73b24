// Package policytest measures a policy socket: it has a load of questions, and a server
// that does nothing, beside which the real one is measured. It owns the processes of the
// clients. It asks the servers that it is given. It tells a bench the answers per second,
// side by side.
//
// The TestMain of a package whose tests or benches use Compare begins with Main, because
// the clients are processes of their own.
package policytest

import (
	"bytes"
	"net"
	"sync"
)

// Echo answers each request on ln with reply until ln is closed. It is written like
// policyd, with a goroutine per connection, and only reads whole requests and writes.
func Echo(ln net.Listener, reply []byte) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer nc.Close()
			echo(nc, reply)
		})
	}
}

func echo(nc net.Conn, reply []byte) {
	buf, n := make([]byte, 1024), 0
	for {
		m, err := nc.Read(buf[n:])
		if err != nil {
			return
		}
		n += m
		if !bytes.HasSuffix(buf[:n], []byte("\n\n")) {
			if n == len(buf) {
				buf = append(buf, make([]byte, n)...)
			}
			continue
		}
		n = 0
		if _, err := nc.Write(reply); err != nil {
			return
		}
	}
}
