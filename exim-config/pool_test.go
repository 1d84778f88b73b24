package eximconfig_test

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/sidecar/hosttest"
)

// Programs of several tenants on one host speak SMTP to it without AUTH, as the pools of
// PHP-FPM do, with the real sidecar and an owner map:
//
//	alice's ─ 127.0.0.1 ─┐
//	bob's   ─ [::1] ─────┼─→ Exim ─→ sluice ─ sock_diag ─→ whose socket is it?
//	root's  ─ 10.9.0.1 ──┤
//	container ─ SNAT ────┘
//
// Each pays for himself, and nobody for another.
func TestEachPoolPaysForItself(t *testing.T) {
	t.Parallel()
	hosttest.Program(t, "iptables")
	own, container := newNetns(t), newNetns(t)
	link(t, port{own, "v0", "10.9.0.1"}, port{container, "v1", "10.9.0.2"})
	own.in(t, func() {
		args := strings.Fields("-t nat -A INPUT -s 10.9.0.2 -j SNAT --to-source 10.9.0.1")
		if out, err := exec.Command("iptables", args...).CombinedOutput(); err != nil {
			t.Fatalf("iptables: %v\n%s", err, out)
		}
	})
	needExim(t)
	h := bootHost(t, firstInstallation(t, "debian", "perl").dir, "debian", "perl", own)
	h.share(t, "hourly = 2")
	h.addMacros(t, "queue_only\nMAIN_RELAY_NETS = <; 127.0.0.1 ; ::1 ; 10.9.0.1")
	h.startEximOn(t, "127.0.0.1", "::1", "10.9.0.1")

	refused := hourlyText("alice.example", 3, 2, laterText)
	for i, address := range []string{"127.0.0.1", "::1", "10.9.0.1"} {
		c := h.dialAs(t, alice, address)
		c.Mail("joe@bob.example")
		if i < 2 {
			c.Want(c.Rcpt("r@far.example"), 250)
			c.Want(c.Data(hosttest.Letter("x")), 250)
		} else {
			c.WantPart(c.Rcpt("r@far.example"), 450, refused)
		}
	}
	want := map[string]int64{"alice.example": 2}
	h.wantSent(t, "alice's pool", want)

	c := h.dialAs(t, bob, "127.0.0.1")
	c.Want(c.Send("joe@bob.example", hosttest.Letter("x"), "one@far.example"), 250)
	c.Want(c.Send("", hosttest.Letter("x"), "two@far.example"), 250) // the second on its connection
	want["bob.example"] = 2
	h.wantSent(t, "bob's pool", want)

	c = h.dialAs(t, web, "127.0.0.1")
	c.Want(c.Send("joe@bob.example", hosttest.Letter("x"), "r@far.example"), 250)
	want["service:web"] = 1
	h.wantSent(t, "the web server", want)

	c = h.dialAs(t, login{"root", 0}, "10.9.0.1")
	c.Want(c.Send("root@"+node, hosttest.Letter("x"), "r@far.example"), 250)
	want["system"] = 1
	h.wantSent(t, "root", want)

	var conn net.Conn
	container.in(t, func() {
		var err error
		if conn, err = net.Dial("tcp", fmt.Sprintf("10.9.0.1:%d", h.port)); err != nil {
			t.Fatal(err)
		}
	})
	defer conn.Close()
	c = hosttest.NewClient(t, conn, conn)
	c.Want(c.Send("joe@bob.example", hosttest.Letter("x"), "r@far.example"), 250)
	want["loopback"] = 1
	h.wantSent(t, "a container", want)

	h.leaveEarly(t, alice)
	hosttest.Eventually(t, "a client that has gone is refused", func() bool {
		return strings.Contains(h.mainlog(), "rejected RCPT <early@far.example>: The client has closed its connection")
	})
	h.wantSent(t, "a client that has gone", want)
	if n := len(h.queue()); n != 7 {
		t.Errorf("%d messages were accepted, want 7", n)
	}
}

// startEximOn starts the daemon on some addresses of the host's network.
func (h *host) startEximOn(t *testing.T, addresses ...string) {
	t.Helper()
	h.port = hosttest.FreePort(t)
	on := "<;"
	for _, a := range addresses {
		on += fmt.Sprintf(" [%s]:%d ;", a, h.port)
	}
	h.start(t, "exim4", "-bdf", "-oX", on)
	hosttest.Eventually(t, "Exim listens", func() bool {
		return h.in(func() error {
			c, err := net.Dial("tcp", net.JoinHostPort(addresses[0], fmt.Sprint(h.port)))
			if err == nil {
				c.Close()
			}
			return err
		}) == nil
	})
}

// leaveEarly sends a whole message without waiting for replies, together with the end of
// the connection: the kernel then shows a socket of uid 0 that nobody has open.
func (h *host) leaveEarly(t *testing.T, u login) {
	t.Helper()
	conn := h.connectAs(t, u, "127.0.0.1").(*net.TCPConn)
	hosttest.NewClient(t, conn, conn)
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { // what is written from here on leaves with the close
		err = syscall.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	message := hosttest.OnTheWire(hosttest.Letter("x"))
	fmt.Fprintf(conn, "MAIL FROM:<joe@bob.example>\r\nRCPT TO:<early@far.example>\r\nBDAT %d LAST\r\n%sQUIT\r\n", len(message), message)
	conn.Close()
}
