package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar/config"
	"sluice/sidecar/policyd/policytest"
)

// BenchmarkDecisions measures a whole node, with its journal on, beside a
// server that does nothing: questions that look and questions that charge,
// half and half. The ratios asked for are 0.85 with kept connections and 0.9
// with a connection for each question.
func BenchmarkDecisions(b *testing.B) {
	dir := b.TempDir()
	subject := filepath.Join(dir, "policy")
	benchNode(b, dir, subject)
	policytest.Bench(b, subject)
}

// benchNode runs a node until the bench ends, with more lines of [store].
func benchNode(b *testing.B, dir, socket string, store ...string) *node {
	b.Helper()
	c, err := config.Parse("bench.toml", fmt.Sprintf(`alert.to = []
[listen]
policy = ["unix:%[2]s"]
admin = "unix:%[1]s/admin"
[store]
dir = "%[1]s/ledger"
node = "bench"
%[3]s
[locks]
dir = "%[1]s/locks"
[exim]
local_domains = ["local.example"]
[limits]
hourly = 1000000000
`, dir, socket, strings.Join(store, "\n")))
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n, err := openNode(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- n.run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	return n
}
