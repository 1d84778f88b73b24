package policyd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"sluice/sidecar/listen"
)

// Listen makes a unix socket to which root, our own user and these may connect, see Permit;
// peer credentials decide who may ask.
func Listen(path string, uids ...int) (*net.UnixListener, error) {
	return listen.Unix(path, func(path string) error { return Permit(path, uids...) })
}

// Permit lets root, our own user and these users connect to a unix socket, and nobody else,
// by an access control list of the socket's file (acl(5)). The queue of connections that
// wait is everybody's who may connect: whoever connects in a loop leaves Exim's questions
// without an answer. Modes alone cannot say it: one socket serves Exim's and Postfix's
// users, and the group of Exim's user may be that of others, as "mail" often is.
//
// Where the file system has no such lists everybody may connect, as MayConnect then tells;
// likewise in a user namespace that lacks one of the users, which no list can name there.
func Permit(path string, uids ...int) error {
	err := unix.Setxattr(path, accessList, listOf(uids), 0)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		return fmt.Errorf("let users %v connect to %s: %w", uids, path, err)
	}
	return nil
}

// The format of access control lists (the kernel's posix_acl_xattr.h): a version, and
// entries of a tag, permissions and an id.
const (
	accessList  = "system.posix_acl_access"
	listVersion = 2
	noID        = ^uint32(0)

	tagOwner  = 0x01
	tagUser   = 0x02
	tagGroup  = 0x04 // of the file
	tagGroups = 0x08 // others
	tagMask   = 0x10 // what users, beside the owner, and groups have at most
	tagOthers = 0x20

	write = 2 // needed to connect
	use   = 6
)

// listOf is the access control list of a file that its owner and some users may use.
func listOf(uids []int) []byte {
	order := binary.LittleEndian
	b := order.AppendUint32(nil, listVersion)
	add := func(tag, permissions uint16, id uint32) {
		b = order.AppendUint32(order.AppendUint16(order.AppendUint16(b, tag), permissions), id)
	}
	add(tagOwner, use, noID)
	for _, uid := range slices.Compact(slices.Sorted(slices.Values(uids))) {
		add(tagUser, use, uint32(uid))
	}
	add(tagGroup, 0, noID)
	add(tagMask, use, noID)
	add(tagOthers, 0, noID)
	return b
}

// Connectors are who may connect to a unix socket beside root, as its file says.
type Connectors struct {
	Everybody bool
	Users     []int // its owner too
	Groups    []int
}

// MayConnect finds out who may connect to the unix socket at path.
func MayConnect(path string) (Connectors, error) {
	var c Connectors
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return c, fmt.Errorf("find out who may connect to %s: %w", path, err)
	}
	c.Everybody = stat.Mode&write != 0
	if stat.Uid != 0 && stat.Mode&(write<<6) != 0 {
		c.Users = append(c.Users, int(stat.Uid))
	}
	list := make([]byte, 64<<10) // the largest there can be
	n, err := unix.Getxattr(path, accessList, list)
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP): // the mode is all there is
		if stat.Mode&(write<<3) != 0 {
			c.Groups = append(c.Groups, int(stat.Gid))
		}
		return c, nil
	case err != nil:
		return c, fmt.Errorf("read the access control list of %s: %w", path, err)
	case stat.Mode&(write<<3) == 0: // where there is a list, these are its mask
		return c, nil
	}
	for entry := range slices.Chunk(list[4:max(n, 4)], 8) {
		tag, id := binary.LittleEndian.Uint16(entry), int(binary.LittleEndian.Uint32(entry[4:]))
		switch mayWrite := entry[2]&write != 0; {
		case mayWrite && tag == tagUser:
			c.Users = append(c.Users, id)
		case mayWrite && tag == tagGroup:
			c.Groups = append(c.Groups, int(stat.Gid))
		case mayWrite && tag == tagGroups:
			c.Groups = append(c.Groups, id)
		}
	}
	return c, nil
}
