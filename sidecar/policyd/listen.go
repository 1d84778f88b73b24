package policyd

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxSocketPath is what fits into sun_path with its final NUL (unix(7)).
const maxSocketPath = 107

// Listen makes a unix socket at path on which every user may connect; who may
// ask is decided by peer credentials. A socket on which nobody answers any
// more (kill -9 leaves it) is replaced; a live one, or anything else that is
// no socket, is an error.
//
// The socket is bound under another name and renamed, so that path never is
// absent where it was there, and never has a mode that keeps Exim out. Closing
// the listener leaves the file: to connect is refused then, which is as clean
// as absent, while removing it could take away a successor's. Two servers
// started in the same instant are the caller's to prevent.
func Listen(path string) (*net.UnixListener, error) {
	if err := vacant(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// The process id keeps apart whoever starts at the same time. In a
	// container it may be the same again, after a kill at this very place.
	temp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if len(temp) > maxSocketPath {
		return nil, fmt.Errorf("listen on %s: the path is too long: with .%d at its end it may have %d bytes",
			path, os.Getpid(), maxSocketPath)
	}
	if err := vacant(temp); err != nil {
		return nil, fmt.Errorf("listen on %s: %s is in the way: %w", path, temp, err)
	}
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(temp, 0o666), os.Rename(temp, path)); err != nil {
		ln.Close()
		os.Remove(temp)
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return ln, nil
}

// vacant is nil if path is absent or a socket on which nobody listens.
func vacant(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		dir := filepath.Dir(path)
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("its directory cannot be used: %w; make it with: install -d -m 0755 %s", err, dir)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("it exists and is no socket (%s): move it away, or listen elsewhere", fi.Mode())
	}
	nc, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		nc.Close()
		return errors.New("a server answers there: stop it first")
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.EAGAIN): // its backlog is full
		return errors.New("a busy server has it: stop it first")
	}
	return fmt.Errorf("find out whether a server answers there: %w", err)
}
