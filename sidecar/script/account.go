package script

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An Account is a tenant of this host.
type Account struct {
	Name string
	UID  uint32
	GID  uint32
	Home string // absolute; only what is below it is ever touched
}

// firstUID is the lowest uid of a tenant: below are root, and the logins of services
// (UID_MIN in login.defs(5) was 500, and is 1000).
const firstUID = 500

// accountOf returns the account in whose home a path is, or whose home it is, by a file like
// /etc/passwd.
func accountOf(passwd io.Reader, path string) (found Account, err error) {
	shared := ""
	for lines := bufio.NewScanner(passwd); lines.Scan(); {
		a, ok := parseAccount(lines.Text())
		switch {
		case !ok || !below(a.Home, path) && a.Home != path || len(a.Home) < len(found.Home):
		case a.Home == found.Home && a.UID != found.UID:
			shared = a.Name
		default:
			found, shared = a, ""
		}
	}
	switch {
	case found.Home == "":
		return found, errors.New("it is in the home of no account")
	case shared != "":
		return found, fmt.Errorf("%s is the home of %s and of %s", found.Home, found.Name, shared)
	}
	return found, nil
}

// Locate returns a path and its account. What is above the home is root's, so links are
// followed there: /home is one on some hosts.
func Locate(passwd, path string) (string, Account, error) {
	f, err := os.Open(passwd)
	if err != nil {
		return "", Account{}, err
	}
	defer f.Close()
	a, err := accountOf(f, path)
	if err != nil {
		return "", a, fmt.Errorf("find whose home it is in, by %s: %w", passwd, err)
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(a.Home))
	if err != nil {
		return "", a, err
	}
	home := filepath.Join(parent, filepath.Base(a.Home))
	path = home + path[len(a.Home):]
	a.Home = home
	return path, a, nil
}

// parseAccount reads a line of passwd(5); false if it is no tenant's.
func parseAccount(line string) (a Account, ok bool) {
	f := strings.Split(line, ":")
	if len(f) != 7 || !filepath.IsAbs(f[5]) {
		return a, false
	}
	uid, err := strconv.ParseUint(f[2], 10, 32)
	gid, err2 := strconv.ParseUint(f[3], 10, 32)
	a = Account{Name: f[0], UID: uint32(uid), GID: uint32(gid), Home: filepath.Clean(f[5])}
	return a, err == nil && err2 == nil && uid >= firstUID && a.Home != "/"
}

// below reports whether a clean path is below a directory.
func below(dir, path string) bool { return strings.HasPrefix(path, dir+"/") }

// Has reports whether there is a regular file of this absolute path below the home, on the way
// to which there is no link.
func (a Account) Has(path string) bool {
	if path != filepath.Clean(path) || !below(a.Home, path) {
		return false
	}
	fd, err := a.open(path[len(a.Home)+1:], unix.O_PATH)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// dirFlags open a directory as a place to go on from, and fail for anything else, links too.
const dirFlags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_DIRECTORY | unix.O_CLOEXEC

// open opens something by its path below the home; "." is the home itself. It goes down one
// name after the other, and follows no link. flags are those of the last name.
//
// What is above the home must be root's, and nobody else may rename what is there.
func (a Account) open(rel string, flags int) (fd int, err error) {
	if fd, err = unix.Open("/", dirFlags, 0); err != nil {
		return -1, err
	}
	for name := range strings.SplitSeq(a.Home[1:], "/") {
		if err := onlyRoots(fd); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("a directory above the home %s: %w", a.Home, err)
		}
		if fd, err = down(fd, name, dirFlags); err != nil {
			return -1, fmt.Errorf("the home %s: %w", a.Home, named(name, err))
		}
	}
	names := strings.Split(rel, "/")
	for i, name := range names {
		last := i == len(names)-1
		how := dirFlags
		if last {
			how = flags | unix.O_NOFOLLOW | unix.O_CLOEXEC
		}
		if fd, err = down(fd, name, how); err != nil {
			return -1, named(name, err)
		}
	}
	return fd, nil
}

// down opens a name in a directory, which it closes.
func down(dir int, name string, flags int) (int, error) {
	defer unix.Close(dir)
	if name == ".." {
		return -1, unix.EINVAL
	}
	for {
		fd, err := unix.Openat(dir, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// named says what is wrong with a name on the way.
func named(name string, err error) error {
	switch err {
	case unix.ELOOP, unix.ENOTDIR:
		return fmt.Errorf("%q is a symbolic link or no directory, and none is followed: name the file by its real path: %w", name, err)
	case unix.EWOULDBLOCK:
		return fmt.Errorf("%q is leased by a program of the tenant's, see /proc/locks: end it and try again: %w", name, err)
	}
	return fmt.Errorf("%q: %w", name, err)
}

// onlyRoots fails unless a directory is root's, and others cannot rename what is in it.
func onlyRoots(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Uid != 0 || st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return errors.New("it is not root's, or others may write to it, and could put another home in place of this one")
	}
	return nil
}
