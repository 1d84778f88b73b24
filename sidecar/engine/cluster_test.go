package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

// A stolen mailbox sends over both nodes in turn. Its colleagues send over one of them, so that
// the other knows of them only by what it is told: none of them is refused, and the limit holds.
func TestAStolenMailboxOnTwoNodes(t *testing.T) {
	n := newNodes(t, "[limits]\nhourly = 100\n")
	var at [2]*office
	for i := range at {
		at[i] = &office{site: n[i], max: 100, messages: i * 50_000}
		at[i].clear()
	}
	var accepted []time.Time
	worst := 0
	run := func(minutes int, people ...rate) {
		for m := range minutes {
			for i, p := range people {
				for k := (m*p.hourly + i) / 60; k < ((m+1)*p.hourly+i)/60; k++ {
					node := 1
					if i == 0 {
						node = k % 2
					}
					if at[node].try(p.name, 1) > 0 {
						accepted = append(accepted, n[0].now)
					}
				}
			}
			for len(accepted) > 0 && !accepted[0].After(n[0].now.Add(-time.Hour)) {
				accepted = accepted[1:]
			}
			worst = max(worst, len(accepted))
			n.pass(time.Minute)
		}
	}
	people := append([]rate{{"eve", 4}}, colleagues...)
	for day := range 4 {
		n.setNow(time.Date(2026, 3, 2+day, 9, 0, 0, 0, time.UTC))
		run(5*60, people...)
	}
	n.setNow(time.Date(2026, 3, 6, 9, 0, 0, 0, time.UTC))
	run(2*60, people...)
	if refused := at[0].refusedOf(people...) + at[1].refusedOf(people...); refused > 0 {
		t.Fatalf("%d are refused before", refused)
	}
	run(5*60, append([]rate{{"eve", 30 * 60}}, colleagues...)...)
	t.Logf("sent %v and %v, refused %v and %v, at most %d in an hour", at[0].sent, at[1].sent, at[0].refused, at[1].refused, worst)
	if at[0].refusedOf(colleagues...)+at[1].refusedOf(colleagues...) > 0 || worst > 100 {
		t.Error("colleagues are refused, or the limit is exceeded")
	}
	if at[0].refused["eve"] == 0 || at[1].refused["eve"] == 0 {
		t.Error("the stolen mailbox is not refused on both")
	}
}
