package engine_test

import (
	"testing"
	"time"

	"sluice/sidecar/operator"
)

// value is what explain says of a key of somebody.
func (s *site) value(scope, key, of string) operator.Value {
	s.t.Helper()
	e, err := s.Explain(s.now, scope)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, v := range e.Values {
		if v.Key == key && v.Of == of {
			return v
		}
	}
	s.t.Fatalf("nothing of %s of %s in %+v", key, of, e.Values)
	return operator.Value{}
}

// Mailboxes, accounts and days are counted from when a limit names them, and
// explain tells it, after a restart too.
func TestExplainTellsSinceWhenIsCounted(t *testing.T) {
	s := newSite(t, limit20+"[limits.account.bob]\nhourly = 5\n")
	start := s.now
	s.send(1)
	s.now = s.now.Add(time.Hour)
	s.set("news@a.example", "hourly=10")
	named := s.now
	s.now = s.now.Add(time.Hour)
	s.set("default", "daily=100")
	daily := s.now.Add(-time.Hour) // it begins with what the hour has
	want := func(scope, key, of string, since time.Time) {
		t.Helper()
		if got := s.value(scope, key, of).Counted; !got.Equal(since) {
			t.Errorf("%s of %s is counted since %v, want %v", key, of, got, since)
		}
	}
	for range 2 {
		s.now = s.now.Add(time.Hour)
		s.set("a.example", "daily=50") // which the default has counted already
		want("account:bob", "hourly", "account:bob", start)
		want("news@a.example", "hourly", "news@a.example", named)
		want("news@a.example", "daily", "a.example", daily)
		want("b.example", "daily", "b.example", daily)
		want("a.example", "hourly", "a.example", time.Time{})
		s.restart()
	}
	s.set("news@a.example", "hourly=0")
	s.now = s.now.Add(time.Hour)
	s.set("news@a.example", "hourly=7")
	want("news@a.example", "hourly", "news@a.example", s.now)
}
