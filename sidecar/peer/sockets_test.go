package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
)

// Whose socket is at the other end of a connection on this host?
//
//	client, uid 2001 ──TCP──→ server
//	      └──────── kernel ←─ sock_diag ── Sockets
func TestOwnerOfASocket(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.ip(t, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
	n.ip(t, "link", "set", "v1", "up")
	n.ip(t, "link", "set", "v0", "up")
	n.ip(t, "addr", "add", "198.51.100.7/24", "dev", "lo")
	n.ip(t, "addr", "add", "2001:db8::7/64", "dev", "lo", "nodad")
	n.ip(t, "addr", "add", "fe80::7/64", "dev", "v0", "nodad")
	s := socketsIn(t, n)
	for _, c := range []struct{ name, network, listen, dial, want string }{
		{"IPv4", "tcp4", "127.0.0.1:0", "", "uid:2001"},
		{"IPv6", "tcp6", "[::1]:0", "", "uid:2001"},
		{"own address", "tcp4", "198.51.100.7:0", "", "uid:2001"},
		{"own IPv6 address", "tcp6", "[2001:db8::7]:0", "", "uid:2001"},
		{"link-local address", "tcp6", "[fe80::7%v0]:0", "", "uid:2001"},
		{"server with IPv4 mapped into IPv6", "tcp", "[::]:0", "127.0.0.1", "uid:2001"},
		{"client with IPv4 mapped into IPv6", "mapped", "127.0.0.1:0", "", "uid:2001"},
		{"bound to the loopback's interface", "bound", "127.0.0.1:0", "", "uid:2001"},
		{"multipath TCP", "mptcp", "127.0.0.1:0", "", "uid:2001"},
	} {
		l := listen(t, n, c.listen)
		to := l.Addr().(*net.TCPAddr)
		if c.dial != "" {
			to = &net.TCPAddr{IP: net.ParseIP(c.dial), Port: to.Port}
		}
		client := dialAs(t, n, 2001, c.network, to)
		server := accept(t, l)
		if got := ownerOf(t, s, server); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		// Half a connection has its owner still: he waits for answers.
		unix.Shutdown(client, unix.SHUT_WR)
		if got := ownerOf(t, s, server); got != c.want {
			t.Errorf("%s, half closed: %s, want %s", c.name, got, c.want)
		}
		unix.Close(client)
		if c.network != "mptcp" { // whose owner the kernel still knows
			hosttest.Eventually(t, c.name+" is closed", func() bool { return ownerOf(t, s, server) == sidecar.SocketGone })
		}
	}
}

// Root's own socket is not to be taken for one that was closed, which the kernel shows
// with the uid 0 too, nor a closed one for root's.
func TestClosedSocketBelongsToNobody(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := socketsIn(t, n)
	for name, end := range map[string]func(client int, server *net.TCPConn){
		"unread data":   func(c int, server *net.TCPConn) { unix.Write(c, []byte("MAIL")); unix.Close(c) },
		"reset":         func(c int, _ *net.TCPConn) { reset(c) },
		"closed before": func(c int, server *net.TCPConn) { server.CloseWrite(); unix.Close(c) },
		"time wait":     func(c int, server *net.TCPConn) { unix.Close(c); server.CloseWrite() },
		"aborted server": func(c int, server *net.TCPConn) {
			server.SetLinger(0)
			server.Close()
		},
	} {
		l := listen(t, n, "127.0.0.1:0")
		client := dialAs(t, n, 0, "tcp4", l.Addr().(*net.TCPAddr))
		server := accept(t, l)
		at := endsOf(server)
		if got := s.mustOwn(t, at); got != "uid:0" {
			t.Errorf("%s: root's socket is of %s", name, got)
		}
		end(client, server)
		// A child that is just being started may have it open too, until its exec.
		hosttest.Eventually(t, "closed with "+name, func() bool { return s.mustOwn(t, at) == sidecar.SocketGone })
	}
	// The port is another user's now: only the whole connection counts.
	l := listen(t, n, "127.0.0.1:0")
	client := dialAs(t, n, 2001, "tcp4", l.Addr().(*net.TCPAddr))
	at := endsOf(accept(t, l))
	reset(client)
	hosttest.Eventually(t, "reset", func() bool { return s.mustOwn(t, at) == sidecar.SocketGone }) // likewise
	other := listen(t, n, at[0].String())
	defer other.Close()
	if got := s.mustOwn(t, at); got != sidecar.SocketGone {
		t.Errorf("somebody listens on the client's port: %s, want %s", got, sidecar.SocketGone)
	}
}

// A client in a container whose address is translated to one of this host has no socket
// here, while the server's end is connected.
//
//	container, 10.9.0.2 ──veth──→ SNAT ─→ 10.9.0.1, from 10.9.0.1
func TestContainerIsTheLoopback(t *testing.T) {
	t.Parallel()
	hosttest.Program(t, "iptables")
	n, container := newNetwork(t), newNetwork(t)
	n.ip(t, "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), container.file.Fd()))
	n.ip(t, "addr", "add", "10.9.0.1/24", "dev", "v0")
	container.ip(t, "addr", "add", "10.9.0.2/24", "dev", "v1")
	n.ip(t, "link", "set", "v0", "up")
	container.ip(t, "link", "set", "v1", "up")
	n.run(t, "iptables", "-t", "nat", "-A", "INPUT", "-s", "10.9.0.2", "-j", "SNAT", "--to-source", "10.9.0.1")
	s := socketsIn(t, n)
	l := listen(t, n, "10.9.0.1:0")
	client := dialAs(t, container, 2001, "tcp4", l.Addr().(*net.TCPAddr))
	server := accept(t, l)
	if from := endsOf(server)[0].Addr().String(); from != "10.9.0.1" {
		t.Fatalf("the client comes from %s", from)
	}
	if got := ownerOf(t, s, server); got != sidecar.SocketLoopback {
		t.Errorf("%s, want %s", got, sidecar.SocketLoopback)
	}
	unix.Close(client)
	hosttest.Eventually(t, "the client has gone", func() bool { return ownerOf(t, s, server) == sidecar.SocketGone })
}

// A kernel that tells nothing is no reason to believe that all clients have gone.
func TestKernelTellsNothing(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := socketsIn(t, n)
	l := listen(t, n, "127.0.0.1:0")
	dialAs(t, n, 2001, "tcp4", l.Addr().(*net.TCPAddr))
	at := endsOf(accept(t, l))
	now := time.Now()
	s.mustOwn(t, at)
	s.fail(now, unix.EPERM)
	if owner, err := s.Owner(now, at[0], at[1]); !errors.Is(err, unix.EPERM) {
		t.Fatalf("without a netlink socket: %s, %v", owner, err)
	}
	var events events
	f := &Finder{Asker: asker{}, Addresses: s.addresses, Sockets: s, Events: &events, Believes: believesNone}
	question := sidecar.Request{Stage: sidecar.StageRcpt, Submitter: sidecar.Submitter{ClientAddress: at[0].Addr().String()}, Connection: sidecar.Connection{
		ClientPort: fmt.Sprint(at[0].Port()), ServerAddress: at[1].Addr().String(), ServerPort: fmt.Sprint(at[1].Port())}}
	if got := f.Ask(t.Context(), now, question).Socket; got != sidecar.SocketLoopback || len(events) != 1 {
		t.Errorf("%s, events %v", got, events)
	}
	n.in(t, func() { // where its next netlink socket is to be
		if got := f.Ask(t.Context(), now.Add(retryAfter), question).Socket; got != "uid:2001" {
			t.Errorf("after a while: %s", got)
		}
	})
}

// One netlink socket that fails is no reason to count a client with all others for a while.
func TestFailedNetlinkSocketIsReplaced(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := socketsIn(t, n)
	l := listen(t, n, "127.0.0.1:0")
	dialAs(t, n, 2001, "tcp4", l.Addr().(*net.TCPAddr))
	at := endsOf(accept(t, l))
	unix.Close(s.kernel.fd)
	s.kernel.fd = -1
	n.in(t, func() { // where its next netlink socket is to be
		if owner, err := s.Owner(time.Now(), at[0], at[1]); owner != "uid:2001" || err != nil {
			t.Errorf("%s, %v", owner, err)
		}
	})
}

// A signal while the kernel's answer is waited for is no error: Go's runtime sends some to
// its own threads.
func TestSignalIsNoError(t *testing.T) {
	t.Parallel()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	reader := make(chan int)
	read := make(chan error)
	go onThread(func() {
		reader <- unix.Gettid()
		_, err := (&netlink{fd: pair[0]}).read()
		read <- err
	})
	thread := <-reader
	for range 10 {
		unix.Tgkill(os.Getpid(), thread, unix.SIGURG) // as the runtime does
		time.Sleep(time.Millisecond)
	}
	unix.Write(pair[1], []byte("answer"))
	if err := <-read; errors.Is(err, unix.EINTR) { // that it came too late is no matter here
		t.Error(err)
	}
}

// The kernel is asked once about a connection, about none that does not need it, and never
// at the router.
func TestWhenTheOwnerIsLookedFor(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := socketsIn(t, n)
	l := listen(t, n, "127.0.0.1:0")
	dialAs(t, n, 2001, "tcp4", l.Addr().(*net.TCPAddr))
	at := endsOf(accept(t, l))
	f := &Finder{Asker: asker{}, Addresses: s.addresses, Sockets: s, Believes: believesNone}
	for _, c := range []struct {
		name   string
		change func(*sidecar.Request)
		want   string
	}{
		{"first question", func(*sidecar.Request) {}, "uid:2001"},
		{"kept", func(r *sidecar.Request) { r.Socket = "uid:2002" }, "uid:2002"},
		{"router", func(r *sidecar.Request) { r.Stage = sidecar.StageRoute }, ""},
		{"logged in", func(r *sidecar.Request) { r.Auth = "a@a.example" }, ""},
		{"from elsewhere", func(r *sidecar.Request) { r.ClientAddress = "192.0.2.1" }, ""},
		{"an older question", func(r *sidecar.Request) { r.ServerPort = "" }, ""},
		{"sendmail", func(r *sidecar.Request) { r.Submitter, r.Connection = sidecar.Submitter{}, sidecar.Connection{} }, ""},
		{"proxy on this host", func(r *sidecar.Request) {
			r.ProxyAddress, r.ProxyPort, r.ClientAddress, r.ClientPort = r.ClientAddress, r.ClientPort, "192.0.2.1", "4711"
		}, "uid:2001"},
		{"proxy elsewhere", func(r *sidecar.Request) { r.ProxyAddress, r.ProxyPort = "192.0.2.1", "4711" }, ""},
	} {
		r := sidecar.Request{Stage: sidecar.StageData, Submitter: sidecar.Submitter{ClientAddress: at[0].Addr().String()}, Connection: sidecar.Connection{
			ClientPort: fmt.Sprint(at[0].Port()), ServerAddress: at[1].Addr().String(), ServerPort: fmt.Sprint(at[1].Port())}}
		c.change(&r)
		reply := f.Ask(t.Context(), time.Now(), r)
		if reply.Text != c.want || reply.Socket != c.want {
			t.Errorf("%s: asked about %q and answered %q, want %q", c.name, reply.Text, reply.Socket, c.want)
		}
	}
}

// A proxy that is believed is asked about, and not kept: the router would take its mail for
// that of its login.
func TestABelievedProxyIsNotKept(t *testing.T) {
	f := &Finder{Asker: asker{}, Believes: func(r *sidecar.Request) bool { return r.ProxyAddress != "" && r.Socket == "uid:35" }}
	for _, owner := range []string{"uid:35", "uid:36"} {
		r := sidecar.Request{Connection: sidecar.Connection{ProxyAddress: "127.0.0.1", Socket: owner}}
		reply := f.Ask(t.Context(), time.Now(), r)
		if kept := reply.Socket == owner; reply.Text != owner || kept != (owner != "uid:35") {
			t.Errorf("%s: asked about %q and answered %q", owner, reply.Text, reply.Socket)
		}
	}
}

func believesNone(*sidecar.Request) bool { return false }

// An asker answers with the socket that it was asked about.
type asker struct{}

func (asker) Ask(_ context.Context, _ time.Time, r sidecar.Request) sidecar.Reply {
	return sidecar.Reply{Text: r.Socket}
}

type events []event.Event

func (e *events) Emit(one event.Event)    { *e = append(*e, one) }
func (e *events) Enabled(event.Kind) bool { return true }

// socketsIn asks about sockets of a network.
func socketsIn(t testing.TB, n *network) *Sockets {
	t.Helper()
	var s *Sockets
	n.in(t, func() {
		a, err := ReadAddresses()
		s = NewSockets(a)
		if err = errors.Join(err, s.open(time.Now())); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(s.Close)
	return s
}

func (s *Sockets) mustOwn(t testing.TB, at [2]netip.AddrPort) string {
	t.Helper()
	owner, err := s.Owner(time.Now(), at[0], at[1])
	if err != nil {
		t.Fatal(err)
	}
	return owner
}

func ownerOf(t testing.TB, s *Sockets, server *net.TCPConn) string {
	t.Helper()
	return s.mustOwn(t, endsOf(server))
}

// endsOf are the client's end and the server's.
func endsOf(server *net.TCPConn) [2]netip.AddrPort {
	return [2]netip.AddrPort{server.RemoteAddr().(*net.TCPAddr).AddrPort(), server.LocalAddr().(*net.TCPAddr).AddrPort()}
}

func listen(t testing.TB, n *network, address string) *net.TCPListener {
	t.Helper()
	var l net.Listener
	n.in(t, func() {
		var err error
		// Go's own listeners are of multipath TCP; Exim's is not.
		c := net.ListenConfig{}
		c.SetMultipathTCP(false)
		if l, err = c.Listen(t.Context(), "tcp", address); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func accept(t testing.TB, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	l.SetDeadline(time.Now().Add(hosttest.Patience()))
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// dialAs connects as a user, and returns the client's socket.
func dialAs(t testing.TB, n *network, uid int, how string, to *net.TCPAddr) int {
	t.Helper()
	family, protocol := unix.AF_INET6, 0
	if to.IP.To4() != nil && how != "mapped" {
		family = unix.AF_INET
	}
	if how == "mptcp" {
		protocol = unix.IPPROTO_MPTCP
	}
	var fd int
	var err error
	n.in(t, func() {
		unix.Setfsuid(uid) // of this thread alone: who makes a socket owns it
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
		if err == nil && how == "bound" {
			err = unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo")
		}
	})
	if errors.Is(err, syscall.EPROTONOSUPPORT) {
		t.Skipf("this kernel has no %s", how)
	}
	if err == nil {
		hosttest.Eventually(t, "a new link carries", func() bool {
			n.in(t, func() { err = unix.Connect(fd, sockaddr(t, family, to)) })
			return err != unix.EHOSTUNREACH && err != unix.ENETUNREACH
		})
	}
	if err != nil {
		t.Errorf("connect (%s) to %s: %v", how, to, err)
	}
	if t.Failed() {
		t.FailNow()
	}
	return fd
}

func sockaddr(t testing.TB, family int, to *net.TCPAddr) unix.Sockaddr {
	t.Helper()
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}
	}
	a := &unix.SockaddrInet6{Port: to.Port, Addr: [16]byte(to.IP.To16())}
	if to.Zone != "" {
		index, err := net.InterfaceByName(to.Zone)
		if err != nil {
			t.Error(err)
			return a
		}
		a.ZoneId = uint32(index.Index)
	}
	return a
}

// reset closes a socket without a farewell.
func reset(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd)
}
