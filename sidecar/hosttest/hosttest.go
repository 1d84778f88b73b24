// Package hosttest has what the tests of several packages need of a host: ports, waits
// with deadlines, programs, an SMTP client, and a mail server to deliver to. It owns the
// ports that it has given out, and what it has measured of the machine's speed. It asks the
// environment whether this is CI or the soak. It tells a test what to skip, and how long to
// wait.
package hosttest

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Lateness measures how late this machine wakes a sleeper, at worst, until the test ends:
// if the machine is busy with other work, a late answer is no fault of whoever is tested.
func Lateness(t testing.TB) (worst func() time.Duration) {
	const nap = 5 * time.Millisecond
	var late atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			start := time.Now()
			select {
			case <-stop:
				return
			case <-time.After(nap):
				late.Store(max(late.Load(), int64(time.Since(start)-nap)))
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
	return func() time.Duration { return time.Duration(late.Load()) }
}

// Missing skips a test because something is missing. With CI=true it fails the test.
func Missing(t testing.TB, what any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// Program finds a program; without it the test is skipped as by Missing. With go test
// -short no program is run.
func Program(t testing.TB, name string) string {
	t.Helper()
	NotShort(t)
	os.Getenv("SLUICE_TEST_PROGRAMS") // so go test runs the test again with other versions
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, err)
	}
	return path
}

// Root skips a test as by Missing unless it runs as root.
func Root(t testing.TB) {
	t.Helper()
	NotShort(t)
	Tree()
	if os.Getuid() != 0 {
		Missing(t, "only root can do this")
	}
}

// Tree has go test run a test again when any file of this tree has changed, for tests
// whose programs read such files. make puts a checksum of them into SLUICE_TEST_TREE.
func Tree() { os.Getenv("SLUICE_TEST_TREE") }

// NotShort skips a test that needs root or starts programs if go test runs with -short, as
// in make check.
func NotShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs root or starts programs")
	}
}

// A Log can be read by a test while others write it.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
