package redisstore

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/hosttest"
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
			if _, err = n.Take(ctx, s.now(), ask); accepted != want || c.outage == OutageShare && !errors.Is(err, ratelimit.ErrUncounted) {
				t.Errorf("%d accepted, then %v", accepted, err)
			}
		})
	}
}

// What is kept to be undone later is not the caller's, who uses the slices again for another question.
func TestAnUndoKeepsItsLimits(t *testing.T) {
	s := newSimulation(t, OutageClosed, rand.New(rand.NewPCG(1, 1)))
	n := s.nodes[0]
	s.takeOf(0, tokens(21, 1), hourly("a.example", 100))
	late := ratelimit.Take{Subjects: []ratelimit.Subject{hourly("a.example", 100)}, Tokens: tokens(1, 3)}
	terms := n.terms(s.now(), late.Subjects)
	if _, err := n.servers.single.do(time.Now().Add(hosttest.Patience()), takeCall(terms, late)); err != nil {
		t.Fatal(err)
	}
	s.cut(0) // before the answer has come
	if r, err := n.takeDegraded(context.Background(), s.now(), late, terms.attempt); err == nil && r.OK {
		t.Fatalf("accepted: %+v", r)
	}
	late.Subjects[0].Limits[0], late.Tokens[0] = ratelimit.Limit{}, 99
	kept := slices.Collect(maps.Values(n.outbox.entries))
	if want := hourly("a.example", 100); len(kept) != 1 || !slices.Equal(kept[0].Tokens, tokens(1, 3)) || kept[0].Subjects[0].Limits[0] != want.Limits[0] {
		t.Errorf("kept are %+v", kept)
	}
	s.heal(0)
	s.want("a.example", 1)
}
