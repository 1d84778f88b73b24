package redisstore

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// On a Redis Cluster the subjects of a send lie on several masters: none of
// them ever goes over its limit, and what is refused is counted nowhere.
func TestExactOnACluster(t *testing.T) {
	t.Parallel()
	for masters := 1; masters <= 3; masters++ {
		if masters == 2 && !hosttest.Soak() {
			continue // finds nothing that 1 and 3 do not
		}
		t.Run(fmt.Sprint(masters), func(t *testing.T) { exactOnACluster(t, masters) })
	}
}

func exactOnACluster(t *testing.T, masters int) {
	url, servers := redistest.StartCluster(t, masters)
	nodes := three(t, url, Options{})
	var next atomic.Int64
	account := hourly("account:bob", 300)
	accepted := int64(0)
	for i := range 8 {
		domain := hourly(fmt.Sprintf("d%d.example", i), 50)
		accepted += drain(t, nodes, 8, &next, domain, hourly("news@"+domain.Name, 45), account)
	}
	// Who is taken back stands in the way for a round trip, so that a concurrent
	// send may be refused: the last ones are tried again by one.
	for i := range 8 {
		domain := hourly(fmt.Sprintf("d%d.example", i), 50)
		hosttest.Eventually(t, "taken back", func() bool {
			return nodes[0].Status().Unmerged+nodes[1].Status().Unmerged+nodes[2].Status().Unmerged == 0
		})
		accepted += drain(t, nodes[:1], 1, &next, domain, hourly("news@"+domain.Name, 45), account)
	}
	for _, n := range nodes {
		hosttest.Eventually(t, "merged", func() bool { return n.Status().Unmerged == 0 })
	}
	sum := int64(0)
	for i := range 8 {
		st := nodes[0].Standing(nodes[0].time(), fmt.Sprintf("d%d.example", i))
		for _, w := range st.Windows { // of the last ones nothing was accepted
			if sum += w.Sent; w.Sent > 45 {
				t.Errorf("%+v", st)
			}
		}
	}
	st := nodes[1].Standing(nodes[1].time(), "account:bob")
	if accepted != 300 || sum != 300 || st.Windows[0].Sent != 300 {
		t.Errorf("accepted %d, domains count %d, the account %+v", accepted, sum, st)
	}
	keys := 0
	for _, s := range servers {
		if s.Do("dbsize").(int64) > 2 {
			keys++
		}
	}
	if keys != masters {
		t.Errorf("only %d of %d masters hold counts", keys, masters)
	}
}

// Outcomes, resets and the board on a Cluster; then one master is lost, and
// comes back empty.
func TestAClusterLosesAMaster(t *testing.T) {
	t.Parallel()
	url, servers := redistest.StartCluster(t, 3)
	nodes := three(t, url, Options{Timeout: hosttest.Deadline(200 * time.Millisecond)})
	ctx := context.Background()
	domains := map[string]int64{}
	for i := range 30 {
		name := fmt.Sprintf("d%d.example", i)
		for k, n := range nodes {
			if ok, err := insist(n, take(1+100*i+10*k, 2, hourly(name, 10), hourly("account:bob", 0))); err != nil || !ok {
				t.Fatalf("accepted %v, %v", ok, err)
			}
		}
		domains[name] = 6
	}
	if _, err := nodes[0].Post(ctx, "lock/a.example", []byte("root")); err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, "the board", func() bool { return nodes[2].board.has("lock/a.example") })
	servers[1].Kill()
	for _, n := range nodes {
		n.alone()
	}
	reached := 0
	for name := range domains {
		if res, err := nodes[0].take(take(10_000+reached, 1, hourly(name, 10))); err == nil && res.OK {
			domains[name]++
			reached++
		}
	}
	servers[1].Start()
	for _, s := range servers { // a master that comes back empty has its slots again
		hosttest.Eventually(t, "the cluster", func() bool { return fmt.Sprint(s.Do("cluster", "info"))[:16] == "cluster_state:ok" })
	}
	for _, n := range nodes {
		n.shared()
		hosttest.Eventually(t, "merged", func() bool { return n.Status().Unmerged == 0 })
	}
	for name, want := range domains {
		if st := nodes[1].Standing(nodes[1].time(), name); len(st.Windows) == 0 || st.Windows[0].Sent != want {
			t.Errorf("%s: %+v, want %d", name, st, want)
		}
	}
	if st := nodes[2].Standing(nodes[2].time(), "account:bob"); st.Windows[0].Sent != 180 {
		t.Errorf("%+v", st)
	}
	hosttest.Eventually(t, "the board again", func() bool {
		has := false
		nodes[1].Entries("lock/", func(string, []byte) { has = true })
		return has
	})
}

// A master is killed, Sentinels promote its replica, and the nodes go on there
// with all that they had accepted.
func TestASentinelFailover(t *testing.T) {
	t.Parallel()
	pair := redistest.StartPair(t)
	nodes := three(t, pair.URL, Options{Timeout: hosttest.Deadline(200 * time.Millisecond)})
	domain := hourly("a.example", 1000)
	var accepted int64
	send := func(from, n int) {
		for i := range n {
			res, err := nodes[i%3].take(take(from+i, 1, domain))
			if err == nil && res.OK {
				accepted++
			}
		}
	}
	send(1, 90)
	pair.Master.Kill()
	send(1000, 30)
	hosttest.Eventually(t, "the replica as master", func() bool {
		c := pair.Replica.Client() // which the Sentinels disconnect then
		defer c.Close()
		return strings.Contains(c.Info(t.Context(), "replication").Val(), "role:master")
	})
	for _, n := range nodes {
		hosttest.Eventually(t, "lost and back", func() bool { return n.heard.has("lost") && n.mode() == modeShared })
		hosttest.Eventually(t, "merged", func() bool { return n.Status().Unmerged == 0 })
	}
	send(2000, 90)
	if st := nodes[1].Standing(nodes[1].time(), domain.Name); st.Windows[0].Sent != accepted || accepted < 180 {
		t.Errorf("accepted %d, counted %+v\n%s", accepted, st, nodes[0].heard)
	}
	if v := fmt.Sprint(pair.Replica.Do("exists", rootKey("a.example"))); v != "1" {
		t.Errorf("the new master has %s of one key", v)
	}
}
