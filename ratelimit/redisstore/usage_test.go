package redisstore

import (
	"testing"
	"time"

	"sluice/ratelimit"
)

// What a node saw first and told last is not taken for the last word: that node
// learns of what was seen since, and so does one that listened late.
func TestTheNewerSightIsToldAgain(t *testing.T) {
	now, key := time.Now(), sightKey{"a.example", time.Hour}
	see := func(s *sights, used int64, at time.Duration) {
		u := ratelimit.Use{Subject: key.subject, Limit: ratelimit.Limit{Window: key.window, Max: 100}, Used: used}
		s.see(now, ratelimit.Result{At: now.Add(at), Uses: []ratelimit.Use{u}})
	}
	board := ""
	tell := func(s *sights) {
		if news, _ := s.takeNews(); len(news) > 0 {
			board = news[key].String()
		}
	}
	listen := func(s *sights) {
		var v sight
		v.parse(board)
		s.learn(key, v)
	}
	first, second := newSights(), newSights()
	see(first, 55, 0)
	see(second, 60, time.Second)
	tell(second)
	tell(first) // overwrites what the second told, before it listens
	for range 2 {
		for _, s := range []*sights{first, second} {
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
