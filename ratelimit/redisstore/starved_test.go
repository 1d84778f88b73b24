package redisstore

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// ownProcess is the variable that has the Redis of a node that runs in a process of its own,
// and how long a call of it may take.
const ownProcess = "SLUICE_TEST_NODE_OF"

// A process that is stopped again and again for longer than a call may take has no quarrel
// with its Redis: what times out meanwhile is no failure of that. A Redis that is stopped
// is one.
//
//	test ──SIGSTOP, SIGCONT──▶ node ──▶ Redis ◀──SIGSTOP── test
func TestAStarvedProcessStaysShared(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	timeout := min(hosttest.Deadline(250*time.Millisecond), 2*time.Second) // on a busy machine Redis waits for its turn too
	node := exec.Command(os.Args[0], "-test.run=^TestNodeInItsOwnProcess$", "-test.v")
	node.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s", ownProcess, r.URL(), timeout))
	ask, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer node.Wait()
	defer node.Process.Kill()
	answers := bufio.NewScanner(out)
	// status is how many sends the node has made, and what it has told its operator.
	status := func() (sends int, said string) {
		io.WriteString(ask, "\n")
		for answers.Scan() {
			if _, err := fmt.Sscanf(answers.Text(), "sent %d:%q", &sends, &said); err == nil {
				return sends, said
			}
			t.Log(answers.Text())
		}
		t.Fatal("the node has ended")
		return 0, ""
	}
	sent, _ := status()
	for range 2 {
		for range 6 {
			node.Process.Signal(syscall.SIGSTOP)
			time.Sleep(timeout + timeout/4)
			node.Process.Signal(syscall.SIGCONT)
			time.Sleep(2 * time.Millisecond) // time to make a call, or some
		}
		more := sent + 100
		hosttest.Eventually(t, "the node goes on", func() bool { sent, _ = status(); return sent >= more })
	}
	if _, said := status(); strings.Contains(said, "lost") {
		t.Errorf("it says %s", said)
	}
	r.Freeze()
	defer r.Thaw()
	hosttest.Eventually(t, "it misses its Redis", func() bool { _, said := status(); return strings.Contains(said, "lost, share: ") })
}

// It is no test, but the node of the one above.
func TestNodeInItsOwnProcess(t *testing.T) {
	url, timeout, ok := strings.Cut(os.Getenv(ownProcess), " ")
	if !ok {
		t.Skip("only as a process of another test")
	}
	d, err := time.ParseDuration(timeout)
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, Options{URL: url, Timeout: d})
	var next, sent atomic.Int64
	for range 4 {
		go func() {
			for t.Context().Err() == nil {
				n.take(take(int(next.Add(1)), 1, hourly("a.example", 1_000_000)))
				sent.Add(1)
			}
		}()
	}
	asked := bufio.NewScanner(os.Stdin)
	for asked.Scan() {
		fmt.Printf("sent %d:%q\n", sent.Load(), n.heard)
	}
}
