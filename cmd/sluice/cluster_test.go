package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// startClustered serves a node of a cluster of two, with more lines of [store].
func startClustered(t *testing.T, name, url string, more ...string) *servedNode {
	t.Helper()
	dir := t.TempDir()
	return startServeWith(t, dir, clusterConfig(dir, name, url, more...))
}

// Without Redis a node starts, says so and keeps to its share: of a limit of 10
// and two nodes 2. When Redis comes it is told of them.
func TestRedisDownOpensEverything(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	r.Kill()
	n := startClustered(t, "mx1.example", r.URL())
	hosttest.Eventually(t, "saying so", func() bool { return strings.Contains(n.log.String(), "Redis cannot be asked") })
	if got := n.sendAll(t, 0, 4); got != 2 {
		t.Errorf("%d accepted without Redis, want 2", got)
	}
	out, code := n.sluice(t, "status")
	if code != exitDone || !strings.Contains(out, `This node decides alone (store.outage = "share")`) || !strings.Contains(out, "connection refused") {
		t.Errorf("status without Redis: exit %d\n%s", code, out)
	}
	r.Start()
	hosttest.Eventually(t, "Redis deciding", func() bool { return strings.Contains(n.log.String(), "Redis decides again") })
	if got := n.sendAll(t, 4, 20); got != 8 {
		t.Errorf("%d accepted with Redis, want 8 of 10", got)
	}
	hosttest.Eventually(t, "the node in status", func() bool {
		out, _ := n.sluice(t, "status")
		return strings.Contains(out, "mx1.example") && strings.Contains(out, "shared") && !strings.Contains(out, "alone")
	})
}

// Two nodes have one limit.
func TestNodesOfAClusterDoNotShare(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	if first, second := a.sendAll(t, 0, 6), b.sendAll(t, 6, 20); first != 6 || second != 4 {
		t.Errorf("%d and %d accepted, want 6 and 4", first, second)
	}
}

// pair starts two nodes that know each other.
func pair(t *testing.T) (r *redistest.Server, a, b *servedNode) {
	t.Helper()
	r = redistest.Start(t)
	a, b = pairOn(t, r.URL())
	return r, a, b
}

// unhurried is time enough for Redis, the most there is, on any machine: a node that
// gives Redis up decides by its share.
const unhurried = `timeout = "10s"`

// pairOn starts them on the Redis of a store.url.
func pairOn(t *testing.T, url string) (a, b *servedNode) {
	t.Helper()
	a, b = startClustered(t, "mx1.example", url, unhurried), startClustered(t, "mx2.example", url, unhurried)
	for _, n := range []*servedNode{a, b} {
		hosttest.Eventually(t, "both nodes in status", func() bool {
			out, _ := n.sluice(t, "status")
			return strings.Contains(out, "mx1.example") && strings.Contains(out, "mx2.example") && !strings.Contains(out, "alone")
		})
	}
	return a, b
}

func (n *servedNode) file(name string) string { return n.dir + "/locks/" + name }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// soon waits until two nodes agree, for which the soak gives them a second.
func soon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	start := time.Now()
	hosttest.Eventually(t, what, holds)
	hosttest.NotLonger(t, what, time.Since(start), time.Second)
}

// A lock at the limit stands on both nodes; an rm on one releases on the other.
func TestALockAndItsReleaseReachTheOtherNode(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	if a.sendAll(t, 0, 4)+b.sendAll(t, 0, 20) != 10 {
		t.Fatal("not 10 accepted")
	}
	lock := "max_hourly_example.com"
	soon(t, "the lock on both", func() bool { return exists(a.file(lock)) && exists(b.file(lock)) })
	if err := os.Remove(a.file(lock)); err != nil {
		t.Fatal(err)
	}
	soon(t, "sending on the other", func() bool { return b.send(t, 60) })
	soon(t, "no lock on the other", func() bool { return !exists(b.file(lock)) })
	if got := a.sendAll(t, 70, 90); got != 9 {
		t.Errorf("%d more accepted, want 9 of a fresh limit", got)
	}
}

// sluice lock, unlock and reset are for all nodes; a hand's file is not.
func TestLockUnlockAndResetAreForAllNodes(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	lock := "max_hourly_example.com"
	a.sluice(t, "lock", "example.com")
	soon(t, "the lock on the other", func() bool { return exists(b.file(lock)) && !b.send(t, 1) })
	b.sluice(t, "unlock", "example.com")
	soon(t, "released on the first", func() bool { return !exists(a.file(lock)) && a.send(t, 2) })

	b.sluice(t, "lock", "example.com")
	soon(t, "the lock on the first", func() bool { return exists(a.file(lock)) })
	if err := os.Remove(a.file(lock)); err != nil {
		t.Fatal(err)
	}
	soon(t, "released on the second", func() bool { return !exists(b.file(lock)) && b.send(t, 3) })

	writeFile(t, b.file(lock), "")
	hosttest.Eventually(t, "the hand's lock", func() bool { return !b.send(t, 4) })
	a.sendAll(t, 10, 30)
	if out, code := a.sluice(t, "unlock", "example.com"); code != exitDone {
		t.Errorf("unlock: %s", out)
	}
	soon(t, "sending on the first", func() bool { return a.send(t, 40) })
	if !exists(b.file(lock)) || b.send(t, 41) {
		t.Error("a hand's lock on one node was removed from another one")
	}
}

// Bad sends of one domain on two nodes, too few on each, trip it on both.
func TestOutcomesOnTwoNodesTripOnBoth(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	var nodes []*servedNode
	for i := range 2 {
		dir := t.TempDir()
		writeFile(t, dir+"/mainlog", "")
		config := strings.Replace(serveConfig(dir), `node = "mx1.example"`, fmt.Sprintf("node = \"mx%d.example\"\nurl = %q\nnodes = 2", i+1, r.URL()), 1)
		config = strings.Replace(config, "[exim]", fmt.Sprintf("[exim]\nmainlog = \"%s/mainlog\"", dir), 1)
		nodes = append(nodes, startServeWith(t, dir, config))
	}
	for _, n := range nodes {
		hosttest.Eventually(t, "both nodes in status", func() bool {
			out, _ := n.sluice(t, "status")
			return strings.Contains(out, "mx1.example") && strings.Contains(out, "mx2.example") && !strings.Contains(out, "alone")
		})
	}
	now := time.Now().Format("2006-01-02 15:04:05")
	for i, n := range nodes {
		var log strings.Builder
		for k := range 3 {
			id := fmt.Sprintf("1xUzSN-0005%d%d-0q", i, k)
			fmt.Fprintf(&log, "%s %s <= news@example.com H=client [192.0.2.1] P=esmtpa A=plain:news@example.com S=300\n", now, id)
			fmt.Fprintf(&log, "%s %s ** r%d@far.example R=dnslookup T=remote_smtp H=mx.far.example [198.51.100.1]: SMTP error from remote mail server after RCPT TO:<r%d@far.example>: 550 no such user\n", now, id, k, k)
		}
		f, err := os.OpenFile(n.dir+"/mainlog", os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(log.String()); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	lock := "max_deferfail_example.com"
	hosttest.Eventually(t, "tripped on both", func() bool { return exists(nodes[0].file(lock)) && exists(nodes[1].file(lock)) })
	for _, n := range nodes {
		if n.send(t, 50) {
			t.Error("accepted while tripped")
		}
	}
	if err := os.Remove(nodes[1].file(lock)); err != nil {
		t.Fatal(err)
	}
	soon(t, "released on the other", func() bool { return !exists(nodes[0].file(lock)) && nodes[0].send(t, 51) })
}

// What was set before a node shared its counts moves to Redis with it, once. A node
// that comes later does not mix its own into that, and says so. Who shares no longer
// keeps what was in force.
func TestLiveValuesMoveToRedis(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	alone := func(sets ...[]string) (dir string) {
		dir = t.TempDir()
		n := startServe(t, dir)
		for _, args := range sets {
			n.wantRun(t, exitDone, "", append([]string{"set"}, args...)...)
		}
		if code := n.stop(); code != exitDone {
			t.Fatalf("exit %d:\n%s", code, n.log)
		}
		return dir
	}
	share := func(dir, name string) *servedNode {
		return startServeWith(t, dir, strings.Replace(serveConfig(dir), `node = "mx1.example"`,
			fmt.Sprintf("node = %q\nurl = %q\nnodes = 2", name, r.URL()), 1))
	}
	first := alone([]string{"example.com", "hourly=30"}, []string{"example.com", "hourly=20", "--why", "sale"}, []string{"default", "mode=watch"})
	later := alone([]string{"example.com", "hourly=7"}, []string{"other.example", "hourly=8"})

	a := share(first, "mx1.example")
	inForce := func(n *servedNode) func() bool {
		return func() bool { out, _ := n.sluice(t, "history"); return strings.Contains(out, "hourly 30 -> 20") }
	}
	hosttest.Eventually(t, "what was set is in force", inForce(a))
	a.wantRun(t, exitDone, "change 2: sale", "explain", "example.com")
	if !strings.Contains(a.log.String(), "is in force on all nodes now") {
		t.Errorf("the log does not tell:\n%s", a.log)
	}
	b := share(later, "mx2.example")
	hosttest.Eventually(t, "the other node has it", inForce(b))
	const warning = "WARNING: what `sluice set` has left on this node from before store.url named a Redis is not in force, for others have set something there: other.example hourly=8."
	hosttest.Eventually(t, "the other node warns of its own", func() bool { out, _ := b.sluice(t, "status"); return strings.Contains(out, warning) })
	if out, _ := a.sluice(t, "status"); strings.Contains(out, "has left on this node") {
		t.Errorf("the first warns too:\n%s", out)
	}
	b.wantRun(t, exitDone, "", "set", "other.example", "hourly=9")
	if out, _ := b.sluice(t, "status"); strings.Contains(out, "has left on this node") {
		t.Errorf("it warns after the value was set again:\n%s", out)
	}
	for _, n := range []*servedNode{a, b} {
		n.stop()
	}
	a = share(first, "mx1.example")
	hosttest.Eventually(t, "it is in force after a restart", inForce(a))
	a.wantRun(t, exitDone, "rollback of 2", "rollback", "2")
	if code := a.stop(); code != exitDone {
		t.Fatalf("exit %d:\n%s", code, a.log)
	}
	for range 2 {
		a = startServe(t, first)
		a.wantRun(t, exitDone, "change 1", "explain", "example.com")
		a.stop()
	}
	b = startServe(t, later)
	b.wantRun(t, exitDone, "change 2: sale", "explain", "example.com")
	b.wantRun(t, exitDone, " -> 9", "history", "other.example")
	b.stop()
	b = share(later, "mx2.example")
	hosttest.Eventually(t, "all is as the first has it", func() bool { out, _ := b.sluice(t, "history"); return strings.Contains(out, "rollback of 2") })
	if strings.Contains(b.log.String(), "is not in force") {
		t.Errorf("what it brings is what all have, and it warns:\n%s", b.log)
	}
}

// While Redis hangs status shows how this node decides, not what it last told the
// others, sluice lock tells that they do not know of it, and sluice set waits a moment for Redis to answer again.
func TestAMomentWithoutRedis(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	n := startClustered(t, "mx1.example", r.URL())
	mode := func(want string) func() bool {
		return func() bool {
			nodes := n.whole(t).Totals.Shared.Nodes
			return len(nodes) == 1 && nodes[0].Mode == want
		}
	}
	hosttest.Eventually(t, "the node shares", mode("shared"))
	r.Freeze()
	defer r.Thaw()
	hosttest.Eventually(t, "the node decides alone", mode("share"))
	n.wantRun(t, exitDone, "the other nodes cannot be told now", "lock", "example.com")
	time.AfterFunc(300*time.Millisecond, r.Thaw)
	n.wantRun(t, exitDone, "hourly", "set", "example.com", "hourly=9")
	n.wantRun(t, exitDone, "hourly 10 -> 9", "history")
}
