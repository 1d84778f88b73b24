package policyd_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/policyd"
	"sluice/sidecar/policyd/policytest"
)

// BenchmarkAgainstEcho measures what the protocol costs: a server with an
// Asker that does nothing, beside the echo server. The ratios asked for are
// 0.85 with kept connections and 0.9 with a connection for each question.
func BenchmarkAgainstEcho(b *testing.B) {
	dir := b.TempDir()
	echo, subject := filepath.Join(dir, "echo"), filepath.Join(dir, "policy")
	ln, err := policyd.Listen(echo)
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		policytest.Echo(ln, []byte("action=DUNNO\nroom=1000000\n\n"))
		close(ended)
	}()
	defer func() { ln.Close(); <-ended }()
	pln, err := policyd.Listen(subject)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- policyd.New(nothing{}, policyd.Options{}).Serve(ctx, pln) }()
	defer func() { cancel(); <-served }()

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
				b.ReportMetric(r.Subject, "policyd/s")
				b.ReportMetric(r.Ratio, "ratio")
			}
		})
	}
}

// nothing is an Asker that does nothing.
type nothing struct{}

func (nothing) Ask(context.Context, time.Time, sidecar.Request) sidecar.Reply {
	return sidecar.Reply{Room: sidecar.RoomUnlimited}
}
