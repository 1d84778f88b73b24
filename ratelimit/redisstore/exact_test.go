package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// soak is a in a soak, else b.
func soak(a, b int) int {
	if hosttest.Soak() {
		return a
	}
	return b
}

// drain has callers at each node send one by one until they are refused, and
// returns how many sends were accepted. A send that is neither accepted nor refused is
// tried again with the same token, as Exim does.
func drain(t *testing.T, nodes []*node, callers int, next *atomic.Int64, subjects ...ratelimit.Subject) int64 {
	t.Helper()
	var accepted atomic.Int64
	var running sync.WaitGroup
	for _, n := range nodes {
		for range callers {
			running.Go(func() {
				for {
					token := tokens(int(next.Add(1)), 1)
					ok, err := insist(n, ratelimit.Take{Subjects: subjects, Tokens: token, Marks: token})
					if err != nil {
						t.Error(err)
					}
					if !ok {
						return
					}
					accepted.Add(1)
				}
			})
		}
	}
	running.Wait()
	return accepted.Load()
}

// insist asks until the send is accepted or refused.
func insist(n *node, t ratelimit.Take) (bool, error) {
	for deadline := time.Now().Add(hosttest.Patience()); ; {
		r, err := n.take(t)
		if err == nil {
			return r.OK, nil
		}
		if !errors.Is(err, ratelimit.ErrUncounted) || time.Now().After(deadline) {
			return false, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// three starts three nodes whose clocks are minutes apart.
func three(t *testing.T, url string, o Options) []*node {
	t.Helper()
	nodes := openThree(t, url, o)
	for _, n := range nodes {
		n.shared()
	}
	return nodes
}

// openThree starts them without waiting for them to work with Redis.
func openThree(t *testing.T, url string, o Options) (nodes []*node) {
	t.Helper()
	o.URL, o.Nodes = url, 3
	for i, offset := range []time.Duration{0, -4 * time.Minute, 7 * time.Minute} {
		o.Node = fmt.Sprintf("node%d", i)
		n := openNode(t, t.TempDir(), o)
		n.offset = offset
		nodes = append(nodes, n)
	}
	return nodes
}

// Three nodes with 64 clients each, one domain, a limit of 1,000: 1,000 pass.
func TestExactOverThreeNodes(t *testing.T) {
	r := redistest.Start(t)
	nodes := three(t, r.URL(), Options{})
	var next atomic.Int64
	for run := range soak(30, 2) {
		domain := daily(hourly(fmt.Sprintf("d%d.example", run), 1000), 1500)
		if n := drain(t, nodes, 64, &next, domain, hourly("account:bob", 0)); n != 1000 {
			t.Fatalf("run %d: %d accepted", run, n)
		}
		if st := nodes[1].Standing(nodes[1].time(), domain.Name); st.Windows[0].Sent != 1000 || st.Refused != 3*64 {
			t.Fatalf("run %d: %+v", run, st)
		}
	}
}

// A tenth of all replies is lost: exactly the accepted sends are counted.
func TestExactWithLostReplies(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	p := redistest.StartProxy(t, r.Addr())
	n := startNode(t, Options{URL: p.URL(), Timeout: hosttest.Deadline(asShipped)})
	const domains = 10
	total := soak(100_000, 4_000)
	p.Lose.Store(100)
	var next atomic.Int64
	var accepted, uncounted [domains]atomic.Int64
	var running sync.WaitGroup
	for range 64 {
		running.Go(func() {
			for i := int(next.Add(1)); i <= total; i = int(next.Add(1)) {
				d := i % domains
				// For some domains the share is too small: they get ratelimit.ErrUncounted, and half of them try again.
				domain := hourly(fmt.Sprintf("d%d.example", d), int64(total/domains*(1+d%2)))
				one := take(i, 1, domain)
				res, err := n.take(one)
				if err != nil && i%4 < 2 {
					var ok bool
					if ok, err = insist(n, one); err == nil {
						res.OK = ok
					}
				}
				switch {
				case err != nil:
					uncounted[d].Add(1)
				case res.OK:
					accepted[d].Add(1)
				}
			}
		})
	}
	running.Wait()
	p.Lose.Store(0)
	n.shared()
	hosttest.Eventually(t, "merged", func() bool { return n.Status().Unmerged == 0 })
	for d := range domains {
		st := n.Standing(n.time(), fmt.Sprintf("d%d.example", d))
		if len(st.Windows) != 1 || st.Windows[0].Sent != accepted[d].Load() {
			t.Errorf("domain %d: %d accepted, %d told to come again, %+v counted", d, accepted[d].Load(), uncounted[d].Load(), st.Windows)
		}
	}
	t.Logf("accepted %d, told to come again %d", sum(accepted[:]), sum(uncounted[:]))
}

func sum(all []atomic.Int64) (n int64) {
	for i := range all {
		n += all[i].Load()
	}
	return n
}

// Scripts are loaded again wherever they are missing, in pipelines too.
func TestScriptsSurviveAFlush(t *testing.T) {
	r := redistest.Start(t)
	n := startNode(t, Options{URL: r.URL()})
	var running sync.WaitGroup
	for c := range 64 {
		running.Go(func() {
			for i := range 20 {
				if res, err := n.take(take(1+c*100+i, 1, hourly("a.example", 0))); err != nil || !res.OK {
					t.Errorf("%+v, %v", res, err)
				}
				if c == 0 {
					r.Do("script", "flush")
				}
			}
		})
	}
	running.Wait()
	if st := n.Standing(n.time(), "a.example"); st.Windows[0].Sent != 64*20 || n.heard.has("lost") {
		t.Fatalf("%+v\n%s", st, n.heard)
	}
}

// A rolling restart of all nodes with 4 of 10 used: exactly 6 more pass.
func TestExactAfterARollingRestart(t *testing.T) {
	r := redistest.Start(t)
	dirs := []string{t.TempDir(), t.TempDir()}
	o := Options{URL: r.URL(), Nodes: 2}
	var nodes []*node
	for _, dir := range dirs {
		nodes = append(nodes, openNode(t, dir, o))
	}
	for _, n := range nodes {
		n.shared()
	}
	domain := hourly("a.example", 10)
	for i := range 4 {
		nodes[i%2].take(take(1+i, 1, domain))
	}
	for i, dir := range dirs {
		nodes[i].stop()
		nodes[i] = openNode(t, dir, o)
		nodes[i].shared()
		if nodes[i].heard.has("replaced") {
			t.Fatalf("a server that was told is told again:\n%s", nodes[i].heard)
		}
	}
	var next atomic.Int64
	next.Store(100)
	if n := drain(t, nodes, 8, &next, domain); n != 6 {
		t.Fatalf("%d more passed", n)
	}
	if res, err := nodes[0].take(take(1, 1, domain)); err != nil || !res.OK || res.Charged != 0 {
		t.Fatalf("a send of before the restart: %+v, %v", res, err)
	}
}

// All nodes see the resets and outcomes of one.
func TestOutcomesAndResetsAreShared(t *testing.T) {
	r := redistest.Start(t)
	nodes := three(t, r.URL(), Options{})
	ctx := context.Background()
	domain := hourly("a.example", 10)
	for i, n := range nodes {
		n.take(take(1+10*i, 2, domain))
		report := []ratelimit.Report{{Token: ratelimit.Token(1 + 10*i), Outcome: ratelimit.Failed}}
		if err := n.Settle(ctx, n.time(), report); err != nil || !report[0].Moved {
			t.Fatalf("%+v, %v", report, err)
		}
	}
	st := nodes[2].Standing(nodes[2].time(), "a.example")
	if c := st.Windows[0].Counts; c.Sent != 6 || c.Failed != 3 {
		t.Fatalf("%+v", st)
	}
	epoch, err := nodes[0].Reset(ctx, nodes[0].time(), "a.example", st.Epoch)
	if err != nil || epoch == 0 {
		t.Fatal(epoch, err)
	}
	nodes[1].take(take(100, 1, domain))
	if again, err := nodes[2].Reset(ctx, nodes[2].time(), "a.example", st.Epoch); err != nil || again != epoch {
		t.Fatalf("a stale hand moved the epoch from %d to %d, %v", epoch, again, err)
	}
	if st := nodes[2].Standing(nodes[2].time(), "a.example"); st.Epoch != epoch || st.Windows[0].Sent != 1 {
		t.Fatalf("%+v", st)
	}
}

// A restart after a reset loses nothing: neither on the node that made it nor
// on another one, however early somebody asks without a time.
func TestARestartAfterAResetKeepsWhatWasSentSince(t *testing.T) {
	r := redistest.Start(t)
	o := Options{URL: r.URL(), Nodes: 2}
	dirs := []string{t.TempDir(), t.TempDir()}
	var nodes []*node
	open := func() {
		nodes = nil
		for i, dir := range dirs {
			o.Node = fmt.Sprintf("node%d", i)
			n := openNode(t, dir, o)
			n.Look(context.Background(), time.Time{}, ratelimit.Take{})
			nodes = append(nodes, n)
		}
		for _, n := range nodes {
			n.shared()
		}
	}
	open()
	domain := hourly("a.example", 40)
	for i, n := range nodes {
		before := take(1+10*i, 3, domain)
		before.Age = time.Second // ages are exact to some milliseconds
		n.take(before)
	}
	if _, err := nodes[0].Reset(context.Background(), nodes[0].time(), "a.example", -1); err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, "the reset in the other ledger", func() bool {
		return nodes[1].own.Standing(nodes[1].time(), "a.example").Epoch > 0
	})
	nodes[0].take(take(21, 5, domain))
	nodes[1].take(take(31, 5, domain))
	for range 2 {
		for _, n := range nodes {
			n.stop()
		}
		open()
		for i, n := range nodes {
			if st := n.Standing(n.time(), "a.example"); len(st.Windows) == 0 || st.Windows[0].Sent != 10 {
				t.Fatalf("node %d: %+v\n%s", i, st, n.heard)
			}
		}
		r.Kill() // then they replay it to an empty one
		r.Start()
	}
}
