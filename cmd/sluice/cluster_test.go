package main

import (
	"fmt"
	"strings"
	"testing"

	"sluice/ratelimit/redisstore/redistest"
)

// startClustered serves a node of a cluster of two.
func startClustered(t *testing.T, name, url string) *servedNode {
	t.Helper()
	dir := t.TempDir()
	return startServeWith(t, dir, strings.Replace(serveConfig(dir), `node = "mx1.example"`,
		fmt.Sprintf("node = %q\nurl = %q\nnodes = 2", name, url), 1))
}

// Without Redis a node starts, says so and keeps to its share: of a limit of 10
// and two nodes 2. When Redis comes it is told of them.
func TestServeStartsWithRedisDown(t *testing.T) {
	r := redistest.Start(t)
	r.Kill()
	n := startClustered(t, "mx1.example", r.URL())
	within(t, "saying so", func() bool { return strings.Contains(n.log.String(), "Redis cannot be asked") })
	if got := n.sendAll(t, 0, 4); got != 2 {
		t.Errorf("%d accepted without Redis, want 2", got)
	}
	out, code := n.sluice(t, "status")
	if code != exitDone || !strings.Contains(out, `This node decides alone (store.outage = "share")`) || !strings.Contains(out, "connection refused") {
		t.Errorf("status without Redis: exit %d\n%s", code, out)
	}
	r.Start()
	within(t, "Redis deciding", func() bool { return strings.Contains(n.log.String(), "Redis decides again") })
	if got := n.sendAll(t, 4, 20); got != 8 {
		t.Errorf("%d accepted with Redis, want 8 of 10", got)
	}
	within(t, "the node in status", func() bool {
		out, _ := n.sluice(t, "status")
		return strings.Contains(out, "mx1.example") && strings.Contains(out, "shared") && !strings.Contains(out, "alone")
	})
}

// Two nodes have one limit.
func TestNodesShareOneLimit(t *testing.T) {
	r := redistest.Start(t)
	a, b := startClustered(t, "mx1.example", r.URL()), startClustered(t, "mx2.example", r.URL())
	for _, n := range []*servedNode{a, b} {
		within(t, "both nodes in status", func() bool {
			out, _ := n.sluice(t, "status")
			return strings.Contains(out, "mx1.example") && strings.Contains(out, "mx2.example") && !strings.Contains(out, "alone")
		})
	}
	if first, second := a.sendAll(t, 0, 6), b.sendAll(t, 6, 20); first != 6 || second != 4 {
		t.Errorf("%d and %d accepted, want 6 and 4", first, second)
	}
}
