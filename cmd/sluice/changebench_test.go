package main

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/history"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/policyd/policytest"
)

// BenchmarkChange measures `sluice set` as the socket answers it, after ten other changes and
// after ten thousand, each of a domain of its own, by a node alone and by one of two that
// share a Redis; and when the other one of those has it in force.
//
//	sluice set ──▶ mx1 ──▶ Redis ──▶ mx2
func BenchmarkChange(b *testing.B) {
	for _, store := range []string{"alone", "redis"} {
		for _, before := range []int{10, 10_000} {
			b.Run(fmt.Sprintf("%s/after=%d", store, before), func(b *testing.B) { benchChange(b, store == "redis", before) })
		}
	}
}

func benchChange(b *testing.B, shared bool, before int) {
	dir, other, url := b.TempDir(), b.TempDir(), config.Embedded
	if shared {
		url = "unix://" + redistest.Start(b).Socket()
	}
	store := fmt.Sprintf("url = %q\nnodes = 2\ntimeout = \"1s\"", url)
	n := benchNode(b, dir, filepath.Join(dir, "policy"), store)
	last := n
	if shared {
		last = benchNode(b, other, filepath.Join(other, "policy"), store)
		hosttest.Eventually(b, "both share", func() bool { return n.sharedStatus().Mode == "shared" && last.sharedStatus().Mode == "shared" })
	}
	for i := range before {
		edit := history.Edit{Scope: fmt.Sprintf("d%d.example", i), Set: []string{fmt.Sprintf("hourly=%d", i+5)}, Who: "root"}
		if _, err := n.engine.Settings.Change(b.Context(), time.Now(), edit); err != nil {
			b.Fatal(err)
		}
	}
	client := admin.NewClient(filepath.Join(dir, "admin"))
	change := 0
	set := func() (answered, everywhere time.Duration) {
		change++
		start := time.Now()
		if _, err := client.Change(b.Context(), admin.ChangeRequest{Scope: "d3.example", Set: []string{fmt.Sprintf("hourly=%d", 1000+change)}}); err != nil {
			b.Fatal(err)
		}
		answered = time.Since(start)
		for inForce := false; !inForce; time.Sleep(100 * time.Microsecond) {
			set := last.engine.Settings.Load().Scope("d3.example").Set("hourly")
			inForce = set != nil && set.Value == int64(1000+change)
		}
		return answered, time.Since(start)
	}
	var took, reached []float64
	for b.Loop() {
		answered, everywhere := set()
		took, reached = append(took, float64(answered.Microseconds())/1000), append(reached, float64(everywhere.Microseconds())/1000)
	}
	b.ReportMetric(policytest.Median(took), "ms-until-answered")
	b.ReportMetric(policytest.Median(reached), "ms-until-in-force-everywhere")
}
