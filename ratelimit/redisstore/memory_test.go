package redisstore

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/ratelimit"
	"sluice/ratelimit/redisstore/redistest"
)

// used is what MEMORY USAGE says of all keys of a slot, and how many fields
// its largest hash has.
func used(t *testing.T, s *redistest.Server, slot string) (bytes, fields int64) {
	t.Helper()
	c := s.Client()
	defer c.Close()
	ctx := context.Background()
	for iter := c.Scan(ctx, 0, rootKey(slot)+"*", 1000).Iterator(); iter.Next(ctx); {
		n, err := c.Do(ctx, "memory", "usage", iter.Val(), "samples", "0").Int64()
		if err != nil && err != redis.Nil {
			t.Fatal(err)
		}
		bytes += n
		fields = max(fields, c.HLen(ctx, iter.Val()).Val())
		if ttl := c.PTTL(ctx, iter.Val()).Val(); ttl <= 0 {
			t.Fatalf("%s stays forever", iter.Val())
		}
	}
	return bytes, fields
}

// A domain with windows of an hour and a day, all outcomes and ten sends at
// ten different times takes at most 1,000 bytes, and each further send 20.
func TestMemory(t *testing.T) {
	r := redistest.Start(t)
	n := startNode(t, Options{URL: r.URL()})
	domain := daily(hourly("shop-with-a-name.example", 5000), 20000)
	for i := range 10 {
		one := take(i+1, 1, domain)
		one.Age = time.Duration(10-i) * 5 * time.Minute
		one.Tokens[0] = hashed(i)
		n.take(one)
		outcome := []ratelimit.Outcome{ratelimit.Delivered, ratelimit.Deferred, ratelimit.Failed}[i%3]
		n.Settle(context.Background(), n.time(), []ratelimit.Report{{Token: one.Tokens[0], Outcome: outcome}})
	}
	ten, _ := used(t, r, "shop-with-a-name.example")
	const more = 5000
	for i := range more / 10 {
		var some []ratelimit.Token
		for k := range 10 {
			some = append(some, hashed(100+10*i+k))
		}
		if res, err := n.take(ratelimit.Take{Subjects: []ratelimit.Subject{domain}, Tokens: some, Force: true}); err != nil || res.Charged != 10 {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	all, fields := used(t, r, "shop-with-a-name.example")
	t.Logf("ten sends: %d bytes; %.1f bytes for each further one; at most %d fields in a hash", ten, float64(all-ten)/more, fields)
	if ten > 1000 || all-ten > 20*more || fields > 400 {
		t.Fail()
	}
}

// hashed is a token as mail has them.
func hashed(i int) ratelimit.Token {
	return ratelimit.Token(uint64(i+1)*0x9e3779b97f4a7c15 ^ 0x5bf03635)
}
