package eximconfig_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// Nodes that share their counts in a real Redis.
//
//	client ─→ Exim ─→ sluice ─┐
//	                          ├─ proxy ─→ redis-server
//	client ─→ Exim ─→ sluice ─┘

// startNode starts the sidecar of a host as one of two nodes, which gives Redis as
// much time as a slow or busy machine needs.
func (h *host) startNode(t testing.TB, name, url, limits string) *process {
	t.Helper()
	h.name, h.store = name, fmt.Sprintf("url = %q\nnodes = 2\n", url)
	if !hosttest.Soak() {
		h.store += fmt.Sprintf("timeout = %q\n", storeTimeout())
	}
	return h.startSluice(t, limits)
}

// storeTimeout is store.timeout where Redis is to answer, however busy the machine is.
func storeTimeout() time.Duration {
	return min(hosttest.Deadline(time.Second).Round(time.Second), 10*time.Second)
}

// outages are what can become of a Redis on which the sidecar counts.
var outages = []struct {
	name     string
	messages int // as of a fault
	begin    func(t *testing.T, r *redistest.Server, p *redistest.Proxy)
}{
	{"Redis is not started", 0, func(_ *testing.T, r *redistest.Server, _ *redistest.Proxy) { r.Kill() }},
	{"Redis is stopped", 0, func(_ *testing.T, r *redistest.Server, _ *redistest.Proxy) { r.Freeze() }},
	{"Redis is not reached", 0, func(_ *testing.T, _ *redistest.Server, p *redistest.Proxy) { p.Set(redistest.Stall) }},
	{"replies of Redis are lost", 0, func(_ *testing.T, _ *redistest.Server, p *redistest.Proxy) { p.Set(redistest.Swallow) }},
	{"Redis flaps", 16, func(t *testing.T, _ *redistest.Server, p *redistest.Proxy) {
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for mode := int32(redistest.Cut); ; mode = redistest.Cut - mode {
				p.Set(mode)
				select {
				case <-stop:
					p.Set(redistest.Pass)
					return
				case <-time.After(200 * time.Millisecond):
				}
			}
		}()
		t.Cleanup(func() { close(stop); <-stopped })
	}},
}

// Mail first, with Redis as what fails: messages of a domain with a limit flow,
// and are altered by nothing.
func TestMailFirstWithoutRedis(t *testing.T) {
	t.Parallel()
	m := newMailer(t, newHost(t))
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			m.mailFlows(t, fault{messages: o.messages, begin: func(t *testing.T, h *host) {
				r := redistest.Start(t)
				p := redistest.StartProxy(t, r.Addr())
				h.run(t, "rm", "-rf", "/run/sluice-store") // of the outage before
				h.name, h.store = "mx1.example", fmt.Sprintf("url = %q\nnodes = 2\n", p.URL())
				h.startSluice(t, "[limits]\nhourly = 20000")
				o.begin(t, r, p)
			}})
		})
	}
}

// An rm on one node releases on the other, in `make soak` within a second, with real
// Exims.
func TestRmOnOneNodeReleasesOnTheOther(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	a, b := newHost(t), newHost(t)
	for i, h := range []*host{a, b} {
		h.startNode(t, fmt.Sprintf("mx%d.example", i+1), r.URL(), "[limits]\nhourly = 20")
		h.startExim(t)
	}
	ca, cb := a.dial(t).Login("news@shop.example"), b.dial(t).Login("news@shop.example")
	ca.Want(ca.Send("news@shop.example", hosttest.Letter("x"), numbered("r%d@far.example", 1, 12)...), 250)
	cb.Want(cb.Send("news@shop.example", hosttest.Letter("x"), numbered("r%d@far.example", 13, 20)...), 250)
	cb.Mail("news@shop.example")
	wantRefused(t, cb.Rcpt("r21@far.example"), 450, hourlyText("shop.example", 21, 20, laterText))
	lock := lockDir + "/max_hourly_shop.example"
	hosttest.Eventually(t, "the lock on both", func() bool { return exists(a.path(lock)) && exists(b.path(lock)) })
	if err := os.Remove(a.path(lock)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	hosttest.Eventually(t, "no lock on the other", func() bool { return !exists(b.path(lock)) })
	hosttest.NotLonger(t, "the release", time.Since(start), time.Second)
	cb.Cmd("RSET")
	cb.Want(cb.Send("news@shop.example", hosttest.Letter("x"), "r22@far.example"), 250)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
