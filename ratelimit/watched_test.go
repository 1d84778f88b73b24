package ratelimit_test

import (
	"testing"
	"time"

	"sluice/ratelimit"
)

func watched(s ratelimit.Subject) ratelimit.Subject {
	s.Watched = true
	return s
}

// What a watched limit would refuse passes, and counts as it would if it did.
func TestAWatchedLimitNeverRefusesAndIsNeverExceeded(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	domain, account := watched(hourly("a.example", 5)), hourly("account:bob", 100)
	l.Take(noon, take(1, 3, domain, account))
	r := l.Take(noon, take(4, 4, domain, account))
	if !r.OK || r.Charged != 4 {
		t.Fatalf("%+v", r)
	}
	if u := r.Uses[0]; !u.Full || !u.Watched || u.Used != 5 || u.Refused != 2 {
		t.Fatalf("the watched one has room for two of four: %+v", u)
	}
	wantSent(t, l, noon, "a.example", 5)
	wantSent(t, l, noon, "account:bob", 7)
	if r = l.Take(noon, take(1, 7, domain, account)); !r.OK || r.Charged != 0 {
		t.Fatalf("asked again: %+v", r)
	}
	for _, token := range tokens(1, 7) {
		if !l.Known(noon, token) {
			t.Errorf("send %d is not known", token)
		}
	}
	var reports []ratelimit.Report
	for _, token := range tokens(1, 7) {
		reports = append(reports, ratelimit.Report{Token: token, Outcome: ratelimit.Failed})
	}
	l.Settle(noon, reports)
	for _, r := range reports {
		if !r.Known || !r.Moved {
			t.Errorf("%+v", r)
		}
	}
	if w := l.Standing(noon, "a.example").Windows[0]; w.Failed != 5 {
		t.Errorf("%+v", w)
	}
}

func TestASendThatNobodyPaysForIsKnown(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	domain := watched(hourly("a.example", 2))
	l.Take(noon, take(1, 4, domain))
	wantSent(t, l, noon, "a.example", 2)
	// Forced in from a log it is nothing new, and what is new is charged.
	forced := take(3, 3, domain)
	forced.Force = true
	if r := l.Take(noon, forced); r.Charged != 1 {
		t.Fatalf("%+v", r)
	}
	wantSent(t, l, noon, "a.example", 3)
	l.Uncharge(noon, tokens(1, 5))
	wantSent(t, l, noon, "a.example", 0)
}

func TestALookAtAWatchedLimitCountsWhatItWouldRefuse(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	domain := watched(hourly("a.example", 5))
	l.Take(noon, take(1, 3, domain))
	look := ratelimit.Take{Subjects: []ratelimit.Subject{domain}, Ahead: 1}
	for ahead, refused := range []int64{0, 0, 1, 2, 2} {
		look.Ahead, look.Marks = int64(ahead), tokens(10+min(ahead, 3), 1)
		if r := l.Look(noon, look); !r.OK || r.Uses[0].Refused != refused {
			t.Errorf("%d ahead: %+v", ahead, r)
		}
	}
	// The message is charged whole: the same two are refused, once.
	r := l.Take(noon, ratelimit.Take{Subjects: look.Subjects, Tokens: tokens(10, 4), Marks: tokens(10, 4)})
	if u := r.Uses[0]; u.Used != 5 || u.Refused != 2 {
		t.Errorf("%+v", u)
	}
}

// Where another limit refuses, nothing passes, and both count it.
func TestAWatchedLimitBesideOneThatRefuses(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	domain, account := watched(hourly("a.example", 1)), hourly("account:bob", 2)
	l.Take(noon, take(1, 2, domain, account))
	r := l.Take(noon, take(3, 1, domain, account))
	if r.OK || r.Uses[0].Refused != 2 || r.Uses[1].Refused != 1 {
		t.Fatalf("%+v", r)
	}
	later := noon.Add(2 * time.Hour)
	if r = l.Take(later, take(3, 1, domain, account)); !r.OK || r.Uses[0].Used != 1 || r.Uses[0].Full {
		t.Fatalf("%+v", r)
	}
}

// Two watched limits, each with room of its own.
func TestWatchedLimitsOfDifferentRoom(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	r := l.Take(noon, take(1, 10, watched(hourly("a.example", 3)), hourly("account:bob", 0), watched(hourly("n@a.example", 7))))
	if !r.OK || r.Charged != 10 {
		t.Fatalf("%+v", r)
	}
	wantSent(t, l, noon, "a.example", 3)
	wantSent(t, l, noon, "account:bob", 10)
	wantSent(t, l, noon, "n@a.example", 7)
	if r.Uses[0].Refused != 7 || r.Uses[1].Refused != 0 || r.Uses[2].Refused != 3 {
		t.Errorf("%+v", r.Uses)
	}
}
