package storetest

import (
	"context"
	"testing"
	"time"

	"sluice/ratelimit"
)

// Ceiling checks that what an operator names is counted past the memory ceiling, and what
// others make up is not. open is called once, with the options for the node's own ledger.
func Ceiling(t *testing.T, open func(ratelimit.Options) Store) {
	s := open(ratelimit.Options{MaxSubjects: 2, Named: func(subject string) bool { return subject == "named.example" }})
	ctx, now := context.Background(), time.UnixMilli(1_800_000_000_000)
	next := ratelimit.Token(0)
	subject := func(name string) []ratelimit.Subject {
		return []ratelimit.Subject{{Name: name, Limits: []ratelimit.Limit{{Window: time.Hour, Max: 3}}}}
	}
	take := func(name string) (ratelimit.Token, bool) {
		t.Helper()
		next++
		r, err := s.Take(ctx, now, ratelimit.Take{Subjects: subject(name), Tokens: []ratelimit.Token{next}})
		if err != nil {
			t.Fatal(err)
		}
		return next, r.OK
	}
	for _, name := range []string{"made.example", "up.example"} {
		if token, ok := take(name); !ok || !s.Known(now, token) {
			t.Fatalf("%s is not counted below the ceiling", name)
		}
	}
	if token, ok := take("too.example"); !ok || s.Known(now, token) {
		t.Fatal("a name that nobody knows is refused, or counted, past the ceiling")
	}
	for range 2 {
		if token, ok := take("named.example"); !ok || !s.Known(now, token) {
			t.Fatal("what an operator names is not counted past the ceiling")
		}
	}
	late := []ratelimit.Report{{Token: 100, Outcome: ratelimit.Failed, Subjects: subject("named.example")}}
	if err := s.Settle(ctx, now, late); err != nil || !late[0].Charged {
		t.Fatalf("%+v, %v", late[0], err)
	}
	if _, ok := take("named.example"); ok {
		t.Fatal("what an operator names is not limited past the ceiling")
	}
	for _, w := range s.Standing(now, "named.example").Windows {
		if want := (ratelimit.Counts{Sent: 3, Failed: 1}); w.Counts != want {
			t.Fatalf("%+v, want %+v", w.Counts, want)
		}
	}
	if epoch, err := s.Reset(ctx, now, "named.example", -1); err != nil || epoch == 0 {
		t.Fatalf("reset: %d, %v", epoch, err)
	}
}
