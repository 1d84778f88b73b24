package main

import (
	"fmt"
	"strings"
	"testing"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// B-04: a Redis Cluster that cannot be asked from the start. The log, status and doctor
// say why, in the words of the server, and doctor draws no conclusion about store.nodes
// from nodes that nobody has told of.
//
//	sluice serve ─→ nobody, or a Redis that is no Cluster, or wants a password
func TestAClusterThatIsNeverReached(t *testing.T) {
	t.Parallel()
	locked := redistest.Start(t)
	locked.Do("config", "set", "requirepass", "secret99")
	plain := redistest.Start(t)
	for _, c := range []struct{ url, why string }{
		{fmt.Sprintf("redis-cluster://127.0.0.1:%d", hosttest.FreePort(t)), "connection refused"},
		{"redis-cluster://" + locked.Addr(), "NOAUTH Authentication required."},
		{"redis-cluster://" + plain.Addr(), "ERR This instance has cluster support disabled"},
		{locked.URL(), "NOAUTH Authentication required."},
	} {
		t.Run(c.url, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			n := startServeWith(t, dir, clusterConfig(dir, "mx1.example", c.url))
			_, server, _ := strings.Cut(c.url, "://")
			n.eventuallySays(t, c.why, "status")
			logged := false
			for line := range strings.Lines(n.log.String()) {
				logged = logged || strings.Contains(line, "level=WARN") && strings.Contains(line, "Redis cannot be asked") && strings.Contains(line, c.why)
			}
			if !logged {
				t.Errorf("the log does not say why:\n%s", n.log)
			}
			out, _ := n.sluice(t, "status")
			if !strings.Contains(out, "WARNING: Redis "+server+" cannot be asked since ") || !strings.Contains(out, "is not known until Redis answers") {
				t.Errorf("status:\n%s", out)
			}
			out, _ = n.sluice(t, "doctor")
			if !strings.Contains(out, "wrong  Redis "+server+": does not decide since ") || !strings.Contains(out, c.why) || strings.Contains(out, "store.nodes") {
				t.Errorf("doctor:\n%s", out)
			}
		})
	}
}
