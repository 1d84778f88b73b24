package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/policyd"
)

// Hard conditions, with the real binary:
//
//	10,000 clients that say nothing, or one byte after the other ─→ sluice
//	others ─→ sluice: answered; in the soak, within Exim's deadline

// A hardNode is a sluice with a ceiling of open files.
type hardNode struct {
	socket string
	log    *hosttest.Log
}

func startHard(t *testing.T, openFiles int) *hardNode {
	t.Helper()
	binary := buildSluice(t)
	dir := t.TempDir()
	writeFile(t, dir+"/sluice.toml", strings.Replace(serveConfig(dir), "hourly = 10", "hourly = 0", 1))
	n := &hardNode{dir + "/run/policy.sock", &hosttest.Log{}}
	cmd := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, openFiles), "sh", binary, "serve", "--config", dir+"/sluice.toml")
	cmd.Stderr = n.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := hosttest.Guard(t, cmd.Process)
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()
		end()
		if err != nil {
			t.Errorf("sluice: %v\n%s", err, n.log)
		}
	})
	hosttest.Eventually(t, "serving", func() bool { return strings.Contains(n.log.String(), "msg=serving") })
	return n
}

// crowd connects clients that ask nothing; every other one drips a byte of a
// question each 100 ms.
func (n *hardNode) crowd(t *testing.T, clients int) {
	t.Helper()
	var all []net.Conn
	ctx, stop := context.WithCancel(context.Background())
	var drips sync.WaitGroup
	t.Cleanup(func() {
		stop()
		drips.Wait()
		for _, c := range all {
			c.Close()
		}
	})
	for range clients {
		c, err := net.DialTimeout("unix", n.socket, time.Second)
		if err != nil {
			continue // the backlog is full: just what is to be tried
		}
		all = append(all, c)
	}
	drips.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			for j := 0; j < len(all); j += 2 {
				all[j].SetWriteDeadline(time.Now().Add(time.Millisecond))
				all[j].Write([]byte{"request=sluice\n"[i%15]})
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
}

// answers asks for a while and wants an answer to each question; in the soak,
// nineteen of twenty in time: a busy machine is slow now and then by itself.
func (n *hardNode) answers(t *testing.T, limit time.Duration) {
	t.Helper()
	var took []time.Duration
	for i := range 200 {
		start := time.Now()
		c := policyd.Client{Path: n.socket, Timeout: hosttest.Patience()}
		reply, err := c.Ask(t.Context(), []policyd.Field{
			{Name: "stage", Value: "data"}, {Name: "id", Value: fmt.Sprint(i)}, {Name: "auth", Value: "u@a.example"},
			{Name: "client_address", Value: "192.0.2.1"}, {Name: "recipients", Value: "x@far.example"},
		})
		if err != nil || !strings.HasPrefix(reply, "action=DUNNO") {
			t.Fatalf("question %d: %q, %v\n%s", i, reply, err, n.log)
		}
		took = append(took, time.Since(start))
		time.Sleep(5 * time.Millisecond) // spread over the time in which the crowd is at work
	}
	slices.Sort(took)
	most, slowest := took[len(took)*95/100], took[len(took)-1]
	hosttest.NotLonger(t, "nineteen of twenty answers", most, limit)
	t.Logf("of 200 answers 95%% took at most %v, and the slowest %v", most, slowest)
}

func (n *hardNode) told(t *testing.T, what string) {
	t.Helper()
	hosttest.Eventually(t, "the operator is told: "+what, func() bool { return strings.Contains(n.log.String(), what) })
}

func TestTenThousandIdleAndDrippingClients(t *testing.T) {
	if lim := openFiles(t); lim < 10_500 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("this process may open %d files only", lim)
		}
		t.Skipf("this process may open %d files only", lim)
	}
	n := startHard(t, 20_000)
	n.crowd(t, 10_000)
	n.answers(t, 300*time.Millisecond)
	n.told(t, "too slow")
}

// Whoever comes behind the crowd waits until its connections, of which too few
// can be accepted at a time, have been given up one after the other.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	n := startHard(t, 64)
	n.crowd(t, 300)
	n.answers(t, 4*time.Second)
	n.told(t, "too many open files")
}

// openFiles is how many files this process may open; in CI it has to be enough.
func openFiles(t *testing.T) uint64 {
	t.Helper()
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("CI") == "true" && lim.Cur < 10_500 {
		t.Fatalf("this process may open %d files only", lim.Cur)
	}
	return lim.Cur
}
