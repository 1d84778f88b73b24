package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit"
)

// BenchmarkTake charges one send each, from many callers at once; what is
// measured includes the write.
func BenchmarkTake(b *testing.B) {
	s := open(b, b.TempDir(), &heard{})
	defer s.abandon()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			token := ratelimit.Token(rand.Uint64())
			s.Take(context.Background(), time.Now(), take("d"+strconv.Itoa(int(token%10000))+".example", 0, token))
		}
	})
}

// TestMillionDomains is run by make bench: a million domains with ten sends
// each over ten minutes. It prints the peak of the resident memory and how
// long a start from the journal takes.
func TestMillionDomains(t *testing.T) {
	if os.Getenv("SLUICE_BENCH") == "" {
		t.Skip("SLUICE_BENCH is not set")
	}
	dir := t.TempDir()
	s := open(t, dir, &heard{})
	for i := range 10 {
		now := start.Add(time.Duration(i) * time.Minute)
		for d := range 1_000_000 {
			s.ledger.Take(now, take(fmt.Sprintf("customer-%d.example.com", d), 500, ratelimit.Token(rand.Uint64())))
		}
		s.tend()
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	t.Logf("live heap %d MB, peak resident %s", m.HeapAlloc>>20, peak())
	s.abandon()
	s = nil
	runtime.GC()
	began := time.Now()
	s = open(t, dir, &heard{})
	t.Logf("start from %d MB took %v", dirSize(t, dir)>>20, time.Since(began))
	s.abandon()
}

func peak() string {
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}
