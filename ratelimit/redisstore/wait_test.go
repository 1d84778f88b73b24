package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
)

// A reply is one to the next request on a connection.
type reply struct {
	after time.Duration // before each part
	parts []string
}

// A badServer takes connections and gives these replies on each, then none; it
// may as well hang up, not read what comes, or not even take the connection.
type badServer struct {
	name    string
	replies []reply
	hangsUp bool
	deaf    bool
	away    bool

	serving sync.WaitGroup
}

const helloUnknown, aMaster = "-ERR unknown command\r\n", "$26\r\nrole:master\r\nrun_id:test\r\n\r\n"

// greeted is what a connection begins with, then more.
func greeted(more ...reply) []reply {
	return append([]reply{{0, []string{helloUnknown}}, {0, []string{aMaster}}}, more...)
}

func (s *badServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if s.away {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ours, theirs := net.Pipe()
	if !s.deaf {
		s.serving.Go(func() { s.serve(theirs) })
	}
	return ours, nil
}

func (s *badServer) serve(c net.Conn) {
	request := make([]byte, 1<<20)
	for i := 0; ; i++ {
		if s.hangsUp && i == len(s.replies) {
			c.Close()
		}
		if _, err := c.Read(request); err != nil {
			return
		}
		if i >= len(s.replies) {
			continue
		}
		for _, part := range s.replies[i].parts {
			time.Sleep(s.replies[i].after)
			c.Write([]byte(part))
		}
	}
}

// Whatever a server does to a connection, a caller is answered within the timeout: all
// that it waits for, one after the other, is under one deadline. The clock of
// the test goes on only while everybody waits, so that the machine has no part in it.
func TestOneDeadlineWhateverAServerDoes(t *testing.T) {
	for _, server := range []*badServer{
		{name: "takes no connection", away: true},
		{name: "reads nothing", deaf: true},
		{name: "says nothing"},
		{name: "hangs up at once", hangsUp: true},
		{name: "hangs up when asked", replies: greeted(), hangsUp: true},
		{name: "greets slowly", replies: []reply{{30 * time.Millisecond, []string{helloUnknown}}, {30 * time.Millisecond, []string{aMaster}}}},
		{name: "greets and says nothing", replies: greeted()},
		{name: "answers late", replies: greeted(reply{200 * time.Millisecond, []string{":1\r\n"}})},
		{name: "drips", replies: greeted(reply{20 * time.Millisecond, []string{"*", "8", "\r", "\n", ":1\r\n"}})},
		{name: "lost the script and is slow", replies: greeted(reply{30 * time.Millisecond, []string{"-NOSCRIPT\r\n"}}, reply{30 * time.Millisecond, []string{"+x\r\n"}})},
	} {
		for _, callers := range []int{1, 200} {
			t.Run(fmt.Sprintf("%s to %d", server.name, callers), func(t *testing.T) {
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) { server.ask(t, dir, callers) })
			})
		}
	}
}

// ask has callers ask one time after the other.
func (s *badServer) ask(t *testing.T, dir string, callers int) {
	own, err := journal.Open(dir, journal.Options{Reporter: &heard{}, Ledger: ratelimit.Options{Keep: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	const timeout = 50 * time.Millisecond
	n, err := Open(Options{URL: "redis://127.0.0.1", Timeout: timeout, Outage: OutageShare, Ledger: own, Reporter: &heard{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.serving.Wait() // all connections are closed then
	defer n.Close()
	l := n.servers.single
	o := *l.client.Options()
	o.Dialer, o.OnConnect = s.dial, l.connected
	l.client.Close()
	l.client = redis.NewClient(&o)
	l.server, l.stage = "test/", complete
	waited := time.Duration(0)
	var mu sync.Mutex
	var running sync.WaitGroup
	for c := range callers {
		running.Go(func() {
			for i := range 5 {
				l.ready.Store(true)
				asked := time.Now()
				_, err := n.Take(t.Context(), asked, take(1+10*c+i, 1, hourly("a.example", 100)))
				if err != nil && !errors.Is(err, ratelimit.ErrUncounted) {
					t.Error(err)
				}
				mu.Lock()
				waited = max(waited, time.Since(asked))
				mu.Unlock()
				time.Sleep(time.Duration(c%7) * time.Millisecond) // so that they are not all at the same point
			}
		})
	}
	running.Wait()
	if waited > timeout {
		t.Errorf("somebody waited %v", waited)
	}
	if !s.hangsUp && waited < timeout/2 {
		t.Errorf("nobody waited for longer than %v: the server was never asked", waited)
	}
	if n.Status().Unmerged == 0 {
		t.Error("nothing was decided alone")
	}
}
