package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sluice/sidecar"
)

// BenchmarkAsk measures a decision without a socket, by one caller.
func BenchmarkAsk(b *testing.B) {
	for _, stage := range []sidecar.Stage{sidecar.StageRcpt, sidecar.StageData} {
		b.Run(string(stage), func(b *testing.B) {
			s := newSite(b, "[limits]\nhourly = 1000000000\n")
			i := 0
			for b.Loop() {
				i++
				r := authed(stage)
				r.Sender = [...]string{"news@a.example", "news@b.example", "news@c.example"}[i%3]
				r.Auth = r.Sender
				r.ID, r.Recipients, r.Recipient = fmt.Sprintf("1xUzSN-%06d-0q", i), "u@far.example", "u@far.example"
				if got := s.Ask(context.Background(), time.Now(), r); got.Action != sidecar.Accept {
					b.Fatalf("%+v", got)
				}
			}
		})
	}
}
