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

var ports struct {
	sync.Mutex
	next int
	held []*os.File // locked until this process ends
}

// FreePort returns a TCP port on which nobody listens. No other call returns it while this
// process runs, in any process.
func FreePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("sluice-test-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if ports.next == 0 {
		ports.next = firstPort
	}
	for ; ports.next <= lastPort; ports.next++ {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(ports.next)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && free(ports.next) {
			ports.held = append(ports.held, f)
			ports.next++
			return ports.next - 1
		}
		f.Close()
	}
	t.Fatalf("all ports from %d to %d are taken", firstPort, lastPort)
	return 0
}

func free(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err == nil {
		l.Close()
	}
	return err == nil
}
