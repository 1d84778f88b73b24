package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/sidecar/event"
)

// TestMillionDomains is for make bench: a million domains with ten sends each,
// spread over ten minutes, charged through the journal in a process that tends
// its memory as serve does. Asked for are at most 600 MB resident at the peak,
// and a start within 3 s.
func TestMillionDomains(t *testing.T) {
	if os.Getenv("SLUICE_BENCH") == "" {
		t.Skip("SLUICE_BENCH is not set")
	}
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	store := openMillion(t, dir)
	var loops errgroup.Group
	loops.Go(func() error { return tuneGC(ctx) })
	loops.Go(func() error { return store.Run(ctx) })
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	began := time.Now()
	for i := range 10 {
		now := start.Add(time.Duration(i) * time.Minute)
		for d := range 1_000_000 {
			_, err := store.Take(ctx, now, ratelimit.Take{
				Subjects: []ratelimit.Subject{{
					Name:   fmt.Sprintf("customer-%d.example.com", d),
					Limits: []ratelimit.Limit{{Window: time.Hour, Max: 500}},
				}},
				Tokens: []ratelimit.Token{ratelimit.Token(rand.Uint64())},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	took := time.Since(began)
	stop()
	if err := loops.Wait(); err != nil {
		t.Fatal(err)
	}
	highest := peakMB(t)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	store = nil
	runtime.GC()
	began = time.Now()
	store = openMillion(t, dir)
	opened := time.Since(began)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if highest > 600 || opened > 3*time.Second {
		t.Errorf("the peak is over 600 MB, or the start over 3 s")
	}
	t.Logf("10 million sends of a million domains in %v; peak resident %d MB, start %v", took.Round(time.Second), highest, opened.Round(10*time.Millisecond))
}

func openMillion(t *testing.T, dir string) *journal.Store {
	t.Helper()
	store, err := journal.Open(dir, journal.Options{
		Reporter: storeEvents{event.NewLog(slog.New(slog.NewTextHandler(os.Stderr, nil)))},
		Ledger:   ratelimit.Options{Keep: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// peakMB is the highest resident memory of this process so far, in 10^6 bytes.
func peakMB(t *testing.T) (mb int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(peak, &mb); err != nil {
		t.Fatal(err)
	}
	return mb * 1024 / 1_000_000
}
