package policytest

import (
	"path/filepath"
	"testing"
	"time"

	"sluice/sidecar/policyd"
)

// Bench measures the server on the socket subject beside one that does nothing: with
// persistent connections and with a connection for each question, of 8 and of 64 clients.
func Bench(b *testing.B, subject string) {
	base := filepath.Join(b.TempDir(), "echo")
	ln, err := policyd.Listen(base)
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		Echo(ln, []byte("action=DUNNO\nroom=1000000\n\n"))
		close(ended)
	}()
	defer func() { ln.Close(); <-ended }()
	// A server runs for months, so what it does at first is not measured: it gets memory
	// from the system page by page, and has none to reuse.
	warm := Load{Server: Server{Network: "unix", Path: subject}, Clients: 8, For: 12 * time.Second}
	if _, err := warm.run(); err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct {
		name string
		load Load
	}{
		{"kept-8", Load{Clients: 8}},
		{"kept-64", Load{Clients: 64}},
		{"fresh-8", Load{Clients: 8, Fresh: true}},
		{"fresh-64", Load{Clients: 64, Fresh: true}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			for b.Loop() {
				bb.load.For, bb.load.Domains = 250*time.Millisecond, 100
				r, err := Compare(bb.load, base, subject, 15)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(r.Base, "echo/s")
				b.ReportMetric(r.Subject, "subject/s")
				b.ReportMetric(r.Ratio, "ratio")
			}
		})
	}
}
