package redisstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"sluice/ratelimit"
)

// A node that is cut off withholds its part of what the limit withholds, and says so; past
// its share nothing can be counted.
func TestANodeAloneWithholdsItsPart(t *testing.T) {
	for _, c := range []struct {
		outage   Outage
		accepted int // of 40 with 12 withheld
		only     bool
	}{
		{OutageShare, 6 - 4, true}, // its share of 40 is 6, of 12 it is 4
		{OutageLocal, 40 - 12, true},
		{OutageOpen, 50, false},
		{OutageClosed, 0, false},
	} {
		t.Run(string(c.outage), func(t *testing.T) {
			s := newSimulation(t, c.outage, rand.New(rand.NewPCG(1, 0)))
			s.cut(0)
			subject := hourly("a.example", 40)
			subject.Limits[0].Withheld = 12
			accepted := 0
			for range 50 {
				if s.take(0, subject, false) {
					accepted++
				}
			}
			if accepted != c.accepted {
				t.Errorf("%d accepted", accepted)
			}
			n, ctx := s.nodes[0], context.Background()
			ask := ratelimit.Take{Subjects: []ratelimit.Subject{subject}, Tokens: tokens(1000, 1)}
			look, err := n.Look(ctx, s.now(), ratelimit.Take{Subjects: ask.Subjects, Marks: tokens(1000, 1)})
			if c.only && (err != nil || look.OK || !look.Uses[0].Withheld || look.Uses[0].Limit != subject.Limits[0]) {
				t.Errorf("looked at: %+v, %v", look, err)
			}
			if r, err := n.Take(ctx, s.now(), ask); c.only && (err != nil || r.OK || !r.Uses[0].Withheld || r.Uses[0].Refused != 0) {
				t.Errorf("%+v, %v", r, err)
			}
			subject.Limits[0].Withheld = 0 // another's, who may send the rest
			for accepted < 40 && s.take(0, subject, false) {
				accepted++
			}
			want := map[Outage]int{OutageShare: 6, OutageLocal: 40, OutageOpen: 50}[c.outage]
			if _, err = n.Take(ctx, s.now(), ask); accepted != want || c.outage == OutageShare && !errors.Is(err, ErrUncounted) {
				t.Errorf("%d accepted, then %v", accepted, err)
			}
		})
	}
}
