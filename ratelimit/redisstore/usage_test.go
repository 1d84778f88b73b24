package redisstore

import (
	"testing"
	"time"

	"sluice/ratelimit"
)

// A usage that was seen first and published last does not replace a later one: the node
// that published it gets the later one, and so does one that reads late.
func TestTheNewerSightIsToldAgain(t *testing.T) {
	now, key := time.Now(), usageKey{"a.example", time.Hour}
	see := func(s *usageCache, used int64, at time.Duration) {
		u := ratelimit.Use{Subject: key.subject, Limit: ratelimit.Limit{Window: key.window, Max: 100}, Used: used}
		s.observe(now, ratelimit.Result{At: now.Add(at), Uses: []ratelimit.Use{u}}, true)
	}
	board := ""
	tell := func(s *usageCache) {
		if news, _ := s.takeUnsent(); len(news) > 0 {
			board = news[key].String()
		}
	}
	listen := func(s *usageCache) {
		var v usage
		v.parse(board)
		s.receive(key, v)
	}
	first, second := newUsageCache(), newUsageCache()
	see(first, 55, 0)
	see(second, 60, time.Second)
	tell(second)
	tell(first) // overwrites what the second published, before that reads
	for range 2 {
		for _, s := range []*usageCache{first, second} {
			listen(s)
			tell(s)
		}
	}
	if first.used(key.subject, key.window) != 60 || second.used(key.subject, key.window) != 60 {
		t.Errorf("%+v, %+v; the board says %s", first.uses, second.uses, board)
	}
	see(first, 52, 2*time.Second) // some have left the window
	tell(first)
	listen(second)
	tell(second)
	listen(first)
	if first.used(key.subject, key.window) != 52 || second.used(key.subject, key.window) != 52 {
		t.Errorf("%+v, %+v; the board says %s", first.uses, second.uses, board)
	}
}
