package peer

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
)

// An Asker decides questions.
type Asker interface {
	Ask(ctx context.Context, now time.Time, r sidecar.Request) sidecar.Reply
}

// A Finder passes questions on to an Asker, and tells it whose socket the client's is where
// the client is on this host. It asks the kernel at the first question about a connection.
// The mail server keeps what was found, and says it with each further one: the port may be
// another user's by then. Of a proxy that is believed it keeps nothing: at a delivery it does
// not know any more that there was one, and would take the client for the proxy's login.
type Finder struct {
	Asker     Asker
	Addresses *Addresses
	Sockets   *Sockets
	Events    event.Sink
	Believes  func(*sidecar.Request) bool // whether the client's address is the word of a proxy that is believed
}

// Ask implements Asker.
func (f *Finder) Ask(ctx context.Context, now time.Time, r sidecar.Request) sidecar.Reply {
	if r.Socket == "" {
		r.Socket = f.owner(now, &r)
	}
	reply := f.Asker.Ask(ctx, now, r)
	if r.Socket != "" && r.Socket != sidecar.SocketGone {
		reply.Socket = f.toKeep(r)
	}
	return reply
}

// toKeep returns whose socket the mail server is to remember for this connection; "" for a proxy. It
// takes a copy of the question: with a pointer to it Ask would allocate each one.
func (f *Finder) toKeep(r sidecar.Request) string {
	if f.Believes(&r) {
		return ""
	}
	return r.Socket
}

// owner finds whose the client's socket is; "" if the client has logged in or is not on this host, and
// at the router, where its connection may have ended long ago.
func (f *Finder) owner(now time.Time, r *sidecar.Request) string {
	if r.ServerPort == "" || r.Auth != "" || r.Stage == sidecar.StageRoute {
		return ""
	}
	client, ok := addrPort(r.ClientAddress, r.ClientPort)
	if r.ProxyAddress != "" {
		client, ok = addrPort(r.ProxyAddress, r.ProxyPort)
	}
	server, ok2 := addrPort(r.ServerAddress, r.ServerPort)
	if !ok || !ok2 || !f.Addresses.Has(client.Addr()) {
		return ""
	}
	owner, err := f.Sockets.Owner(now, client, server)
	if err != nil {
		f.Events.Emit(event.Event{At: now, Kind: event.SocketsHidden, Err: err})
		return sidecar.SocketLoopback
	}
	return owner
}

// addrPort parses an end of a connection, as far as a mail server told it.
func addrPort(address, port string) (netip.AddrPort, bool) {
	ip, err := netip.ParseAddr(address)
	n, err2 := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(ip, uint16(n)), err == nil && err2 == nil && n != 0
}
