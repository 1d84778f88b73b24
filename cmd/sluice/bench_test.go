package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/policyd"
	"sluice/sidecar/policyd/policytest"
)

// BenchmarkDecisions measures a whole node, with its journal on, beside a
// server that does nothing: questions that look and questions that charge,
// half and half. The ratios asked for are 0.85 with kept connections and 0.9
// with a connection for each question.
func BenchmarkDecisions(b *testing.B) {
	dir := b.TempDir()
	echo, subject := filepath.Join(dir, "echo"), filepath.Join(dir, "policy")
	benchEcho(b, echo)
	benchNode(b, dir, subject)
	for _, bb := range []struct {
		name string
		load policytest.Load
	}{
		{"kept-8", policytest.Load{Clients: 8}},
		{"kept-64", policytest.Load{Clients: 64}},
		{"fresh-8", policytest.Load{Clients: 8, Fresh: true}},
		{"fresh-64", policytest.Load{Clients: 64, Fresh: true}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			for b.Loop() {
				bb.load.For, bb.load.Domains = 250*time.Millisecond, 100
				r, err := policytest.Compare(bb.load, echo, subject, 11)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(r.Base, "echo/s")
				b.ReportMetric(r.Subject, "sluice/s")
				b.ReportMetric(r.Ratio, "ratio")
			}
		})
	}
}

func benchEcho(b *testing.B, path string) {
	ln, err := policyd.Listen(path)
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		policytest.Echo(ln, []byte("action=DUNNO\nroom=1000000\n\n"))
		close(ended)
	}()
	b.Cleanup(func() { ln.Close(); <-ended })
}

func benchNode(b *testing.B, dir, socket string) {
	c, err := sidecar.ParseConfig("bench.toml", fmt.Sprintf(`
[listen]
policy = ["unix:%[2]s"]
admin = "unix:%[1]s/admin"
[store]
dir = "%[1]s/ledger"
node = "bench"
[locks]
dir = "%[1]s/locks"
[exim]
local_domains = ["local.example"]
[limits]
hourly = 1000000000
`, dir, socket))
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
}
