package storetest

import (
	"context"
	"math"
	"testing"
	"time"

	"sluice/ratelimit"
)

// left is what a limit leaves of its Max to a Take.
func left(l ratelimit.Limit) int64 { return l.Max - max(0, min(l.Withheld, l.Max)) }

// checkMarks checks that a Look has counted no refusal for a subject whose limits are full
// only by what they withhold.
func (h *history) checkMarks(before map[string]ratelimit.Standing, r ratelimit.Result) {
	full, withheld := map[string]bool{}, map[string]bool{}
	for _, u := range r.Uses {
		full[u.Subject] = full[u.Subject] || u.Full && !u.Withheld
		withheld[u.Subject] = withheld[u.Subject] || u.Withheld
	}
	for _, u := range r.Uses {
		had := before[u.Subject].Refused
		if withheld[u.Subject] && !full[u.Subject] && u.Refused != had && !(r.OK && u.Refused == 0) {
			h.Fatalf("%s: %d refused before and %d after, though the limit was full only by what it withheld", u.Subject, had, u.Refused)
		}
	}
}

// Withheld checks what becomes of sends for which there is room but for what a limit
// withholds from them. open is called for each case.
func Withheld(t *testing.T, open func() Store) {
	for _, c := range []struct {
		name       string
		sent       int   // before, of 10
		n          int   // sends asked for
		withheld   int64 // of 10
		watched    bool
		force      bool
		used, over int64 // what the Use says then
		refused    int64
		full, only bool // Use.Full and Use.Withheld
	}{
		{name: "there is room", sent: 4, n: 3, withheld: 3, used: 7},
		{name: "only by what is withheld", sent: 4, n: 4, withheld: 3, used: 4, full: true, only: true},
		{name: "beyond the limit too", sent: 4, n: 7, withheld: 3, used: 4, refused: 7, full: true},
		{name: "forced", sent: 4, n: 4, withheld: 3, force: true, used: 8},
		{name: "watched", sent: 4, n: 5, withheld: 3, watched: true, used: 7, full: true, only: true},
		{name: "watched, beyond the limit too", sent: 4, n: 8, withheld: 3, watched: true, used: 7, over: 2, full: true}, // and forgiven, as it is below the limit
		{name: "watched, at the limit", sent: 10, n: 2, withheld: 3, watched: true, used: 10, over: 2, refused: 2, full: true},
		{name: "all is withheld", sent: 0, n: 1, withheld: 10, full: true, only: true},
		{name: "more than all is withheld", sent: 3, n: 1, withheld: math.MaxInt64, used: 3, full: true, only: true},
		{name: "less than nothing", sent: 10, n: 1, withheld: math.MinInt64, used: 10, refused: 1, full: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, ctx, now := open(), context.Background(), time.UnixMilli(1_800_000_000_000)
			limit := ratelimit.Limit{Window: time.Hour, Max: 10}
			ask := func(n int, from ratelimit.Token, sub ratelimit.Subject, force bool) ratelimit.Result {
				t.Helper()
				take := ratelimit.Take{Subjects: []ratelimit.Subject{sub}, Force: force}
				for i := range n {
					take.Tokens = append(take.Tokens, from+ratelimit.Token(i))
				}
				take.Marks = take.Tokens
				r, err := s.Take(ctx, now, take)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			ask(c.sent, 1, ratelimit.Subject{Name: "a.example", Limits: []ratelimit.Limit{limit}}, false)
			limit.Withheld = c.withheld
			sub := ratelimit.Subject{Name: "a.example", Limits: []ratelimit.Limit{limit}, Watched: c.watched}
			r := ask(c.n, 100, sub, c.force)
			u := r.Uses[0]
			if r.OK != (!c.full || c.watched) || u.Used != c.used || u.Over != c.over || u.Refused != c.refused || u.Full != c.full || u.Withheld != c.only {
				t.Errorf("%v: %+v", r.OK, u)
			}
			if sent := s.Standing(now, "a.example"); c.used > 0 && sent.Windows[0].Sent != c.used || sent.Refused != c.refused {
				t.Errorf("%+v", sent)
			}
		})
	}
}
