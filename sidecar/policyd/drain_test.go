package policyd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
)

// dial connects to path until the test ends.
func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

func TestDrainAnswersWhatIsInFlight(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln := listenAt(t, path)
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	s := New(askFunc(func(sidecar.Request) sidecar.Reply {
		asked <- struct{}{}
		<-answer
		return sidecar.Reply{}
	}), patient(Options{DrainTimeout: 2 * hosttest.Patience()})) // which ends nothing here
	stop := run(t, s, ln)

	inFlight, mute, begun := dial(t, path), dial(t, path), dial(t, path)
	io.WriteString(begun, question[:10])
	// The second question waits in the socket while the first is being answered.
	io.WriteString(inFlight, question+question)
	<-asked
	hosttest.Eventually(t, "half a request", func() bool {
		n := 0
		s.each(func(c *conn) {
			if p, _ := unmark(c.mark.Load()); p == reading {
				n++
			}
		})
		return n == 1
	})
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()

	mute.SetDeadline(time.Now().Add(hosttest.Patience()))
	if _, err := mute.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("idle connection: %v, want the end before the questions in flight have theirs", err)
	}
	if nc, err := net.Dial("unix", path); err == nil {
		nc.Close()
		t.Error("a stopping server accepts")
	}
	close(answer)
	go func() { <-asked; <-asked }()
	io.WriteString(begun, question[10:])
	for name, nc := range map[string]net.Conn{"two questions": inFlight, "one begun before": begun} {
		nc.SetDeadline(time.Now().Add(hosttest.Patience()))
		got, err := io.ReadAll(nc)
		if want := map[string]int{"two questions": 2, "one begun before": 1}[name]; err != nil ||
			string(got) != strings.Repeat("action=DUNNO\n\n", want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	<-stopped
}

// A question that was written before the stop is answered, even if nobody has
// accepted its connection yet.
func TestDrainAnswersTheBacklog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln := listenAt(t, path)
	var waiting []net.Conn
	for range 50 {
		nc := dial(t, path)
		io.WriteString(nc, question)
		waiting = append(waiting, nc)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(accepting, Options{}).Serve(ctx, ln); err != nil {
		t.Fatal(err)
	}
	for i, nc := range waiting {
		nc.SetDeadline(time.Now().Add(hosttest.Patience()))
		if got, err := io.ReadAll(nc); string(got) != "action=DUNNO\n\n" {
			t.Fatalf("connection %d: %q, %v", i, got, err)
		}
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket file: %v, want it left for a successor", err)
	}
}

func TestDrainEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln := listenAt(t, path)
	var log hosttest.Log
	s := New(hanging{}, patient(Options{DrainTimeout: 50 * time.Millisecond, Events: logTo(&log)}))
	stop := run(t, s, ln)
	nc := dial(t, path)
	io.WriteString(nc, question)
	hosttest.Eventually(t, "question in flight", func() bool {
		n := 0
		s.each(func(c *conn) {
			if p, _ := unmark(c.mark.Load()); p == asking {
				n++
			}
		})
		return n == 1
	})
	stop()
	if s.Open() != 0 || !strings.Contains(log.String(), "stopped with questions unanswered") {
		t.Errorf("%d open, logged %s", s.Open(), &log)
	}
}

// hanging is an Asker that answers only when it is told to stop.
type hanging struct{}

func (hanging) Ask(ctx context.Context, _ time.Time, _ sidecar.Request) sidecar.Reply {
	<-ctx.Done()
	return sidecar.Reply{}
}

// Whatever others do, a question is answered; in the soak, within the client's deadline.
func TestEveryoneElseIsAnswered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	maxConns, each := 150, 60 // attackers of each kind: in all more than may connect
	if hosttest.Soak() {
		maxConns, each = 600, 250
	}
	s := serve(t, path, accepting, Options{MaxConns: maxConns, RequestTimeout: 500 * time.Millisecond})
	hosttest.Eventually(t, "one is answered, and stays", func() bool { // a starved machine may cut off even him
		kept := dial(t, path)
		kept.SetDeadline(time.Now().Add(hosttest.Patience()))
		io.WriteString(kept, question)
		n, err := kept.Read(make([]byte, 100))
		return n > 0 && err == nil
	})

	done := make(chan struct{})
	var attackers sync.WaitGroup
	var attacks atomic.Int64
	attack := func(data string, times int) {
		attackers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				nc, err := net.Dial("unix", path)
				if err != nil {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				nc.SetDeadline(time.Now().Add(2 * time.Second)) // then comes another one
				for i := 0; i < times && err == nil; i++ {
					_, err = io.WriteString(nc, data)
				}
				io.Copy(io.Discard, nc) // until the server has enough
				nc.Close()
				attacks.Add(1)
			}
		})
	}
	for range each {
		attack("", 1)
		attack(question[:12], 1)
		attack(question, 1) // and then idle
		attack("\x00\xff\r\n\n\n", 1)
	}
	attack(strings.Repeat("x", 1<<20), 100) // 100 MB without a newline
	attack("request=sluice\n"+manyAttributes(1_000_000)+"\n", 1)
	attack(strings.Repeat(question, 1000), 10) // answers that nobody reads in time

	// The attack keeps all processors busy. Those that the machine gives to others
	// meanwhile are no fault of the server's: the deadline is for what it has of them.
	// Whoever was shed is answered when he asks again.
	const deadline = 300 * time.Millisecond * slowdown
	c := Client{Path: path, Timeout: hosttest.Patience()}
	longest := time.Duration(0)
	for asked := 0; asked < 40 || attacks.Load() < 1000; asked++ {
		before := processorTime(t)
		hosttest.Eventually(t, fmt.Sprintf("an answer to question %d", asked+1), func() bool {
			_, err := c.Ask(t.Context(), []Field{{"stage", "data"}})
			return err == nil
		})
		longest = max(longest, (processorTime(t)-before)/time.Duration(runtime.GOMAXPROCS(0)))
	}
	hosttest.NotLonger(t, "the longest answer, of all processors,", longest, deadline)
	close(done)
	attackers.Wait()
	if s.Open() > maxConns {
		t.Errorf("%d connections", s.Open())
	}
	t.Logf("%d attacks, the longest answer took %v, %+v", attacks.Load(), longest, s.Counts())
}

// processorTime is how long processors have worked for this process.
func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
