package hosttest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// These ports are below those that the kernel assigns to clients and to listeners on port
// 0 (32768 and up on Linux).
const firstPort, lastPort = 20000, 32000

// On these only root may listen. Those from 512 on are the ones that NFS and the like take
// for their clients.
const firstRootPort, lastRootPort = 200, 511

var ports = struct {
	sync.Mutex
	next, nextRoot int
	held           []*os.File // locked until this process ends
}{next: firstPort, nextRoot: firstRootPort}

// FreePort returns a TCP port on which nobody listens. No other call returns it while this
// process runs, in any process.
func FreePort(t testing.TB) int {
	t.Helper()
	return takePort(t, &ports.next, lastPort)
}

// FreeRootPort is FreePort for a port on which only root may listen.
func FreeRootPort(t testing.TB) int {
	t.Helper()
	Root(t)
	return takePort(t, &ports.nextRoot, lastRootPort)
}

// takePort takes a port from *next on.
func takePort(t testing.TB, next *int, last int) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("sluice-test-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for ; *next <= last; *next++ {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(*next)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && free(*next) {
			ports.held = append(ports.held, f)
			*next++
			return *next - 1
		}
		f.Close()
	}
	t.Fatalf("all ports up to %d are taken", last)
	return 0
}

func free(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err == nil {
		l.Close()
	}
	return err == nil
}
