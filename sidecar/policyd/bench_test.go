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
// Asker that does nothing, beside the echo server.
func BenchmarkAgainstEcho(b *testing.B) {
	subject := filepath.Join(b.TempDir(), "policy")
	ln, err := policyd.Listen(subject)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- policyd.New(nothing{}, policyd.Options{}).Serve(ctx, ln) }()
	defer func() { cancel(); <-served }()
	policytest.Bench(b, subject)
}

// nothing is an Asker that does nothing.
type nothing struct{}

func (nothing) Ask(context.Context, time.Time, sidecar.Request) sidecar.Reply {
	return sidecar.Reply{Room: sidecar.RoomUnlimited}
}
