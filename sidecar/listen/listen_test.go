package listen

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func anybody(string) error { return nil }

// listen listens at path until the test ends.
func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	ln, err := Unix(path, anybody)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func TestUnixLeavesOnlyTheSocket(t *testing.T) {
	dir := t.TempDir()
	listen(t, filepath.Join(dir, "s"))
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left in the directory: %v", left)
	}
}

// A server killed with -9 leaves its socket file.
func TestUnixReplacesDeadSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listen(t, path).Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("closing removed the file: %v", err)
	}
	listen(t, path)
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

func TestUnixRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	live := filepath.Join(dir, "live")
	listen(t, live)
	busy := filepath.Join(dir, "busy")
	fillBacklog(t, busy)
	for path, want := range map[string]string{
		file:                                 "is no socket",
		link:                                 "is no socket",
		dir:                                  "is no socket",
		live:                                 "a server answers there; is sluice running already?",
		busy:                                 "a busy server has it; is sluice running already?",
		filepath.Join(dir, "absent/s"):       "install -d -m 0755 " + filepath.Join(dir, "absent"),
		filepath.Join(dir, "file/s"):         "not a directory",
		"/tmp/" + strings.Repeat("long", 30): "too long",
		filepath.Join(dir, strings.Repeat("x", 107-len(dir)-1)): "too long",
	} {
		if ln, err := Unix(path, anybody); err == nil {
			ln.Close()
			t.Errorf("%s: no error", path)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", path, err, want)
		}
	}
	if b, err := os.ReadFile(file); string(b) != "keep" || err != nil {
		t.Errorf("the file in the way is now %q, %v", b, err)
	}
}

// fillBacklog listens at path with room for one connection, which nobody accepts.
func fillBacklog(t *testing.T, path string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
}

// While a server is replaced, Exim must never find the path absent.
func TestUnixLeavesNoGap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listen(t, path).Close()
	done := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := os.Lstat(path); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 200 {
		listen(t, path).Close()
	}
	close(done)
	looking.Wait()
}
