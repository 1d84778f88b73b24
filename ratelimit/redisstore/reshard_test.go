package redisstore

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// A move is the slot of a subject on its way from one master of a Cluster of two to the
// other, in the steps of redis-cli --cluster reshard.
type move struct {
	from, to *redistest.Server
	slot     int
}

// beginMove has the master at home, of two, begin to give the slot of a subject to the other.
func beginMove(servers []*redistest.Server, home int, subject string) move {
	m := move{servers[home], servers[1-home], keySlot(rootKey(slotOf(subject)))}
	m.to.Do("cluster", "setslot", m.slot, "importing", m.from.Do("cluster", "myid"))
	m.from.Do("cluster", "setslot", m.slot, "migrating", m.to.Do("cluster", "myid"))
	return m
}

// keys moves so many keys at most, and reports whether there was one.
func (m move) keys(most int) bool {
	keys := m.from.Do("cluster", "getkeysinslot", m.slot, most).([]any)
	if len(keys) > 0 {
		m.from.Do(append([]any{"migrate", "127.0.0.1", m.to.Port, "", 0, 5000, "keys"}, keys...)...)
	}
	return len(keys) > 0
}

func (m move) end() {
	id := m.to.Do("cluster", "myid")
	for _, s := range []*redistest.Server{m.to, m.from} {
		s.Do("cluster", "setslot", m.slot, "node", id)
	}
}

// homeOf is which of two masters has the slot of a subject at first.
func homeOf(subject string) int { return keySlot(rootKey(slotOf(subject))) / (slots / 2) }

// A slot moves from one master to another while a node sends: it follows, and neither master
// has failed.
func TestASlotMovesWhileANodeSends(t *testing.T) {
	t.Parallel()
	url, servers := redistest.StartCluster(t, 2)
	answers := 0
	n := startNode(t, Options{URL: url, answered: func(ratelimit.Take, time.Time, answer) { answers++ }})
	domain := hourly("a.example", 50)
	sent := 0
	send := func(sends int) {
		t.Helper()
		for range sends {
			sent++
			if ok, err := insist(n, take(sent, 1, domain)); err != nil || !ok {
				t.Fatalf("send %d: %v, %v\n%s", sent, ok, err, n.heard)
			}
		}
	}
	send(20)
	m := beginMove(servers, homeOf(domain.Name), domain.Name)
	send(5) // what has no key there yet is answered with ASK or TRYAGAIN
	m.keys(100)
	send(5) // of which the one has nothing any more, and the other does not decide yet
	m.end()
	answers = 0
	if send(1); answers != 1 {
		t.Errorf("a slot that had moved was not followed")
	}
	send(19)
	hosttest.Eventually(t, "merged", func() bool { return n.Status().Unmerged == 0 })
	if st := n.Standing(n.time(), domain.Name); st.Partial || st.Windows[0].Sent != 50 || n.heard.has("lost") {
		t.Errorf("%+v, want 50\n%s", st, n.heard)
	}
	if ok, err := insist(n, take(1000, 1, domain)); ok || err != nil {
		t.Errorf("the 51st: %v, %v", ok, err)
	}
}

// A master that is giving a slot away runs no script to its end that needs a key it does not
// have yet, and keeps what the script has written before: nothing may have been.
func TestNothingIsHalfWrittenWhileASlotMoves(t *testing.T) {
	t.Parallel()
	url, servers := redistest.StartCluster(t, 2)
	answers := 0
	o := Options{URL: url, answered: func(ratelimit.Take, time.Time, answer) { answers++ }}
	n := startNode(t, o)
	watched := hourly("c.example", 5)
	watched.Watched = true
	for i, test := range []struct {
		name        string
		before, new int // sends
		counted     string
		subjects    []ratelimit.Subject
	}{
		{"its records need another hash", 148, 3, "a.example", []ratelimit.Subject{hourly("a.example", 1000)}},
		{"only the last one needs it", 148, 2, "b.example", []ratelimit.Subject{hourly("b.example", 1000)}},
		{"a first refusal", 5, 2, "m@c.example", []ratelimit.Subject{watched, hourly("m@c.example", 100)}},
	} {
		first, domain := 1+1000*i, test.subjects[0].Name
		send := func(n *node, from, sends int) {
			t.Helper()
			if ok, err := insist(n, take(from, sends, test.subjects...)); !ok || err != nil {
				t.Fatalf("%s: %v, %v\n%s", test.name, ok, err, n.heard)
			}
		}
		check := func(when string) {
			t.Helper()
			var st ratelimit.Standing
			hosttest.Eventually(t, "the layout is known", func() bool { st = n.Standing(n.time(), test.counted); return !st.Partial })
			if st.Windows[0].Sent != int64(test.before+test.new) {
				t.Errorf("%s, %s: %+v, want %d\n%s", test.name, when, st, test.before+test.new, n.heard)
			}
		}
		send(n, first, test.before)
		m := beginMove(servers, homeOf(domain), domain)
		answers = 0
		if send(n, first+test.before, test.new); answers > 0 {
			t.Errorf("%s: the master that gives the slot away has decided", test.name)
		}
		m.keys(100)
		m.end()
		hosttest.Eventually(t, "merged", func() bool { return n.Status().Unmerged == 0 })
		check("moved")
		send(startNode(t, o), first, test.before+test.new) // which does not know that they were sent
		check("asked again")
	}
}

// Slots go to and fro, a key at a time, while three nodes send: each send is counted once,
// also if it is asked again at another node.
func TestExactWhileSlotsMove(t *testing.T) {
	t.Parallel()
	url, servers := redistest.StartCluster(t, 2)
	nodes := three(t, url, Options{})
	subjects := []ratelimit.Subject{hourly("a.example", 1_000_000), hourly("m@a.example", 1_000_000), hourly("account:bob", 1_000_000)}
	var next, accepted atomic.Int64
	var done atomic.Bool
	var running sync.WaitGroup
	for i, n := range nodes {
		for range soak(2, 1) {
			running.Go(func() {
				for !done.Load() {
					one := take(int(next.Add(1)), 1, subjects...)
					if ok, err := insist(n, one); !ok || err != nil {
						t.Errorf("%v, %v", ok, err)
					}
					accepted.Add(1)
					if ok, err := insist(nodes[(i+1)%3], one); !ok || err != nil {
						t.Errorf("asked again: %v, %v", ok, err)
					}
				}
			})
		}
	}
	wait := func(sends int64) {
		until := next.Load() + sends
		hosttest.Eventually(t, "more sends", func() bool { return next.Load() >= until })
	}
	for round := range soak(60, 3) { // the domain to the other master, the account, and the domain back
		name := []string{"a.example", "account:bob"}[round%2]
		m := beginMove(servers, (homeOf(name)+round/2)%2, name)
		for wait(5); m.keys(1); wait(5) {
		}
		m.end()
		wait(20)
	}
	done.Store(true)
	running.Wait()
	for _, n := range nodes {
		hosttest.Eventually(t, "merged", func() bool { return n.Status().Unmerged == 0 })
		if n.heard.has("lost") {
			t.Errorf("a master was given up:\n%s", n.heard)
		}
	}
	for _, s := range subjects {
		var st ratelimit.Standing
		hosttest.Eventually(t, "the layout is known", func() bool { st = nodes[0].Standing(nodes[0].time(), s.Name); return !st.Partial })
		if len(st.Windows) == 0 || st.Windows[0].Sent != accepted.Load() {
			t.Errorf("%d were accepted: %+v", accepted.Load(), st)
		}
	}
	t.Logf("%d sends", accepted.Load())
}
