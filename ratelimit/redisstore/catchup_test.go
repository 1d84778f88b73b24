package redisstore

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// never is longer than any test: who waits for so long waits in vain.
const never = 24 * time.Hour

// Three nodes are asked from the moment they start, on a new Redis: nobody has sent anything,
// and 1,000 of 1,000 pass.
func TestExactFromTheStart(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	var next atomic.Int64
	for run := range soak(20, 2) {
		r.Do("flushall")
		nodes := openThree(t, r.URL(), Options{replayWait: never})
		domain := hourly("a.example", 1000)
		if n := drain(t, nodes, 64, &next, domain); n != 1000 {
			t.Errorf("run %d: %d accepted", run, n)
		}
		for _, n := range nodes {
			n.shared()
			if n.Status().Unmerged > 0 || n.heard.has("lost") {
				t.Errorf("run %d: %+v\n%s", run, n.Status(), n.heard)
			}
			n.stop()
		}
	}
}

// A node that starts for the first time does not wait for nodes that are not there yet.
func TestAFirstNodeSharesAtOnce(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	o := Options{URL: r.URL(), Nodes: 3, replayWait: never}
	first := startNode(t, o)
	for i := range 10 {
		if res, err := first.take(take(1+i, 1, hourly("a.example", 10))); err != nil || !res.OK {
			t.Fatalf("send %d of 10: %+v, %v", i+1, res, err)
		}
	}
	startNode(t, o)
}

// Redis comes back empty, and another node, which knows of sends, is away: until it is
// back, a node charges in Redis what its share allows, and nothing is left to be merged.
func TestANodeCatchesUpWithAnEmptyRedis(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		outage  Outage
		passing int
	}{{OutageShare, 10}, {OutageClosed, 0}, {OutageLocal, 34}, {OutageOpen, 50}} {
		t.Run(string(test.outage), func(t *testing.T) {
			t.Parallel()
			r, domain := redistest.Start(t), hourly("a.example", 40)
			o := Options{URL: r.URL(), Nodes: 2, Outage: test.outage, replayWait: never}
			dir := t.TempDir()
			n, other := openNode(t, t.TempDir(), o), openNode(t, dir, o)
			n.shared()
			other.shared()
			n.take(take(1, 6, domain))
			other.take(take(101, 7, domain))
			other.stop()
			r.Kill()
			r.Start()
			hosttest.Eventually(t, "a replay", func() bool {
				return strings.Count(n.heard.String(), "replaced") == 2 && n.servers.single.stageNow() == replayed
			})
			passed := 0
			for i := range 50 {
				res, err := n.take(take(1001+i, 1, domain))
				if err != nil && !errors.Is(err, ratelimit.ErrUncounted) {
					t.Fatal(err)
				}
				if res.OK {
					passed++
				}
			}
			if passed != test.passing || n.Status().Unmerged > 0 {
				t.Errorf("%d passed, want %d; %+v", passed, test.passing, n.Status())
			}
			look, err := n.Look(t.Context(), n.time(), ratelimit.Take{Subjects: []ratelimit.Subject{domain}})
			if test.outage == OutageShare && !errors.Is(err, ratelimit.ErrUncounted) || test.outage == OutageLocal && look.OK {
				t.Errorf("a look: %+v, %v", look, err)
			}
			other = openNode(t, dir, o)
			other.shared()
			n.shared()
			if st := other.Standing(other.time(), domain.Name); st.Windows[0].Sent != int64(13+passed) {
				t.Errorf("%+v, want %d", st, 13+passed)
			}
			var next atomic.Int64
			next.Store(5000)
			if more := drain(t, []*node{n, other}, 4, &next, domain); more != max(0, int64(40-13-passed)) {
				t.Errorf("%d more passed after %d", more, 13+passed)
			}
		})
	}
}

// Somebody empties a Redis that goes on running, while one node is there and another is not.
// Both tell it again what they have accepted: no budget is handed out anew.
func TestANodeCatchesUpWithAFlushedRedis(t *testing.T) {
	t.Parallel()
	r, domain, dir := redistest.Start(t), hourly("a.example", 40), t.TempDir()
	o := Options{URL: r.URL(), Nodes: 2, replayWait: never}
	n, other := openNode(t, t.TempDir(), o), openNode(t, dir, o)
	n.shared()
	other.shared()
	n.take(take(1, 16, domain))
	other.take(take(101, 17, domain))
	for round := range 2 {
		other.stop()
		r.Do("flushall")
		hosttest.EventuallyOr(t, n.heard.String, func() bool {
			return strings.Count(n.heard.String(), "replaced") == 2+round && n.servers.single.stageNow() == replayed
		})
		other = openNode(t, dir, o)
		n.shared()
		other.shared()
	}
	for _, one := range []*node{n, other} {
		if st := one.Standing(one.time(), domain.Name); st.Windows[0].Sent != 33 {
			t.Errorf("%+v, want 33", st)
		}
	}
	var next atomic.Int64
	next.Store(5000)
	if more := drain(t, []*node{n, other}, 4, &next, domain); more != 7 {
		t.Errorf("%d more passed after 33 of 40", more)
	}
}

// Of a long replay some answers come too late, as on a busy machine: what they were about is
// told again, and not all of it.
func TestAReplayOutlivesLateAnswers(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	p := redistest.StartProxy(t, r.Addr())
	p.Set(redistest.Cut)
	n, domain := openNode(t, t.TempDir(), Options{URL: p.URL(), Nodes: 1, Outage: OutageLocal, Timeout: hosttest.Deadline(asShipped)}), hourly("a.example", 1e6)
	const sends, some = 6_000, 500
	for i := range sends / some {
		if _, err := n.take(take(1+some*i, some, domain)); err != nil {
			t.Fatal(err)
		}
	}
	p.Lose.Store(150) // of 1,000: that none of the 94 parts is lost is as likely as one in four million
	p.Set(redistest.Pass)
	hosttest.EventuallyOr(t, func() string { return "told all:\n" + n.heard.String() },
		func() bool { return n.servers.single.stageNow() >= replayed })
	if told := strings.Count(n.heard.String(), "replaced"); told > 10 {
		t.Errorf("all was told %d times anew", told)
	}
	p.Lose.Store(0)
	n.shared()
	if st := n.Standing(n.time(), domain.Name); st.Windows[0].Sent != sends {
		t.Errorf("Redis has %+v, want %d", st, sends)
	}
}
