package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar"
)

// Sockets finds out whose socket the client's end of a TCP connection on this host is, by
// asking the kernel over one netlink socket that is kept (sock_diag(7)). Many goroutines may
// call Owner at once. (The other way, to read /proc/net/tcp, takes 53 ms where there are
// 10,000 connections, in place of some microseconds.)
type Sockets struct {
	addresses *Addresses

	mu      sync.Mutex // held while the kernel answers
	kernel  *netlink   // nil while there is none
	retryAt time.Time  // when the next one may be opened, after one that failed
	reason  error      // why it failed
}

// NewSockets returns Sockets for connections between the given addresses.
func NewSockets(a *Addresses) *Sockets { return &Sockets{addresses: a} }

// retryAfter is the time between two attempts to open a netlink socket.
const retryAfter = 10 * time.Second

// Owner returns whose socket the client's end of a connection is: "uid:N", or one of
// sidecar.SocketLoopback and sidecar.SocketGone. The error says that the kernel did not tell.
//
// A netlink socket that fails is replaced, and the kernel asked once more: it may be that
// socket alone, and all clients would share one budget until the next attempt.
func (s *Sockets) Owner(now time.Time, client, server netip.AddrPort) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := connection{plainPort(client), plainPort(server), s.addresses.index(client.Addr())}
	owner, err := s.ask(now, c)
	if err != nil && s.kernel != nil {
		s.closeKernel()
		owner, err = s.ask(now, c)
	}
	if err != nil && s.kernel != nil {
		s.fail(now, err)
		err = s.reason
	}
	return owner, err
}

// ask asks the kernel, and opens the netlink socket if there is none. After an error there
// still is one where it was opened, and then failed. mu is held.
//
// All is asked twice, and must be the same: an end that is closed while we look may have
// left its port to another user.
func (s *Sockets) ask(now time.Time, c connection) (string, error) {
	if err := s.open(now); err != nil {
		return "", err
	}
	first, err := s.kernel.clientOf(c)
	if err != nil {
		return "", err
	}
	second, err := s.kernel.clientOf(c)
	if err != nil {
		return "", err
	}
	if first.cookie != second.cookie || first.String() != second.String() {
		return sidecar.SocketGone, nil
	}
	return first.String(), nil
}

// Failure is why the kernel does not tell now; nil if it does, as far as is known. It asks
// if there is no netlink socket.
func (s *Sockets) Failure(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open(now)
}

func plainPort(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(sidecar.PlainAddress(a.Addr()), a.Port())
}

// open opens the netlink socket if there is none. mu is held.
func (s *Sockets) open(now time.Time) error {
	if s.kernel != nil {
		return nil
	}
	if now.Before(s.retryAt) {
		return s.reason
	}
	fd, err := openNetlink(unix.NETLINK_SOCK_DIAG, 0)
	if err == nil {
		s.kernel = &netlink{fd: fd}
		err = s.kernel.findListener()
	}
	if err == nil {
		return nil
	}
	s.fail(now, err)
	return s.reason
}

// fail closes the netlink socket and says why. mu is held.
func (s *Sockets) fail(now time.Time, err error) {
	s.closeKernel()
	s.retryAt = now.Add(retryAfter)
	s.reason = fmt.Errorf("ask the kernel whose socket a connection is: %w; the unit needs AF_NETLINK in RestrictAddressFamilies=, the kernel tcp_diag", err)
}

// Close closes the netlink socket.
func (s *Sockets) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeKernel()
}

func (s *Sockets) closeKernel() {
	if s.kernel != nil {
		unix.Close(s.kernel.fd)
		s.kernel = nil
	}
}

// findListener checks that the kernel finds a socket of our own. One without tcp_diag, or
// that keeps us from its sockets, says of every socket that it does not exist, and all
// clients would seem to have gone.
func (n *netlink) findListener() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	own := netip.MustParseAddrPort(l.Addr().String())
	var found end
	if found, err = n.find(own, netip.AddrPortFrom(netip.IPv4Unspecified(), 0), 0); err != nil {
		return err
	}
	if found.state != stateListen {
		return errors.New("it does not find a socket of our own")
	}
	return nil
}

// A connection is what is looked for.
type connection struct {
	client, server netip.AddrPort
	interfaceIndex uint32 // of the interface that has the client's address
}

// A client is what was found of the client's end of a connection.
type client struct {
	end
	elsewhere bool // there is none, but the server's end is connected
}

// String is the client as Owner returns it. A socket that its process has closed, as each
// in TIME_WAIT, belongs to nobody: the kernel shows the uid 0 for it, and the inode 0.
func (c client) String() string {
	switch {
	case c.inode != 0:
		return sidecar.SocketUID + strconv.FormatUint(uint64(c.uid), 10)
	case c.elsewhere:
		return sidecar.SocketLoopback
	}
	return sidecar.SocketGone
}

// clientOf finds the client's end. Where there is none, it is in another network namespace
// as long as the server's end is connected.
func (n *netlink) clientOf(c connection) (found client, err error) {
	if found.end, err = n.findOn(c, c.client, c.server); err != nil || found.state != stateNone {
		return found, err
	}
	server, err := n.findOn(c, c.server, c.client)
	found.elsewhere = server.state == stateEstablished
	return found, err
}

// findOn finds an end of a connection. One that is bound to a network interface is found
// only by that: the loopback's, to which anybody may bind his socket with SO_BINDTODEVICE,
// and that of a link-local address.
func (n *netlink) findOn(c connection, local, remote netip.AddrPort) (end, error) {
	e, err := n.find(local, remote, 0)
	if err == nil && e.state == stateNone {
		e, err = n.find(local, remote, c.interfaceIndex)
	}
	return e, err
}

// An end is what the kernel tells of one end of a connection.
type end struct {
	state  uint8 // see below
	uid    uint32
	inode  uint32 // 0 where no process has it open
	cookie uint64 // no other socket ever has this one
}

// States of a socket (the kernel's tcp_states.h).
const (
	stateNone        = 0 // no such socket
	stateEstablished = 1
	stateListen      = 10
)

// These are the layouts of struct inet_diag_req_v2 and struct inet_diag_msg (the kernel's
// inet_diag.h), with the struct inet_diag_sockid that is in both.
const (
	sizeID    = 48
	sizeAsk   = 8 + sizeID
	sizeFound = 4 + sizeID + 20
)

// find finds the socket with these ends on an interface, 0 for those of all. The kernel may
// answer with another one, that listens on the local port: all four of address and port
// must match, unless the remote ones are zero.
func (n *netlink) find(local, remote netip.AddrPort, interfaceIndex uint32) (end, error) {
	var q [sizeAsk]byte
	q[0], q[1] = unix.AF_INET6, unix.IPPROTO_TCP
	if local.Addr().Is4() {
		q[0] = unix.AF_INET // also for a socket with IPv4 mapped into IPv6
	}
	binary.NativeEndian.PutUint32(q[4:], ^uint32(0)) // in any state
	putID(q[8:], local, remote, interfaceIndex)
	answer, err := n.ask(unix.SOCK_DIAG_BY_FAMILY, q[:])
	if errors.Is(err, unix.ENOENT) {
		return end{}, nil
	}
	if err != nil {
		return end{}, err
	}
	if len(answer) < sizeFound {
		return end{}, errors.New("the kernel's answer is cut off")
	}
	gotLocal, gotRemote := ends(answer)
	if gotLocal != local || gotRemote.Port() != remote.Port() || remote.Port() != 0 && gotRemote.Addr() != remote.Addr() {
		return end{}, nil
	}
	order := binary.NativeEndian
	return end{state: answer[1], uid: order.Uint32(answer[64:]), inode: order.Uint32(answer[68:]), cookie: order.Uint64(answer[44:])}, nil
}

// putID writes a struct inet_diag_sockid.
func putID(b []byte, local, remote netip.AddrPort, interfaceIndex uint32) {
	binary.BigEndian.PutUint16(b[0:], local.Port())
	binary.BigEndian.PutUint16(b[2:], remote.Port())
	copy(b[4:20], local.Addr().AsSlice())
	copy(b[20:36], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint32(b[36:], interfaceIndex)
	binary.NativeEndian.PutUint64(b[40:], ^uint64(0)) // INET_DIAG_NOCOOKIE: any
}

// ends are both ends of the socket in a struct inet_diag_msg.
func ends(m []byte) (local, remote netip.AddrPort) {
	size := 16
	if m[0] == unix.AF_INET {
		size = 4
	}
	id := m[4:]
	at := func(address, port int) netip.AddrPort {
		ip, _ := netip.AddrFromSlice(id[address : address+size])
		return netip.AddrPortFrom(sidecar.PlainAddress(ip), binary.BigEndian.Uint16(id[port:]))
	}
	return at(4, 0), at(20, 2)
}
