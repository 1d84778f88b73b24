package redisstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// BenchmarkTake is decisions of the store, beside those of redis-benchmark
// running the same script unpipelined with as many connections.
func BenchmarkTake(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			r := redistest.Start(b)
			n := startNode(b, Options{URL: "unix://" + filepath.Join(r.Dir, "s"), Timeout: time.Second})
			plain := redisBenchmark(b, r, callers)
			b.ResetTimer()
			start := time.Now()
			var running sync.WaitGroup
			for c := range callers {
				running.Go(func() {
					for i := c; i < b.N; i += callers {
						domain := hourly("d"+strconv.Itoa(i%1000)+".example", 1_000_000)
						t := ratelimit.Take{Subjects: []ratelimit.Subject{domain}, Tokens: []ratelimit.Token{ratelimit.Token(rand.Uint64())}}
						if res, err := n.Take(context.Background(), time.Now(), t); err != nil || !res.OK {
							b.Errorf("%+v, %v", res, err)
							return
						}
					}
				})
			}
			running.Wait()
			rate := float64(b.N) / time.Since(start).Seconds()
			b.ReportMetric(rate, "decisions/s")
			b.ReportMetric(plain, "redis-benchmark/s")
			b.ReportMetric(rate/plain, "ratio")
		})
	}
}

// redisBenchmark has redis-benchmark run takes, one a round trip.
func redisBenchmark(b *testing.B, r *redistest.Server, connections int) float64 {
	b.Helper()
	domain := hourly("d__rand_int__.example", 1_000_000)
	c := takeCall(terms{keep: 61 * time.Minute, horizon: 61 * time.Minute, attempt: 1}, ratelimit.Take{Subjects: []ratelimit.Subject{domain}})
	args := []string{"-s", filepath.Join(r.Dir, "s"), "-c", strconv.Itoa(connections), "-n", "100000", "-r", "1000", "--csv",
		"EVALSHA", c.sha, strconv.Itoa(len(c.keys))}
	args = append(args, c.keys...)
	r.Do("script", "load", c.source)
	for i, a := range c.args {
		if i == len(c.args)-2 { // the token
			a = "__rand_int__"[:0] + "x__rand_int__"[1:]
		}
		args = append(args, fmt.Sprint(a))
	}
	out, err := exec.Command(hosttest.Program(b, "redis-benchmark"), args...).CombinedOutput()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	m := regexp.MustCompile(`",?"([0-9.]+)"`).FindAllSubmatch(out, -1)
	if m == nil {
		b.Fatalf("redis-benchmark printed %s", out)
	}
	rate, _ := strconv.ParseFloat(string(m[0][1]), 64)
	r.Do("flushall")
	r.Do("script", "load", c.source)
	return rate
}
