package peer

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Credentials are the ids of the process that connected, and of its user and group
// (unix(7), SO_PEERCRED).
func Credentials(c *net.UnixConn) (*unix.Ucred, error) {
	var cred *unix.Ucred
	var optErr error
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		})
	}
	if err = errors.Join(err, optErr); err != nil {
		return nil, fmt.Errorf("read peer credentials: %w", err)
	}
	return cred, nil
}
