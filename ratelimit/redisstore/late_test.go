package redisstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// A take that Redis runs late, after it was refused here, counts nothing, and
// does not stand in the way of a later attempt.
func TestALateTakeIsTakenBack(t *testing.T) {
	r, domain := redistest.Start(t), hourly("a.example", 100)
	n := startNode(t, Options{URL: r.URL(), Outage: OutageClosed, Timeout: hosttest.Deadline(500 * time.Millisecond)}) // time enough to send it
	if ok, err := insist(n, take(100, 1, hourly("other.example", 10))); !ok || err != nil {                            // now Redis has the script
		t.Fatal(ok, err)
	}
	r.Do("CONFIG", "SET", "slowlog-log-slower-than", 0, "slowlog-max-len", 10000)
	r.Freeze()
	if _, err := n.take(take(1, 1, domain)); !errors.Is(err, ratelimit.ErrUncounted) {
		t.Fatalf("%v", err)
	}
	r.Thaw()
	hosttest.Eventually(t, "run by Redis", func() bool { return wasRun(t, r, "take", "a.example") })
	n.shared()
	hosttest.Eventually(t, "taken back", func() bool { return n.Status().Unmerged == 0 })
	if st := n.Standing(n.time(), "a.example"); len(st.Windows) > 0 && st.Windows[0].Sent != 0 {
		t.Fatalf("%+v", st)
	}
	if ok, err := insist(n, take(1, 1, domain)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if st := n.Standing(n.time(), "a.example"); st.Windows[0].Sent != 1 {
		t.Fatalf("%+v", st)
	}
}

// wasRun reports whether an operation on a subject is in Redis's slow log.
func wasRun(t *testing.T, r *redistest.Server, op, subject string) bool {
	t.Helper()
	c := r.Client()
	defer c.Close()
	entries, err := c.SlowLogGet(context.Background(), -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(entries, func(e redis.SlowLog) bool {
		return slices.Contains(e.Args, op) && slices.Contains(e.Args, subjectKey(subject))
	})
}

// The outbox keeps what a Take was, not what its caller has put into the slices since.
func TestATakeIsKeptNotItsSlices(t *testing.T) {
	r := redistest.Start(t)
	p := redistest.StartProxy(t, r.Addr())
	own, err := journal.Open(t.TempDir(), journal.Options{Reporter: &heard{}})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	n, err := Open(Options{URL: p.URL(), Timeout: hosttest.Deadline(time.Second), Outage: OutageClosed, Node: "a", Nodes: 1, Ledger: own, Reporter: &heard{}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ctx := context.Background()
	if err := n.heartbeat(ctx, n.servers.single); err != nil {
		t.Fatal(err)
	}
	n.Standing(time.Now(), "a.example") // has the script loaded
	p.Lose.Store(1000)                  // Redis runs the take, and its reply is lost
	lent := take(1, 2, hourly("a.example", 10))
	if _, err := n.Take(ctx, time.Now(), lent); !errors.Is(err, ratelimit.ErrUncounted) {
		t.Fatal(err)
	}
	lent.Subjects[0] = hourly("other.example", 10)
	clear(lent.Tokens)
	p.Lose.Store(0)
	if st := n.Standing(time.Now(), "a.example"); st.Partial || len(st.Windows) != 1 || st.Windows[0].Sent != 2 {
		t.Fatalf("not run: %+v", st)
	}
	if !n.merge(ctx) {
		t.Fatal("Redis is not told")
	}
	if st := n.Standing(time.Now(), "a.example"); st.Windows[0].Sent != 0 {
		t.Fatalf("not taken back: %+v", st)
	}
}

// A drop that arrives after a later attempt has charged changes nothing, and an
// attempt that arrives after its drop neither.
func TestAttemptsAndDropsInAnyOrder(t *testing.T) {
	r := redistest.Start(t)
	n := startNode(t, Options{URL: r.URL()})
	l := n.servers.single
	domain := []ratelimit.Subject{hourly("a.example", 10)}
	run := func(c call) any {
		t.Helper()
		v, err := l.do(time.Now().Add(hosttest.Patience()), c)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	first, second := n.terms(n.time(), domain), n.terms(n.time(), domain)
	second.again = true
	one := take(1, 1, domain...)
	for i, order := range []struct {
		calls []call
		want  int64
	}{
		{[]call{takeCall(first, one), dropCall(first, domain, one.Tokens)}, 0},
		{[]call{dropCall(first, domain, one.Tokens), takeCall(first, one)}, 0},
		{[]call{dropCall(first, domain, one.Tokens), takeCall(second, one)}, 1},
		{[]call{dropCall(first, domain, one.Tokens), takeCall(second, one), takeCall(first, one), dropCall(first, domain, one.Tokens)}, 1},
		{[]call{takeCall(first, one), takeCall(second, one), dropCall(first, domain, one.Tokens)}, 1},
		{[]call{takeCall(second, one), dropCall(first, domain, one.Tokens)}, 1},
		{[]call{takeCall(second, one), dropCall(second, domain, one.Tokens)}, 0},
	} {
		r.Do("flushall")
		for _, c := range order.calls {
			run(c)
		}
		st := n.Standing(n.time(), "a.example")
		if got := int64(0); len(st.Windows) > 0 {
			got = st.Windows[0].Sent
			if got != order.want {
				t.Errorf("order %d: %d counted, want %d", i, got, order.want)
			}
		} else if order.want != 0 {
			t.Errorf("order %d: nothing counted", i)
		}
	}
}

// A node accepts its share once: not again when it loses a Redis that has come back
// empty meanwhile, although that reports fewer sends of the others until all have
// replayed.
func TestAShareIsNotHadTwice(t *testing.T) {
	s := newSimulation(t, OutageShare, rand.New(rand.NewPCG(1, 0)))
	domain := hourly("a.example", 21)
	sends := func(node, n int, lost bool) (accepted int) {
		for range n {
			if s.take(node, domain, lost) {
				accepted++
			}
		}
		s.jump(5 * time.Second)
		return accepted
	}
	got := []int{sends(1, 3, false)}
	s.cut(1)
	got = append(got, sends(2, 12, false), sends(0, 10, false), sends(1, 6, false)) // 3 of its share
	s.replace()
	got = append(got, sends(1, 6, true), sends(0, 3, false))
	s.cut(0)
	got = append(got, sends(0, 6, false))
	if want := []int{3, 12, 6, 3, 0, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("%v accepted, want %v", got, want)
	}
}
