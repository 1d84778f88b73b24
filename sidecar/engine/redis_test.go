package engine_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// noReports is a Reporter that nobody listens to.
type noReports struct{}

func (noReports) RedisLost(string, string, error)     {}
func (noReports) RedisBack(string, time.Duration)     {}
func (noReports) RedisReplaced(string)                {}
func (noReports) RedisReplayed(string, int, int, int) {}
func (noReports) RedisEvicts(string, string)          {}
func (noReports) RedisKeyUnusable(string, error)      {}
func (noReports) RedisValueUnread(string, error)      {}
func (noReports) RedisCrowded(int, int)               {}
func (noReports) RedisNamesake(string)                {}
func (noReports) RedisNamesakeGone(string)            {}

// redisNodes are nodes that share a real Redis, whose scripts go by the clock of the test. What
// nodes tell each other goes by the real time.
type redisNodes struct {
	nodes
	redis  *redistest.Server
	stores [2]*redisstore.Store
	clock  atomic.Pointer[time.Time]
	marks  [2]atomic.Int64 // the last mark that each node has seen of the other
	mark   int64
}

// monday is when the tests of redisNodes begin. It is to come: where the ledger's own time is later
// than the test's, that is the time of all counts, and the test's evenings are at its midnight.
var monday = time.Date(2100, 3, 1, 9, 0, 0, 0, time.UTC)

func newRedisNodes(t *testing.T, config string) *redisNodes {
	r := redistest.Start(t)
	n := &redisNodes{redis: r}
	start := monday
	n.clock.Store(&start)
	for i := range n.nodes {
		own, err := journal.Open(t.TempDir(), journal.Options{Ledger: ratelimit.Options{Keep: time.Hour}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { own.Close() })
		name := fmt.Sprintf("node%d", i+1)
		if n.stores[i], err = redisstore.Open(redisstore.Options{URL: r.URL(), Timeout: hosttest.Deadline(5 * time.Second), Outage: redisstore.OutageClosed,
			Node: name, Nodes: 2, Ledger: own, Reporter: noReports{}, RedisTime: func() time.Time { return *n.clock.Load() }}); err != nil {
			t.Fatal(err)
		}
		s := &site{t: t, board: n.stores[i], shared: n.stores[i], name: name, config: parsed(t, config), ledger: t.TempDir(), dir: t.TempDir(), now: start}
		s.open()
		t.Cleanup(func() { s.store.Close() })
		n.nodes[i] = s
	}
	for i, store := range n.stores {
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { store.Run(ctx) })
		t.Cleanup(func() { stop(); running.Wait(); store.Close() })
		store.Watch(fmt.Sprintf("mark/%d", 1-i), func(_ string, value []byte) {
			var mark int64
			fmt.Sscan(string(value), &mark)
			n.marks[i].Store(mark)
		})
	}
	for _, store := range n.stores {
		hosttest.Eventually(t, "Redis decides", func() bool { return store.Status().Mode == "shared" })
	}
	return n
}

// minute has a minute go by, after which each node has all that the other has told until then.
func (n *redisNodes) minute() {
	n.pass(time.Minute)
	n.at(n.nodes[0].now)
	n.mark++
	for i, store := range n.stores {
		store.Tell(fmt.Sprintf("mark/%d", i), fmt.Append(nil, n.mark), time.Hour)
	}
	for i := range n.marks {
		hosttest.Eventually(n.nodes[0].t, "the other node's mark", func() bool { return n.marks[i].Load() == n.mark })
	}
}

// The same week on a real Redis: each hour that is usual is told and counted there, and of the
// stolen mailbox's 30 messages a minute, over both nodes, none is at its colleagues' expense.
func TestAStolenMailboxOnTwoNodesOfOneRedis(t *testing.T) {
	n := newRedisNodes(t, "[limits]\nhourly = 100\n")
	b := newBranches(n.nodes, 100)
	people := append([]rate{{"eve", 4}}, colleagues...)
	for day := range 6 {
		n.at(monday.AddDate(0, 0, day))
		b.run(n.minute, 61, people...)
	}
	n.at(monday.AddDate(0, 0, 6))
	b.run(n.minute, 61, people...)
	if refused := b.refusedOf(people...); refused > 0 {
		t.Fatalf("%d are refused before", refused)
	}
	b.run(n.minute, 2*60, append([]rate{{"eve", 30 * 60}}, colleagues...)...)
	b.onlyEve(t)
	for i, store := range n.stores {
		st := store.Standing(n.nodes[i].now, "a.example")
		if status := store.Status(); st.Partial || len(st.Windows) != 1 || st.Windows[0].Sent < int64(len(b.accepted)) || status.Mode != "shared" || status.Unmerged > 0 {
			t.Errorf("node%d has %+v of %d accepted, and %+v", i+1, st, len(b.accepted), status)
		}
	}
}

// at has the clock of all at a time.
func (n *redisNodes) at(now time.Time) {
	n.setNow(now)
	n.clock.Store(&now)
}
