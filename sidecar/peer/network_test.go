package peer

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/sidecar/hosttest"
)

// A network is a network namespace of a test's own.
type network struct{ file *os.File }

func newNetwork(t testing.TB) *network {
	t.Helper()
	hosttest.Root(t)
	hosttest.Program(t, "ip")
	n := new(network)
	onThread(func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		if err != nil {
			t.Errorf("make a network: %v", err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() { n.file.Close() })
	n.ip(t, "link", "set", "lo", "up")
	return n
}

// in calls f in the network, on a thread that ends with it.
func (n *network) in(t testing.TB, f func()) {
	onThread(func() {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Errorf("enter a network: %v", err)
			return
		}
		f()
	})
}

// run runs a program in the network.
func (n *network) run(t testing.TB, name string, args ...string) {
	t.Helper()
	n.in(t, func() {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Errorf("%s %v: %v\n%s", name, args, err, out)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

// ip runs ip(8) in the network.
func (n *network) ip(t testing.TB, args ...string) {
	t.Helper()
	n.run(t, "ip", args...)
}

// onThread calls f on a thread that ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}
