package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/redisstore/redistest"
)

// A scene is two nodes, each behind a proxy of its own, and a Redis with a
// replica.
type scene struct {
	t       testing.TB
	redis   *redistest.Server
	replica *redistest.Server
	proxies []*redistest.Proxy
	nodes   []*node
	domain  ratelimit.Subject
	next    atomic.Int64

	mu    sync.Mutex
	waits []time.Duration // of all calls
}

func newScene(t testing.TB, outage Outage) *scene {
	s := &scene{t: t, redis: redistest.Start(t), domain: daily(hourly("a.example", 100), 300)}
	for i := range 2 {
		p := redistest.StartProxy(t, s.redis.Addr())
		s.proxies = append(s.proxies, p)
		s.nodes = append(s.nodes, openNode(t, t.TempDir(), Options{URL: p.URL(), Outage: outage, Nodes: 2, Node: fmt.Sprintf("node%d", i)}))
	}
	for _, n := range s.nodes {
		n.shared()
	}
	return s
}

// send has a node asked for so many sends by several clients, each once.
func (s *scene) send(n *node, sends int) (accepted int64) {
	var ok, left atomic.Int64
	left.Store(int64(sends))
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for left.Add(-1) >= 0 {
				token := tokens(int(s.next.Add(1)), 1)
				start := time.Now()
				r, err := n.take(ratelimit.Take{Subjects: []ratelimit.Subject{s.domain}, Tokens: token, Marks: token})
				s.mu.Lock()
				s.waits = append(s.waits, time.Since(start))
				s.mu.Unlock()
				if err != nil && !errors.Is(err, ErrUncounted) {
					s.t.Error(err)
				}
				if err == nil && r.OK {
					ok.Add(1)
				}
			}
		})
	}
	running.Wait()
	return ok.Load()
}

// late is the time under which 99.9 of 100 calls were answered.
func (s *scene) late() time.Duration {
	slices.Sort(s.waits)
	return s.waits[len(s.waits)*999/1000]
}

func (s *scene) both(mode int32) func() {
	for _, p := range s.proxies {
		p.Set(mode)
	}
	return func() {
		for _, p := range s.proxies {
			p.Set(redistest.Pass)
		}
	}
}

// settle waits until nothing is owed and all know what is used.
func (s *scene) settle() {
	s.t.Helper()
	for _, n := range s.nodes {
		n.shared()
		redistest.Eventually(s.t, "merged", func() bool { return n.Status().Unmerged == 0 })
	}
	key := sightKey{"a.example", time.Hour}
	redistest.Eventually(s.t, "the feed", func() bool {
		return s.nodes[0].sights.used(key.subject, key.window) == s.nodes[1].sights.used(key.subject, key.window)
	})
}

// oversleep is how late this machine wakes a sleeper now, at worst.
func oversleep(t testing.TB) (worst time.Duration) {
	for range 20 {
		start := time.Now()
		<-time.After(5 * time.Millisecond)
		worst = max(worst, time.Since(start)-5*time.Millisecond)
	}
	return worst
}

// While the breaker is open, no call waits at all.
func TestNoCallWaitsWhileRedisIsKnownToBeGone(t *testing.T) {
	s := newScene(t, OutageShare)
	s.both(redistest.Stall)
	s.send(s.nodes[0], 10)
	s.nodes[0].alone()
	s.waits = nil
	s.send(s.nodes[0], 2000)
	if late := s.late(); late > 20*time.Millisecond+oversleep(t) {
		t.Fatalf("99.9 of 100 calls within %v", late)
	}
	s.both(redistest.Pass)
	s.settle()
}

// A take that Redis runs late, after it was refused here, counts nothing, and
// does not stand in the way of a later attempt.
func TestALateTakeIsTakenBack(t *testing.T) {
	s := newScene(t, OutageClosed)
	n := s.nodes[0]
	s.redis.Freeze()
	if _, err := n.take(take(1, 1, s.domain)); !errors.Is(err, ErrUncounted) {
		t.Fatalf("%v", err)
	}
	s.redis.Thaw()
	s.settle()
	if st := n.Standing(n.time(), "a.example"); len(st.Windows) > 0 && st.Windows[0].Sent != 0 {
		t.Fatalf("%+v", st)
	}
	if ok, err := insist(n, take(1, 1, s.domain)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if st := n.Standing(n.time(), "a.example"); st.Windows[0].Sent != 1 {
		t.Fatalf("%+v", st)
	}
}

// A drop that arrives after a later attempt has charged changes nothing, and an
// attempt that arrives after its drop neither.
func TestAttemptsAndDropsInAnyOrder(t *testing.T) {
	r := redistest.Start(t)
	n := startNode(t, Options{URL: r.URL()})
	l := n.servers.one
	domain := []ratelimit.Subject{hourly("a.example", 10)}
	run := func(c call) any {
		t.Helper()
		v, err := l.do(context.Background(), c)
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
