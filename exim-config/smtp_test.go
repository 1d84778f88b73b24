package eximconfig_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar/hosttest"
)

// dial connects to the host's Exim and says EHLO.
func (h *host) dial(t testing.TB) *hosttest.Client {
	t.Helper()
	return hosttest.Dial(t, h.smtpAddress())
}

// dialAs is dial by a program of a user, to an address of the host.
func (h *host) dialAs(t testing.TB, u login, address string) *hosttest.Client {
	t.Helper()
	conn := h.connectAs(t, u, address)
	return hosttest.NewClient(t, conn, conn)
}

// connectAs connects as a program of a user does: who makes a socket owns it.
func (h *host) connectAs(t testing.TB, u login, address string) (conn net.Conn) {
	t.Helper()
	err := h.in(func() (err error) {
		unix.Setfsuid(u.id) // of this thread alone
		conn, err = net.Dial("tcp", net.JoinHostPort(address, fmt.Sprint(h.port)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * hosttest.Patience()))
	return conn
}

// dialFrom talks to an Exim of the host that believes to be called from an
// address elsewhere, as inetd would start it.
func (h *host) dialFrom(t testing.TB, address string) *hosttest.Client {
	t.Helper()
	return h.root().pipe(t, "exim4", "-bs", "-oMa", address)
}

// pipe talks SMTP to a command.
func (s shell) pipe(t testing.TB, args ...string) *hosttest.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*hosttest.Patience())
	cmd := s.command(ctx, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
		cancel()
	})
	return hosttest.NewClient(t, out, in)
}
