package listen

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

// maxSocketPath is the longest path in bytes that fits into sun_path with its NUL
// (unix(7)).
const maxSocketPath = 107

// Unix makes a unix socket at path, to which permit lets those connect who may: it is given
// the path of the socket before anybody can find it. Unix replaces a socket on which nobody
// listens any more, as kill -9 leaves one. If somebody does, or if path is no socket, it fails.
//
// It binds the socket to another name and renames it, so that path is never absent where
// there was a socket before, and never lets in whom it should not. Closing the listener
// leaves the file: a connect is then refused, which for clients is as good as absent, while
// removing the file could remove a successor's. Two servers must not be started in the same
// instant; the caller sees to that.
func Unix(path string, permit func(path string) error) (*net.UnixListener, error) {
	ln, err := bind(path, permit)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return ln, nil
}

func bind(path string, permit func(path string) error) (*net.UnixListener, error) {
	if err := checkVacant(path); err != nil {
		return nil, err
	}
	// The process id keeps those apart that start at the same time. In a container the
	// same one may have been killed in this very place.
	temp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if len(temp) > maxSocketPath {
		return nil, fmt.Errorf("the path is too long: with .%d at its end it may have %d bytes", os.Getpid(), maxSocketPath)
	}
	if err := checkVacant(temp); err != nil {
		return nil, fmt.Errorf("%s is in the way: %w", temp, err)
	}
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	if err := errors.Join(permit(temp), os.Rename(temp, path)); err != nil {
		ln.Close()
		os.Remove(temp)
		return nil, err
	}
	return ln, nil
}

// checkVacant returns nil if path is absent or is a socket on which nobody listens.
func checkVacant(path string) error {
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
		return errors.New("a server answers there; is sluice running already? Stop it first, or listen elsewhere")
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.EAGAIN): // its backlog is full
		return errors.New("a busy server has it; is sluice running already? Stop it first, or listen elsewhere")
	}
	return fmt.Errorf("find out whether a server answers there: %w", err)
}
