package admin

import (
	"context"
	"net"
	"os/user"
	"strconv"

	"sluice/sidecar/peer"
)

// A caller is the user at the other end of a connection.
type caller struct {
	uid  uint32
	name string // login name, or "uid 1000"
}

type peerKey struct{}

// withPeer notes in the context which user has connected. If that is unknown, nothing is
// noted, and the caller may not ask.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	cred, err := peer.Credentials(conn)
	if err != nil {
		return ctx
	}
	id := strconv.FormatUint(uint64(cred.Uid), 10)
	name := "uid " + id
	if u, err := user.LookupId(id); err == nil {
		name = u.Username
	}
	return context.WithValue(ctx, peerKey{}, caller{cred.Uid, name})
}
