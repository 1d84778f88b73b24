package main

import (
	"strings"
	"testing"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// A machine and its clone, of one name, both say so in the log, status and doctor, and work
// in share, until one of them has stopped.
func TestTwoLiveNodesOfOneName(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	original, clone := startClustered(t, "mx1.example", r.URL()), startClustered(t, "mx1.example", r.URL())
	for _, n := range []*servedNode{original, clone} {
		n.eventuallySays(t, "ERROR: two live nodes are called mx1.example", "status")
		if s := n.whole(t).Totals.Shared; !s.Namesake || s.Mode != "share" || s.Servers[0].Mode != "share" || s.Servers[0].Trouble != "" {
			t.Errorf("%+v", s)
		}
		if out, _ := n.sluice(t, "doctor"); !strings.Contains(out, "wrong  names of nodes: two live nodes are called mx1.example") {
			t.Errorf("doctor:\n%s", out)
		}
		if log := n.log.String(); !strings.Contains(log, "level=ERROR") || strings.Contains(log, "Redis cannot be asked") {
			t.Errorf("the log:\n%s", log)
		}
	}
	if got := original.sendAll(t, 0, 2) + clone.sendAll(t, 2, 4); got != 4 {
		t.Errorf("%d accepted, want 4", got)
	}
	clone.stop()
	hosttest.Eventually(t, "Redis decides", func() bool {
		s := original.whole(t).Totals.Shared
		return s.Mode == "shared" && !s.Namesake && !s.Nodes[0].Namesake
	})
	if got := original.sendAll(t, 10, 20); got != 6 {
		t.Errorf("%d more accepted, want 6 of 10", got)
	}
}
