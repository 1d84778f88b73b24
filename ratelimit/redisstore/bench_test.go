package redisstore

import (
	"context"
	"encoding/csv"
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/ratelimit"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// BenchmarkTake is decisions of the store, beside redis-benchmark, which runs
// the same script with as many connections and waits for each reply: the one
// and the other in turn on one Redis, each for the same number of takes, of two
// sends of another domain each. The figures are medians of the rounds, the ratio
// of those of each round.
func BenchmarkTake(b *testing.B) {
	b.Run("callers=64", func(b *testing.B) {
		r, n := benchNode(b)
		var ours, plain, ratios []float64
		inTurn(r, 15, []func(){
			func() { ours = append(ours, rate(64, 20_000, func() { n.decide(b) })) },
			func() {
				rate, _ := redisBenchmark(b, r, n, 64, 20_000)
				plain = append(plain, rate)
			},
		})
		for i := range ours {
			ratios = append(ratios, ours[i]/plain[i])
		}
		b.ReportMetric(median(ratios), "ratio")
		b.ReportMetric(median(ours), "decisions/s")
		b.ReportMetric(median(plain), "redis-benchmark/s")
		b.ReportMetric(0, "ns/op")
	})
	// What a lone caller waits for the store, of that for the link, whose pipelines
	// are not to cost him anything, and for that client of Redis without either, with
	// the same deadline, call by call in turn. The median call: what others do on the
	// machine is in the mean.
	b.Run("callers=1", func(b *testing.B) {
		r, n := benchNode(b)
		c := redis.NewClient(&redis.Options{Network: "unix", Addr: r.Socket(), ContextTimeoutEnabled: true})
		defer c.Close()
		names := []string{"µs/decision", "link-µs", "go-redis-µs"}
		calls := []func(){
			func() { n.decide(b) },
			func() { n.linkCall(b) },
			func() { n.plainCall(b, c) },
		}
		took := make([][]float64, len(calls))
		for range 20_000 {
			for i, f := range calls {
				start := time.Now()
				f()
				took[i] = append(took[i], float64(time.Since(start).Nanoseconds())/1000)
			}
		}
		for i, name := range names {
			b.ReportMetric(median(took[i]), name)
		}
		_, plain := redisBenchmark(b, r, n, 1, 20_000)
		b.ReportMetric(plain, "redis-benchmark-µs")
		b.ReportMetric(0, "ns/op")
	})
}

func benchNode(b *testing.B) (*redistest.Server, *node) {
	r := redistest.Start(b)
	return r, startNode(b, Options{URL: "unix://" + r.Socket(), Timeout: time.Second})
}

// inTurn runs parts so many times, each time another one first, on an empty Redis.
func inTurn(r *redistest.Server, rounds int, parts []func()) {
	for round := range rounds {
		for i := range parts {
			parts[(i+round)%len(parts)]()
			r.Do("flushdb")
		}
	}
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// decide has the store decide on one take.
func (n *node) decide(b *testing.B) {
	if res, err := n.take(randomTake()); err != nil || !res.OK || res.Charged != 2 {
		b.Errorf("%+v, %v", res, err)
	}
}

// plainCall has a client make the call of one by itself.
func (n *node) plainCall(b *testing.B, client *redis.Client) {
	t := randomTake()
	c := takeCall(n.terms(n.time(), t.Subjects), t)
	ctx, cancel := context.WithDeadline(context.Background(), n.deadline())
	defer cancel()
	if err := client.EvalSha(ctx, c.sha, c.keys, c.args...).Err(); err != nil {
		b.Error(err)
	}
}

// linkCall has the link make the call of one.
func (n *node) linkCall(b *testing.B) {
	t := randomTake()
	if _, err := n.servers.single.do(n.deadline(), takeCall(n.terms(n.time(), t.Subjects), t)); err != nil {
		b.Error(err)
	}
}

// randomTake is as long as what redis-benchmark writes: 12 digits for a number.
func randomTake() ratelimit.Take {
	return ratelimit.Take{
		Subjects: []ratelimit.Subject{hourly(fmt.Sprintf("d%012d.example", rand.Int32()), 1_000_000)},
		Tokens:   []ratelimit.Token{ratelimit.Token(rand.Uint64()), ratelimit.Token(rand.Uint64())},
	}
}

// rate is how many calls are made a second.
func rate(callers, calls int, f func()) float64 {
	start := time.Now()
	var running sync.WaitGroup
	for c := range callers {
		running.Go(func() {
			for i := c; i < calls; i += callers {
				f()
			}
		})
	}
	running.Wait()
	return float64(calls) / time.Since(start).Seconds()
}

// redisBenchmark has redis-benchmark run takes, one a round trip: how many a
// second, and how many microseconds the median of them takes.
func redisBenchmark(b *testing.B, r *redistest.Server, n *node, connections, takes int) (rate, call float64) {
	b.Helper()
	const random = "__rand_int__"
	subjects := []ratelimit.Subject{hourly("d"+random+".example", 1_000_000)}
	c := takeCall(n.terms(n.time(), subjects), ratelimit.Take{Subjects: subjects})
	c.args[len(c.args)-2] = random + "----" // two tokens
	args := []string{"-s", r.Socket(), "-c", strconv.Itoa(connections), "-n", strconv.Itoa(takes), "-r", strconv.Itoa(math.MaxInt32), "--csv",
		"EVALSHA", c.sha, strconv.Itoa(len(c.keys))}
	args = append(args, c.keys...)
	for _, a := range c.args {
		args = append(args, fmt.Sprint(a))
	}
	before := r.Do("dbsize").(int64)
	out, err := exec.Command(hosttest.Program(b, "redis-benchmark"), args...).Output()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	rows, err := csv.NewReader(strings.NewReader(string(out))).ReadAll()
	if err != nil || len(rows) != 2 {
		b.Fatalf("redis-benchmark printed %s", out)
	}
	// Each take has made a key of the domain and one of its sends.
	if keys := r.Do("dbsize").(int64) - before; keys < int64(2*takes-10) {
		b.Fatalf("%d takes have made %d keys", takes, keys)
	}
	// "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms",...
	if _, err := fmt.Sscan(rows[1][1]+" "+rows[1][4], &rate, &call); err != nil {
		b.Fatal(err)
	}
	return rate, 1000 * call
}
