package policyd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"sluice/sidecar/peer"
)

// AdmitUsers admits clients of a unix socket by the user that connected: those of allow,
// root, and our own. Exim asks as its own user from the ACLs and as root from its router,
// without supplementary groups, so the mode of the socket cannot distinguish it from
// others.
func AdmitUsers(allow []int) func(net.Conn) error {
	uids := append([]int{0, os.Geteuid()}, allow...)
	slices.Sort(uids)
	uids = slices.Compact(uids)
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
