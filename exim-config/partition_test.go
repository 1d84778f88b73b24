package eximconfig_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/operator"
)

// Two nodes, a Redis and the rest of the world in network namespaces, with a
// cable from each node to each of the others:
//
//	         ┌─→ mx1: Exim, sluice ─ cable ─┐
//	clients ─┤                              ├─→ redis-server
//	         └─→ mx2: Exim, sluice ─ cable ─┘
//	sink ←────── mx1, mx2
//
// The cable of mx1 to Redis is pulled, and put in again.

// A city has them all.
type city struct {
	t        testing.TB
	world    *netns // clients and the sink
	redis    *netns
	nodes    [2]*host
	sink     *hosttest.Sink
	accepted int // recipients in all
	number   int
	slowest  time.Duration // of all SMTP commands
}

func newCity(t *testing.T, limits string) *city {
	t.Helper()
	needExim(t)
	c := &city{t: t, world: newNetns(t), redis: newNetns(t)}
	c.world.in(t, func() { c.sink = hosttest.NewSinkOn(t, "0.0.0.0:25") })
	config := firstInstallation(t, "debian", "perl").dir
	for i := range c.nodes {
		net := newNetns(t)
		world, redis := fmt.Sprintf("10.1.%d.", i+1), fmt.Sprintf("10.2.%d.", i+1)
		link(t, port{c.world, fmt.Sprintf("mx%d", i+1), world + "1"}, port{net, "world", world + "2"})
		link(t, port{c.redis, fmt.Sprintf("mx%d", i+1), redis + "1"}, port{net, "redis", redis + "2"})
		h := bootHost(t, config, "debian", "perl", net)
		h.ip = world + "2"
		h.write(t, "/etc/exim4/sinks", "*: "+world+"1::25\n")
		c.nodes[i] = h
	}
	var r *redistest.Server
	c.redis.in(t, func() { r = redistest.Start(t, "--bind", "0.0.0.0", "--protected-mode", "no") })
	for i, h := range c.nodes {
		h.startNode(t, fmt.Sprintf("mx%d.example", i+1), fmt.Sprintf("redis://10.2.%d.1:%d", i+1, r.Port), limits)
		c.world.in(t, func() { h.startExim(t) })
	}
	return c
}

// offer sends so many messages of a domain through a node, and returns how many
// were accepted and what was said of the last one that was not.
func (c *city) offer(i int, domain string, messages int) (accepted int, refusal string) {
	c.t.Helper()
	var client *hosttest.Client
	for k := range messages {
		if k%8 == 0 { // Exim leaves what comes after ten in the queue
			c.world.in(c.t, func() { client = c.nodes[i].dial(c.t) })
			client.Login("news@" + domain)
		}
		c.number++
		client.Mail("news@" + domain)
		reply := client.Rcpt(fmt.Sprintf("r%d@far.example", c.number))
		if reply.Code == 250 {
			reply = client.Data(hosttest.Letter("x"))
		} else {
			client.Want(client.Cmd("RSET"), 250)
		}
		switch reply.Code {
		case 250:
			accepted++
		case 450:
			refusal = reply.Text
		default:
			c.t.Fatalf("mx%d says %v", i+1, reply)
		}
		c.slowest = max(c.slowest, client.Slowest)
	}
	c.accepted += accepted
	return accepted, refusal
}

// want is offer where it is known how many are accepted, and why no more.
func (c *city) want(i int, domain string, messages, accepted int, refusal string) {
	c.t.Helper()
	if got, text := c.offer(i, domain, messages); got != accepted || !strings.Contains(text, refusal) || got == messages && text != "" {
		c.t.Errorf("mx%d accepted %d of %d of %s, want %d; it says %q, want %q", i+1, got, messages, domain, accepted, text, refusal)
	}
}

// status is what sluice tells on a node.
func (c *city) status(i int) operator.Status {
	c.t.Helper()
	s := c.nodes[i].all(c.t)
	if s.Totals.Shared == nil {
		c.t.Fatalf("status of mx%d: %+v", i+1, s)
	}
	return s
}

// locks are the lock files of a node, by name.
func (c *city) locks(i int) (names []string) {
	c.t.Helper()
	entries, err := os.ReadDir(c.nodes[i].path(lockDir))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "max_") {
			names = append(names, e.Name())
		}
	}
	return names
}

// shared waits until Redis decides for both nodes and is owed nothing.
func (c *city) shared() {
	c.t.Helper()
	for i := range c.nodes {
		hosttest.Eventually(c.t, "Redis decides", func() bool {
			st := c.status(i).Totals.Shared
			return st.Mode == "shared" && st.Unmerged == 0 && len(st.Nodes) == 2
		})
	}
}

// same waits until both nodes have the same lock files.
func (c *city) same(want ...string) {
	c.t.Helper()
	for i := range c.nodes {
		hosttest.Eventually(c.t, fmt.Sprintf("on mx%d %v", i+1, want), func() bool { return cmp.Equal(c.locks(i), want) })
	}
}

func TestPartitionOfTwoNodes(t *testing.T) {
	t.Parallel()
	const limit, over = 40, "has exceeded the max emails per hour"
	late := hosttest.Lateness(t)
	c := newCity(t, fmt.Sprintf("[limits]\nhourly = %d\ndefer_cutoff = 1000", limit))
	c.shared()
	c.want(0, "trip.example", 15, 15, "")
	c.want(1, "trip.example", 30, 25, over)
	c.want(0, "trip.example", 2, 0, over)
	c.nodes[1].run(t, c.nodes[1].sluice(t, "lock", "free.example")...)
	c.same("max_hourly_free.example", "max_hourly_trip.example")
	c.want(0, "shop.example", 12, 12, "")
	c.want(1, "shop.example", 12, 12, "")
	c.nodes[0].run(t, c.nodes[0].sluice(t, "check", "--stage", "rcpt", "--auth", "news@shop.example", "--sender", "news@shop.example",
		"--client-address", "192.0.2.1", "--recipient", "x@far.example")...) // who looks has seen all 24

	c.redis.ip(t, "link", "set", "mx1", "down")
	c.want(0, "shop.example", 20, (limit-24)/2, "Domain shop.example cannot be counted now")
	c.want(0, "fresh.example", 10, 10, "")
	c.want(1, "shop.example", 20, limit-24, over)
	total := 24 + (limit-24)/2 + limit - 24
	if most := limit * 5 / 4; total > most {
		t.Fatalf("%d accepted, of %d at most", total, most)
	}
	if st := c.status(0).Totals.Shared; st.Mode != "share" || st.Unmerged == 0 {
		t.Errorf("mx1 says of itself %+v", st)
	}
	if st := c.status(1).Totals.Shared; st.Mode != "shared" {
		t.Errorf("mx2 says of itself %+v", st)
	}
	if err := os.Remove(c.nodes[0].path(lockDir + "/max_hourly_free.example")); err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, "mx1 sends what its hand has released", func() bool { n, _ := c.offer(0, "free.example", 1); return n == 1 })
	c.nodes[1].run(t, c.nodes[1].sluice(t, "lock", "held.example")...)

	c.redis.ip(t, "link", "set", "mx1", "up")
	c.shared()
	c.same("max_hourly_held.example", "max_hourly_shop.example", "max_hourly_trip.example")
	for domain, want := range map[string]int64{"shop.example": int64(total), "fresh.example": 10, "free.example": 1, "trip.example": limit} {
		for i, h := range c.nodes {
			if got := h.status(t, domain).Sent; got != want {
				t.Errorf("mx%d counts %d of %s, want %d", i+1, got, domain, want)
			}
		}
	}
	c.want(0, "held.example", 1, 0, "Domain held.example is locked")
	c.want(1, "free.example", 1, 1, "")
	hosttest.Eventually(t, "all that was accepted is delivered", func() bool { return c.sink.Count() == c.accepted })
	// A command wakes some ten sleepers, in Exim, sluice and Redis.
	hosttest.NotLonger(t, "an SMTP command", c.slowest, deadline+slack+10*late())
	t.Logf("%d messages, the slowest command took %v; sleepers were %v late at the worst", c.number, c.slowest, late())
}
