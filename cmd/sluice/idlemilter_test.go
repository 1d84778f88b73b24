package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/emersion/go-milter"
)

// startIdleMilter answers Postfix with a milter that does nothing: each question that
// sluice has to answer is let pass, and nothing else is asked for or waited for.
func (h *postfixHost) startIdleMilter(t testing.TB) {
	t.Helper()
	ln, err := net.Listen("unix", h.Path("/var/spool/postfix/sluice/idle.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(ln.Addr().String(), 0o666); err != nil {
		t.Fatal(err)
	}
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() { idleSession(nc) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		h.Stop()
		sessions.Wait()
	})
}

// idleUnwanted is what an idle milter is not sent, and what is sent to it without
// waiting, of version 6.
const idleUnwanted = milter.OptNoConnect | milter.OptNoHelo | milter.OptNoHeaders | milter.OptNoEOH | milter.OptNoBody |
	milter.OptNoUnknown | milter.OptNoData | milter.OptNoMailReply

// idleSession answers a connection until it ends.
func idleSession(nc net.Conn) {
	defer nc.Close()
	in := bufio.NewReader(nc)
	var head [4]byte
	frame := make([]byte, 0, 512)
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint32(head[:]))
		frame = append(frame[:0], make([]byte, size)...)
		if _, err := io.ReadFull(in, frame); err != nil {
			return
		}
		switch milter.Code(frame[0]) {
		case milter.CodeOptNeg:
			answer := binary.BigEndian.AppendUint32(nil, 13)
			answer = append(answer, byte(milter.CodeOptNeg))
			for _, v := range []uint32{6, 0, uint32(idleUnwanted)} {
				answer = binary.BigEndian.AppendUint32(answer, v)
			}
			nc.Write(answer)
		case milter.CodeRcpt, milter.CodeEOB:
			nc.Write([]byte{0, 0, 0, 1, byte(milter.ActContinue)})
		}
	}
}
