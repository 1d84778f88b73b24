package eximconfig_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/sidecar/hosttest"
)

// A netns is a network of a test's own. It has no name, and is gone with the
// last process and file that belong to it: nothing is left of a test that failed
// or was killed.
type netns struct{ file *os.File }

func newNetns(t testing.TB) *netns {
	t.Helper()
	hosttest.Program(t, "ip")
	hosttest.Root(t)
	n := &netns{}
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	})
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { n.file.Close() })
	n.ip(t, "link", "set", "lo", "up")
	return n
}

// onThread calls f on a thread that ends with it, whatever f does to the thread.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := fmt.Errorf("the test has failed")
		defer func() { done <- err }() // also where f fails the test, which ends this goroutine only
		err = f()
	}()
	return <-done
}

// in calls f in the namespace: what it connects, listens on and starts stays there.
func (n *netns) in(t testing.TB, f func()) {
	t.Helper()
	err := onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		f()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ip runs ip(8) in the namespace.
func (n *netns) ip(t testing.TB, args ...string) {
	t.Helper()
	n.in(t, func() {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	})
}

// A port is one end of a link.
type port struct {
	net        *netns
	name, addr string
}

// link connects two namespaces, as a cable does.
func link(t testing.TB, a, b port) {
	t.Helper()
	a.net.ip(t, "link", "add", a.name, "type", "veth", "peer", "name", b.name, "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), b.net.file.Fd()))
	for _, p := range []port{a, b} {
		p.net.ip(t, "addr", "add", p.addr+"/30", "dev", p.name)
		p.net.ip(t, "link", "set", p.name, "up")
	}
}
