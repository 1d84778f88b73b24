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

// Nodes that do not hear of a change, or were away while it was made:
//
//	sluice lock, unlock, reset, set; a limit reached; rm ─→ mx1 ─→ redis-server ─ poll ─→ mx2

const boardChannel = "sluice:{*board}:v"

// deafs are ways in which nodes hear of nothing that Redis publishes. Each
// returns the store.url to use.
var deafs = []struct {
	name string
	make func(t *testing.T, r *redistest.Server) (url string)
}{
	{"subscriptions are cut again and again", func(t *testing.T, r *redistest.Server) string {
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			c := r.Client()
			defer c.Close()
			for {
				c.Do(t.Context(), "client", "kill", "type", "pubsub")
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		}()
		t.Cleanup(func() { close(stop); <-stopped })
		return r.URL()
	}},
	{"the user may not subscribe", func(_ *testing.T, r *redistest.Server) string {
		return redisUser(r, "&sluice:*", "-subscribe")
	}},
	{"the user may use no channel", func(_ *testing.T, r *redistest.Server) string {
		return redisUser(r, "resetchannels", "+info")
	}},
}

// redisUser makes the user of docs/cluster.md, with other rights.
func redisUser(r *redistest.Server, rights ...any) (url string) {
	r.Do(append([]any{"acl", "setuser", "sluice", "on", ">secret", "~sluice:*", "+@all", "-@dangerous", "+info"}, rights...)...)
	return "redis://sluice:secret@" + r.Addr()
}

// Without a word from Redis the poll carries locks, releases, resets and
// settings, in the soak within the second that is promised.
func TestThePollAloneCarriesAll(t *testing.T) {
	for _, deaf := range deafs {
		t.Run(deaf.name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Start(t)
			a, b := pairOn(t, deaf.make(t, r))
			lock := "max_hourly_example.com"
			a.sluice(t, "lock", "example.com")
			soon(t, "sluice lock", func() bool { return exists(b.file(lock)) && !b.send(t, 1) })
			b.sluice(t, "unlock", "example.com")
			soon(t, "sluice unlock", func() bool { return !exists(a.file(lock)) && a.send(t, 2) })
			if got := a.sendAll(t, 3, 20); got != 9 {
				t.Fatalf("%d accepted, want 9 more", got)
			}
			soon(t, "a lock at the limit", func() bool { return exists(b.file(lock)) })
			if err := os.Remove(b.file(lock)); err != nil {
				t.Fatal(err)
			}
			soon(t, "rm", func() bool { return !exists(a.file(lock)) && a.send(t, 20) })
			if got := a.sendAll(t, 21, 40); got != 9 {
				t.Fatalf("%d accepted, want 9 more", got)
			}
			soon(t, "another lock at the limit", func() bool { return exists(b.file(lock)) })
			a.sluice(t, "reset", "example.com")
			soon(t, "sluice reset", func() bool { return !exists(b.file(lock)) && b.send(t, 40) })
			a.sluice(t, "set", "example.com", "hourly=11")
			soon(t, "sluice set", func() bool { return b.domain(t, "example.com").Hourly == 11 })
			if n := fmt.Sprint(r.Do("pubsub", "numsub", boardChannel)); deaf.name != deafs[0].name && !strings.HasSuffix(n, " 0]") {
				t.Errorf("somebody does hear: %s", n)
			}
		})
	}
}

// A node is away for ten seconds and more, stopped or down, while one domain is
// locked by hand, one at its limit, one released by rm and one reset. It catches
// up. Hands that removed its own lock files meanwhile release what those stood
// for, and nothing that was counted since.
func TestANodeThatWasAwayCatchesUp(t *testing.T) {
	for _, how := range []struct {
		name       string
		away, back func(t *testing.T, n *processNode)
	}{
		{"stopped", func(_ *testing.T, n *processNode) { n.freeze() }, func(_ *testing.T, n *processNode) { n.thaw() }},
		{"down", func(_ *testing.T, n *processNode) { n.kill() }, func(t *testing.T, n *processNode) { n.start(t) }},
	} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			awayAndBack(t, how.away, how.back)
		})
	}
}

const awayFor = 11 * time.Second

func awayAndBack(t *testing.T, leave, comeBack func(*testing.T, *processNode)) {
	r := redistest.Start(t)
	binary := buildSluice(t)
	var nodes [2]*processNode
	for i := range nodes {
		dir := t.TempDir()
		nodes[i] = launch(t, binary, dir, clusterConfig(dir, fmt.Sprintf("mx%d.example", i+1), r.URL()))
	}
	away, other := nodes[0], nodes[1]
	number := int64(0)
	send := func(n *processNode, domain string, sends int) (accepted int) {
		t.Helper()
		for range sends {
			number++
			reply, err := n.ask(domain, number, "data")
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(reply, "action=DUNNO") {
				accepted++
			}
		}
		return accepted
	}
	on := func(n *processNode, domains ...string) bool {
		for _, d := range domains {
			if !exists(n.file("max_hourly_" + d)) {
				return false
			}
		}
		return true
	}
	for _, n := range nodes {
		hosttest.Eventually(t, "Redis decides", func() bool { st := n.whole(t).Totals.Shared; return st.Mode == "shared" && len(st.Nodes) == 2 })
	}
	before := []string{"removed.example", "reset.example", "stale.example", "unlocked.example"}
	for _, d := range before[:3] {
		send(other, d, 10)
	}
	other.sluice(t, "lock", "unlocked.example")
	hosttest.Eventually(t, "all locks on both", func() bool { return on(away, before...) && on(other, before...) })

	leave(t, away)
	back := time.Now().Add(awayFor)
	for _, d := range []string{"removed.example", "stale.example"} {
		if err := os.Remove(other.file("max_hourly_" + d)); err != nil {
			t.Fatal(err)
		}
	}
	other.sluice(t, "reset", "reset.example")
	other.sluice(t, "unlock", "unlocked.example")
	hosttest.Eventually(t, "released", func() bool {
		return !exists(other.file("max_hourly_stale.example")) && send(other, "stale.example", 1) == 1
	})
	send(other, "stale.example", 4)
	// The stale hand: the file that it removes stood for what is released already.
	if err := os.Remove(away.file("max_hourly_stale.example")); err != nil {
		t.Fatal(err)
	}
	send(other, "full.example", 10)
	other.sluice(t, "lock", "locked.example")
	time.Sleep(time.Until(back)) // how long a node is away is what is tried here
	comeBack(t, away)

	hosttest.Eventually(t, "the node has caught up", func() bool {
		names, err := os.ReadDir(away.file(""))
		if err != nil {
			t.Fatal(err)
		}
		var locks []string
		for _, e := range names {
			if strings.HasPrefix(e.Name(), "max_") {
				locks = append(locks, e.Name())
			}
		}
		return fmt.Sprint(locks) == "[max_hourly_full.example max_hourly_locked.example]"
	})
	hosttest.EventuallyOr(t, func() string { return "the stale hand was heard:\n" + away.log.String() }, func() bool { return heardStaleHand(away.log.String()) })
	for domain, want := range map[string]int64{"stale.example": 5, "full.example": 10, "removed.example": 0, "reset.example": 0} {
		for _, n := range nodes {
			if got := n.domain(t, domain).Sent; got != want {
				t.Errorf("%s: %s counts %d, want %d\n%s", n.dir, domain, got, want, n.log)
			}
		}
	}
	if got := send(away, "locked.example", 1); got != 0 {
		t.Error("accepted on the node that was away, though locked")
	}
	if got := send(away, "removed.example", 11); got != 10 {
		t.Errorf("%d of a fresh limit of 10 accepted on the node that was away", got)
	}
}

// heardStaleHand reports whether a log tells of the hand, or of the release that came before it:
// a node hears them in an order of its own, and of a lock that it had not noted in time the
// release alone.
func heardStaleHand(log string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "domain=stale.example") && (strings.Contains(line, "removed by hand") || strings.Contains(line, "on another node")) {
			return true
		}
	}
	return false
}
