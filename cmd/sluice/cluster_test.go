package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/senders"
)

// startClustered serves a node of a cluster of two, with more lines of [store].
func startClustered(t *testing.T, name, url string, more ...string) *servedNode {
	t.Helper()
	dir := t.TempDir()
	return startServeWith(t, dir, clusterConfig(dir, name, url, more...))
}

// Without Redis a node starts, reports it and keeps to its share: of a limit of 10
// and two nodes 2. When Redis comes it is reported them.
func TestRedisDownOpensEverything(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	r.Kill()
	n := startClustered(t, "mx1.example", r.URL())
	hosttest.Eventually(t, "saying so", func() bool { return strings.Contains(n.log.String(), "Redis cannot be asked") })
	if got := n.sendAll(t, 0, 4); got != 2 {
		t.Errorf("%d accepted without Redis, want 2", got)
	}
	var out string
	hosttest.EventuallyOr(t, func() string { return "status without Redis:\n" + out }, func() bool { // the first try may have been too late to be refused
		var code int
		out, code = n.sluice(t, "status")
		return code == exitDone && strings.Contains(out, `This node decides alone (store.outage = "share")`) && strings.Contains(out, "connection refused")
	})
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

// pairOn starts them on the Redis of a store.url.
func pairOn(t *testing.T, url string) (a, b *servedNode) {
	t.Helper()
	a, b = startClustered(t, "mx1.example", url), startClustered(t, "mx2.example", url)
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

// incident is the number of the only incident of example.com that a node lists.
func (n *servedNode) incident(t *testing.T) (number string) {
	t.Helper()
	out, _ := n.sluice(t, "incident")
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); strings.Contains(line, " example.com ") {
			number += f[0]
		}
	}
	return number
}

// A lock at the limit stands on both nodes, and is one incident; an rm on one releases on the
// other.
func TestALockAndItsReleaseReachTheOtherNode(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	if a.sendAll(t, 0, 4)+b.sendAll(t, 0, 20) != 10 {
		t.Fatal("not 10 accepted")
	}
	lock := "max_hourly_example.com"
	soon(t, "the lock on both", func() bool { return exists(a.file(lock)) && exists(b.file(lock)) })
	hosttest.EventuallyOr(t, func() string { return a.incident(t) + ", " + b.incident(t) }, func() bool {
		number := a.incident(t)
		return strings.Count(number, "mx") == 1 && b.incident(t) == number
	})
	if err := os.Remove(a.file(lock)); err != nil {
		t.Fatal(err)
	}
	soon(t, "sending on the other", func() bool { return b.send(t, 60) })
	soon(t, "no lock on the other", func() bool { return !exists(b.file(lock)) })
	if got := a.sendAll(t, 70, 90); got != 9 {
		t.Errorf("%d more accepted, want 9 of a fresh limit", got)
	}
}

// sluice lock, unlock and reset are for all nodes; an operator's file is not.
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

	// Whichever node is asked says what has happened, and on which.
	for _, n := range []*servedNode{a, b} {
		for _, want := range []string{"mx1.example command example.com", "mx2.example command example.com", "mx1.example lock-removed example.com",
			"mx2.example lock-made example.com", "mx2.example refused news@example.com"} {
			hosttest.Eventually(t, "events has "+want, func() bool {
				out, _ := n.sluice(t, "events", "example.com")
				return strings.Contains(strings.Join(strings.Fields(out), " "), want)
			})
		}
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
		config = strings.Replace(config, `mainlog = ""`, fmt.Sprintf("mainlog = \"%s/mainlog\"", dir), 1)
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

// Who sends over two nodes is shown with the sum on each, and named by each; a stop on one
// refuses on the other, on connections that are open too.
func TestWhoAndStopAreForAllNodes(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	if a.sendAll(t, 0, 3)+b.sendAll(t, 3, 7) != 7 {
		t.Fatal("not 7 accepted")
	}
	for _, n := range []*servedNode{a, b} {
		var w senders.Who
		out, _ := n.sluice(t, "who", "example.com", "--json")
		if err := json.Unmarshal([]byte(out), &w); err != nil || len(w.Domains) != 1 || len(w.Domains[0].Authors) != 1 {
			t.Fatalf("%v: %s", err, out)
		}
		r, news := w.Domains[0], w.Domains[0].Authors[0]
		slices.Sort(r.Nodes)
		if got := fmt.Sprintf("%d %d %v %v %s %d", r.Sent, r.Unattributed, r.Nodes, w.Missing, news.Key, news.Sent); got != "7 0 [mx1.example mx2.example] [] news@example.com 7" {
			t.Errorf("who is %s", got)
		}
	}
	c, err := net.Dial("unix", b.dir+"/run/policy.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answers, number := bufio.NewReader(c), 0
	ask := func() string {
		t.Helper()
		number++
		fmt.Fprintf(c, "request=sluice\nversion=2\nstage=rcpt\nauth=news@example.com\nsender=news@example.com\nclient_address=192.0.2.1\nrecipient=x@far.example\nnumber=%d\n\n", number)
		answer := ""
		for {
			line, err := answers.ReadString('\n')
			if err != nil {
				t.Fatalf("after %q: %v", answer, err)
			}
			if line == "\n" {
				return answer
			}
			answer += line
		}
	}
	if got := ask(); !strings.HasPrefix(got, "action=DUNNO") {
		t.Fatalf("before: %s", got)
	}
	if out, code := a.sluice(t, "stop", "news@example.com"); code != exitDone {
		t.Fatal(out)
	}
	soon(t, "refused on the other, on an open connection", func() bool {
		return strings.Contains(ask(), "Mailbox news@example.com is stopped.")
	})
	if out, code := b.sluice(t, "start", "news@example.com"); code != exitDone {
		t.Fatal(out)
	}
	soon(t, "started on both", func() bool { return strings.HasPrefix(ask(), "action=DUNNO") && a.send(t, 8) })
}

// What was set before store.url was another one stays behind, in both directions: the
// start reports it, and it is brought with an export and an import, whole and for all nodes.
func TestLiveValuesAreBroughtToAnotherStore(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	dir := t.TempDir()
	const behind = "is not in force here; to bring it: sluice history --export --left"
	move := func(n *servedNode) {
		t.Helper()
		if !strings.Contains(n.log.String(), behind) {
			t.Errorf("the start does not tell:\n%s", n.log)
		}
		file := dir + "/left.jsonl"
		writeFile(t, file, n.wantRun(t, exitDone, "example.com", "history", "--export", "--left"))
		n.wantRun(t, exitDone, "example.com: hourly", "set", "--import", file)
		if out, _ := n.sluice(t, "history", "--export", "--left"); out != "" {
			t.Errorf("brought, and still left behind:\n%s", out)
		}
	}
	n := startServe(t, dir)
	n.wantRun(t, exitDone, "", "set", "example.com", "hourly=30", "--why", "sale")
	n.stop()

	shared := func(dir, name string) *servedNode {
		n := startServeWith(t, dir, strings.Replace(serveConfig(dir), `node = "mx1.example"`, fmt.Sprintf("node = %q\nurl = %q\nnodes = 2\ntimeout = \"10s\"", name, r.URL()), 1))
		hosttest.Eventually(t, "Redis decides", func() bool { return n.whole(t).Totals.Shared.Mode == "shared" })
		return n
	}
	n = shared(dir, "mx1.example")
	n.wantRun(t, exitDone, "sluice.toml", "explain", "example.com")
	move(n)
	other := shared(t.TempDir(), "mx2.example")
	hosttest.Eventually(t, "the other node has it", func() bool {
		out, _ := other.sluice(t, "explain", "example.com")
		return strings.Contains(out, ": sale; set before by")
	})
	if strings.Contains(other.log.String(), behind) {
		t.Errorf("nothing stayed behind there:\n%s", other.log)
	}
	other.wantRun(t, exitDone, "hourly 30 -> 25", "set", "example.com", "hourly=25")
	hosttest.Eventually(t, "the first node has that", func() bool { out, _ := n.sluice(t, "history"); return strings.Contains(out, "hourly 30 -> 25") })
	n.stop()

	n = startServe(t, dir) // by itself again, with what it had
	n.wantRun(t, exitDone, "hourly 10 -> 30", "history")
	move(n)
	n.wantRun(t, exitDone, "hourly 30 -> 25", "history")
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
	defer r.Thaw()
	// A set waits for two seconds, in which a busy machine may not have Redis back.
	hosttest.Eventually(t, "a set waits until Redis answers", func() bool {
		hosttest.Eventually(t, "the node shares", mode("shared"))
		r.Freeze()
		hosttest.Eventually(t, "the node decides alone", mode("share"))
		n.wantRun(t, exitDone, "the other nodes cannot be told now", "lock", "example.com")
		time.AfterFunc(300*time.Millisecond, r.Thaw)
		_, code := n.sluice(t, "set", "example.com", "hourly=9")
		return code == exitDone
	})
	n.wantRun(t, exitDone, "hourly 10 -> 9", "history")
}
