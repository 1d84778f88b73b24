// Package policytest measures a policy socket: a load of questions, and the
// do-nothing server beside which the real one is measured.
//
// A test or bench that uses Compare begins its TestMain with Main, for the
// clients are processes of their own.
package policytest

import (
	"bytes"
	"net"
	"sync"
)

// Echo answers each request on ln with reply until ln is closed. It is written
// as policyd is, a goroutine per connection, and does nothing else: it reads a
// whole request and writes.
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
