// Package hosttest has what several packages' tests need of a host: ports, waits,
// programs, an SMTP client, and a mail server for it to reach.
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

// Lateness finds out how late this machine wakes a sleeper, at the worst, until
// the test ends: a machine that is busy with others is no fault of who answers late.
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

// Missing skips a test for want of something, and fails it where CI is true.
func Missing(t testing.TB, what any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// Program finds a program; without it the test is skipped as by Missing. With go test
// -short nothing is run.
func Program(t testing.TB, name string) string {
	t.Helper()
	NotShort(t)
	os.Getenv("SLUICE_TEST_PROGRAMS") // has go test run it again with other versions
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, err)
	}
	return path
}

// Root skips a test as by Missing unless root runs it.
func Root(t testing.TB) {
	t.Helper()
	NotShort(t)
	Tree()
	if os.Getuid() != 0 {
		Missing(t, "only root can do this")
	}
}

// Tree has go test run a test again when any file of this tree has changed: for tests
// that have other programs read them. make says in SLUICE_TEST_TREE what they are.
func Tree() { os.Getenv("SLUICE_TEST_TREE") }

// NotShort skips a test that needs root or starts programs where go test is -short, as
// in make check.
func NotShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs root or starts programs")
	}
}

// A Log is read by a test while others write it.
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
