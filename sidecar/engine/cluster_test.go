package engine_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/operator"
)

// nodes are two that share a board and the counts, with the same clock.
type nodes [2]*site

func newNodes(t testing.TB, config string) (n nodes) {
	board := &awayBoard{values: map[string][]byte{}}
	for i := range n {
		s := &site{t: t, board: board, name: fmt.Sprintf("node%d", i+1), config: parsed(t, config), ledger: t.TempDir(), dir: t.TempDir(), now: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)}
		if i > 0 {
			s.shared = n[0].store
		}
		s.open()
		s.ShowShared(func() operator.SharedStatus {
			return operator.SharedStatus{Nodes: []operator.NodeStatus{{Node: "node1"}, {Node: "node2"}, {Node: "node3", SignAge: 31}}}
		})
		t.Cleanup(func() { s.store.Close() })
		n[i] = s
	}
	return n
}

// pass has both do what Run does, after some time.
func (n nodes) pass(d time.Duration) {
	for range 2 { // the second has answers
		for _, s := range n {
			s.Follow(s.t.Context(), s.now)
			s.Reconcile(s.t.Context(), s.now)
			s.ShowUsage(s.now)
		}
	}
	n.setNow(n[0].now.Add(d))
}

func (n nodes) setNow(now time.Time) { n[0].now, n[1].now = now, now }

// who sends on both nodes is the sum, on each, as soon as somebody asks; with the names of the
// nodes, and of one of which nothing was heard.
func TestWhoSendsOnAllNodes(t *testing.T) {
	t.Parallel() // it waits
	n := newNodes(t, "[limits]\nhourly = 100\n")
	n.setNow(time.Now())
	send := func(node int, mailbox string, times int) {
		for range times {
			n[node].sendAs(mailbox)
		}
	}
	send(0, "eve@a.example", 5)
	send(1, "eve@a.example", 7)
	send(1, "ann@a.example", 2)
	n[1].run() // and answers
	w, err := n[0].WhoSends(n[0].now, "a.example", 20)
	if err != nil || len(w.Domains) != 1 {
		t.Fatalf("%+v, %v", w, err)
	}
	r := w.Domains[0]
	if got := fmt.Sprintf("%d %d %d %v %v", r.Sent, r.Tried, r.Unattributed, r.Nodes, w.Missing); got != "14 14 0 [node1 node2] [node3]" {
		t.Errorf("the domain: %s", got)
	}
	if got := n[0].Who.Attributed(n[0].now, "a.example"); got != 14 {
		t.Errorf("%d have an author, of both nodes", got)
	}
	var got []string
	for _, a := range r.Authors {
		got = append(got, fmt.Sprintf("%s %d/%d %d%% from %d", a.Key, a.Tried, a.Sent, a.Share, len(a.Networks)))
	}
	if strings.Join(got, ", ") != "eve@a.example 12/12 85% from 1, ann@a.example 2/2 14% from 1" {
		t.Errorf("the authors: %q", got)
	}
	if who, tried, of := n[1].Who.Most(n[1].now, "a.example"); who.Key != "eve@a.example" || tried != 12 || of != 14 {
		t.Errorf("the other node: %+v %d of %d", who, tried, of)
	}
}

// An office whose people send over two nodes: the first of them, who is stolen in the end, in
// turn, and the others over the second node.
type branches struct {
	nodes
	at       [2]*office
	accepted []time.Time // on both, in the last hour
	worst    int         // most of them
}

func newBranches(n nodes, max int) *branches {
	b := &branches{nodes: n}
	for i := range b.at {
		b.at[i] = &office{site: n[i], max: max, messages: i * 50_000}
		b.at[i].clear()
	}
	return b
}

// run has people send for so many minutes. pass has one minute go by.
func (b *branches) run(pass func(), minutes int, people ...rate) {
	for m := range minutes {
		for i, p := range people {
			for k := (m*p.hourly + i) / 60; k < ((m+1)*p.hourly+i)/60; k++ {
				node := 1
				if i == 0 {
					node = k % 2
				}
				if b.at[node].try(p.name, 1) > 0 {
					b.accepted = append(b.accepted, b.nodes[0].now)
				}
			}
		}
		for len(b.accepted) > 0 && !b.accepted[0].After(b.nodes[0].now.Add(-time.Hour)) {
			b.accepted = b.accepted[1:]
		}
		b.worst = max(b.worst, len(b.accepted))
		pass()
	}
}

func (b *branches) refusedOf(people ...rate) int {
	return b.at[0].refusedOf(people...) + b.at[1].refusedOf(people...)
}

// onlyEve wants that nobody but the stolen mailbox was refused, on both nodes, and nothing over
// the limit accepted.
func (b *branches) onlyEve(t *testing.T) {
	t.Helper()
	t.Logf("sent %v and %v, refused %v and %v, at most %d in an hour", b.at[0].sent, b.at[1].sent, b.at[0].refused, b.at[1].refused, b.worst)
	if b.refusedOf(colleagues...) > 0 || b.worst > b.at[0].max {
		t.Error("colleagues are refused, or the limit is exceeded")
	}
	if b.at[0].refused["eve"] == 0 || b.at[1].refused["eve"] == 0 {
		t.Error("the stolen mailbox is not refused on both")
	}
}

// A stolen mailbox sends over both nodes in turn. Its colleagues send over one of them, so that
// the other knows of them only by what it is told: none of them is refused, and the limit holds.
func TestAStolenMailboxOnTwoNodes(t *testing.T) {
	b := newBranches(newNodes(t, "[limits]\nhourly = 100\n"), 100)
	minute := func() { b.pass(time.Minute) }
	people := append([]rate{{"eve", 4}}, colleagues...)
	for day := range 4 {
		b.setNow(time.Date(2026, 3, 2+day, 9, 0, 0, 0, time.UTC))
		b.run(minute, 5*60, people...)
	}
	b.setNow(time.Date(2026, 3, 6, 9, 0, 0, 0, time.UTC))
	b.run(minute, 2*60, people...)
	if refused := b.refusedOf(people...); refused > 0 {
		t.Fatalf("%d are refused before", refused)
	}
	b.run(minute, 5*60, append([]rate{{"eve", 30 * 60}}, colleagues...)...)
	b.onlyEve(t)
}

// Who sends to addresses that do not exist over both nodes, over each too few, is stopped alone,
// on both, by one of them, and let go on both.
func TestFailingAddressesOnTwoNodes(t *testing.T) {
	for _, c := range []struct {
		what string
		on   [2]int // bad sends
	}{{"on both", [2]int{3, 3}}, {"on the other", [2]int{0, 6}}, {"on the first", [2]int{6, 0}}} {
		n := newNodes(t, quarter)
		n.setNow(n[0].now.Add(12 * time.Hour))
		colleagues := func() {
			for i, mailbox := range []string{"ann@a.example", "ben@a.example"} {
				n[i].delivers(repeat(mailbox, 3)...)
			}
		}
		colleagues()
		n.pass(25 * time.Hour)
		colleagues()
		for i, times := range c.on {
			n[i].sendsOf(n[i].failed, noSuchUser, repeat("eve@a.example", times)...)
		}
		for range 6 {
			n.pass(time.Second)
		}
		alone := func(when string, want sidecar.Action) {
			t.Helper()
			for _, s := range n {
				if got := s.ask(s.from("eve@a.example", sidecar.StageRcpt, s.now)); got.Action != want {
					t.Errorf("%s, %s, %s: the culprit is answered %+v", c.what, s.name, when, got)
				}
				if got := s.ask(s.from("ann@a.example", sidecar.StageRcpt, s.now)); got.Action != sidecar.Accept {
					t.Errorf("%s, %s, %s: a colleague is answered %+v", c.what, s.name, when, got)
				}
				if _, err := os.Stat(s.lockPath("max_deferfail_a.example")); err == nil {
					t.Errorf("%s, %s, %s: the domain has a lock file", c.what, s.name, when)
				}
			}
		}
		alone("stopped", sidecar.Defer)
		if all, err := n[1].Stops(n[1].now, ""); err != nil || len(all) != 1 || all[0].Node != "node1" {
			t.Errorf("%s: the stops are %+v, %v", c.what, all, err)
		}
		for range 5 {
			n.pass(6 * time.Minute)
		}
		colleagues()
		alone("after half an hour", sidecar.Defer)
		for range 8 {
			n.pass(6 * time.Minute)
			for _, s := range n {
				s.Forget(s.now)
			}
		}
		colleagues()
		alone("out of the window", sidecar.Accept)
	}
}

// The other node leaves out its bad sends of who was stopped as soon as it learns of the stop.
// Until then they do not trip the domain.
func TestBadSendsOverTheOtherNodeAreLeftOut(t *testing.T) {
	n := newNodes(t, quarter)
	n.setNow(n[0].now.Add(12 * time.Hour))
	n[0].delivers(repeat("ann@a.example", 3)...)
	n.pass(25 * time.Hour)
	n[0].delivers(repeat("ann@a.example", 3)...)
	n[1].sendsOf(n[1].failed, noSuchUser, repeat("eve@a.example", 6)...)
	for range 2 { // the second hears of the question, the first of the answer
		n[0].Changed("a.example")
		n[0].Reconcile(t.Context(), n[0].now)
		if all, _ := n[0].Stops(n[0].now, ""); len(all) == 0 {
			n[1].Reconcile(t.Context(), n[1].now)
		}
	}
	bad := func() int64 { return n[0].store.Standing(n[0].now, "a.example").Windows[0].Bad() }
	if all, err := n[0].Stops(n[0].now, ""); err != nil || len(all) != 1 || bad() != 6 {
		t.Fatalf("the stops are %+v, %v, and %d are bad", all, err, bad())
	}
	n[0].Changed("a.example")
	n[0].Reconcile(t.Context(), n[0].now)
	n[0].want(n[0].ask(n[0].from("ann@a.example", sidecar.StageRcpt, n[0].now)), sidecar.Accept, "")
	n[1].Reconcile(t.Context(), n[1].now)
	if bad() != 0 {
		t.Errorf("%d are bad", bad())
	}
}

// A node that is there and does not answer is not waited for for long, and nor is one that
// should decide and does not: what it has is unknown, and so the domain trips as before.
func TestANodeThatDoesNotAnswer(t *testing.T) {
	for i := range 2 {
		n := newNodes(t, quarter)
		s := n[i]
		n.setNow(n[0].now.Add(12 * time.Hour))
		s.sendsOf(s.failed, noSuchUser, repeat("eve@a.example", 9)...)
		tripped := func() bool {
			s.Reconcile(t.Context(), s.now)
			return s.ask(s.from("ann@a.example", sidecar.StageRcpt, s.now)).Action == sidecar.Reject
		}
		for after, want := range []bool{false, false, i == 0, i == 0, true} {
			if got := tripped(); got != want {
				t.Errorf("%s, after %d seconds: tripped is %v", s.name, after, got)
			}
			s.now = s.now.Add(time.Second)
		}
	}
}
