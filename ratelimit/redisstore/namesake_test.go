package redisstore

import (
	"errors"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// A namesake is there after two beats in a row that found its sign, and gone after three that
// did not.
func TestANamesakeIsFoundAndGone(t *testing.T) {
	for _, test := range []struct{ signs, want string }{
		{"ooooo", "....."},
		{"xoxoxo", "......"}, // a node that was restarted again and again
		{"oxxx", "..!!"},
		{"xxooxooo", ".!!!!!!."},
		{"xxooo", ".!!!."},
	} {
		now := time.Now()
		n := namesakes{since: now}
		got := ""
		for _, sign := range test.signs {
			n.sign(now.Add(beatEvery/5), false) // a sign between two beats
			now = now.Add(beatEvery)
			n.sign(now, sign == 'x')
			if n.live.Load() {
				got += "!"
			} else {
				got += "."
			}
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.signs, got, test.want)
		}
	}
}

// A machine and its clone have one name: without Redis each of three nodes would accept a third
// of what is left, and the clone too, 140 of 120 in all.
func TestNamesakesHaveTwoShares(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	var nodes []*node
	for _, name := range []string{"mx1", "mx2", "clone", "clone"} {
		nodes = append(nodes, openNode(t, t.TempDir(), Options{URL: r.URL(), Node: name, Nodes: 3, Timeout: hosttest.Deadline(200 * time.Millisecond)}))
	}
	clones := nodes[2:]
	for _, n := range clones {
		hosttest.Eventually(t, "a namesake", func() bool { return n.Status().Namesake && n.mode() == "share" && n.heard.has("namesake") })
	}
	domain, accepted, sent := hourly("a.example", 120), 0, 0
	send := func(n *node, sends int) {
		for range sends {
			sent++
			res, err := n.take(take(sent, 1, domain))
			if err != nil && !errors.Is(err, ratelimit.ErrUncounted) {
				t.Fatal(err)
			}
			if res.OK {
				accepted++
			}
		}
	}
	for _, n := range clones {
		for range 30 {
			sent++
			if ok, err := insist(n, take(sent, 1, domain)); !ok || err != nil {
				t.Fatal(ok, err)
			}
			accepted++
		}
	}
	for _, n := range nodes {
		hosttest.Eventually(t, "the feed", func() bool { return n.usage.used(domain.Name, time.Hour) == 60 && n.nodes.count(3) == 4 })
	}
	for _, n := range nodes[:2] {
		if n.Status().Namesake || n.mode() != modeShared {
			t.Errorf("who has a name of its own: %+v", n.Status())
		}
	}
	r.Kill()
	for _, n := range nodes {
		n.alone()
		send(n, 60)
	}
	if accepted != 120 {
		t.Errorf("%d of 120 accepted", accepted)
	}
	r.Start()
	for _, n := range nodes {
		hosttest.Eventually(t, "merged", func() bool { return n.Status().Unmerged == 0 })
	}
	clones[1].stop()
	clones[0].shared()
	if st := clones[0].Standing(clones[0].time(), domain.Name); clones[0].Status().Namesake || !clones[0].heard.has("namesake gone") || st.Windows[0].Sent != 120 {
		t.Errorf("%+v, %+v\n%s", st, clones[0].Status(), clones[0].heard)
	}
}
