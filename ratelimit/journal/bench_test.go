package journal

import (
	"context"
	"math/rand/v2"
	"strconv"
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
