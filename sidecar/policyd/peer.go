package policyd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"sluice/sidecar"
	"sluice/sidecar/peer"
)

// mayAsk are the users that may ask: those of allow, root, and our own.
func mayAsk(allow []int) []int {
	uids := append([]int{0, os.Geteuid()}, allow...)
	slices.Sort(uids)
	return slices.Compact(uids)
}

// admitOriginator looks at who has started an Exim that claims to have a client; an empty uid
// stands for its daemon. With exim -bh anybody can have our ACLs run in whatever name he likes.
// They do not ask then, and would get no answer. But a user whom Exim trusts can submit mail with
// -oMa too, which is asked about at its delivery: it is that user's, whatever client it claims.
func (s *Server) admitOriginator(uid []byte, r *sidecar.Request) error {
	if len(uid) == 0 || len(s.opts.AllowUIDs) == 0 || slices.ContainsFunc(s.askers, func(u string) bool { return u == string(uid) }) {
		return nil
	}
	if r.Stage == sidecar.StageRoute && checkNumber(uid, 10) == nil {
		r.Auth, r.Socket, r.ProxyAddress, r.Claimed = "", sidecar.SocketUID+string(uid), "", true
		return nil
	}
	return fmt.Errorf("%w: user id %s has started the Exim that asks, and it claims to have a client", errMalformed, clip(uid))
}

// AdmitUsers admits clients of a unix socket by the user that connected. Exim asks as its
// own user from the ACLs and as root from its router.
func AdmitUsers(allow []int) func(net.Conn) error {
	uids := mayAsk(allow)
	return func(nc net.Conn) error {
		uc, ok := nc.(*net.UnixConn)
		if !ok {
			return errors.New("not a unix socket")
		}
		cred, err := peer.Credentials(uc)
		if err != nil {
			return err
		}
		if !slices.Contains(uids, int(cred.Uid)) {
			return fmt.Errorf("user id %d (process %d) is not one of %v", cred.Uid, cred.Pid, uids)
		}
		return nil
	}
}
