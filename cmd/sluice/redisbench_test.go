package main

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/config"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/policyd/policytest"
)

// BenchmarkRedis measures whole nodes that share their counts in a Redis, through
// the policy socket, beside one that counts by itself: Exim's questions, half of
// them charge. Clients, nodes and masters are all on this machine. Where it has two
// cores, as many masters measure its scheduler more than Redis.
//
//	64 clients, kept connections ─┬─→ sluice, by itself
//	                              ├─→ sluice ─→ one Redis
//	                              └─→ sluice ─→ Redis Cluster of one, two, three masters
func BenchmarkRedis(b *testing.B) {
	names := []string{"embedded", "redis"}
	urls := []string{config.Embedded, "unix://" + redistest.Start(b).Socket()}
	for masters := 1; masters <= 3; masters++ {
		url, _ := redistest.StartCluster(b, masters)
		names, urls = append(names, fmt.Sprintf("cluster-of-%d", masters)), append(urls, url)
	}
	var servers []policytest.Server
	for _, url := range urls {
		dir := b.TempDir()
		servers = append(servers, policytest.Server{Network: "unix", Path: filepath.Join(dir, "policy")})
		n := benchNode(b, dir, servers[len(servers)-1].Path, fmt.Sprintf("url = %q\ntimeout = \"1s\"", url))
		hosttest.Eventually(b, "counting", func() bool { return n.shared == nil || n.sharedStatus().Mode == "shared" })
	}
	for b.Loop() {
		rates, err := policytest.Rates(policytest.Load{Clients: 64, For: 500 * time.Millisecond, Domains: 100}, servers, 9)
		if err != nil {
			b.Fatal(err)
		}
		for i, name := range names {
			rate := policytest.Median(rates[i])
			b.Logf("%-12s %7.0f answers/s, %.2f of one Redis", name, rate, rate/policytest.Median(rates[1]))
			b.ReportMetric(rate, name+"/s")
		}
	}
}
