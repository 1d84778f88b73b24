package ratelimit_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/ratelimit"
)

// The Sends of a ledger are enough to make another one count the same.
func TestSendsMakeTheSameCountsElsewhere(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	l.Take(noon, take(1, 3, daily(hourly("a.example", 10), 0), hourly("account:bob", 5)))
	late := noon.Add(10 * time.Minute)
	l.Take(late, take(11, 2, hourly("b.example", 2)))
	l.Settle(late, []ratelimit.Report{{Token: 2, Outcome: ratelimit.Failed | ratelimit.Excused}})
	l.Uncharge(late, tokens(3, 1))

	other := ratelimit.NewLedger(ratelimit.Options{Keep: 24 * time.Hour})
	later := noon.Add(20 * time.Minute)
	var all []ratelimit.Token
	l.Sends(later, func(s ratelimit.Send) bool {
		all = append(all, s.Token)
		other.Take(later, ratelimit.Take{Subjects: s.Subjects, Tokens: []ratelimit.Token{s.Token}, Age: s.Age, Outcome: s.Outcome, Force: true})
		return true
	})
	slices.Sort(all)
	if diff := cmp.Diff([]ratelimit.Token{1, 2, 11, 12}, all); diff != "" {
		t.Fatal(diff)
	}
	for _, at := range []time.Time{later, noon.Add(61 * time.Minute), noon.Add(70 * time.Minute)} {
		for _, name := range []string{"a.example", "b.example", "account:bob"} {
			if diff := cmp.Diff(l.Standing(at, name), other.Standing(at, name)); diff != "" {
				t.Fatalf("%v: %s", at, diff)
			}
		}
	}
}

func TestChargedTellsWhatIsKept(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{Keep: time.Hour})
	l.Take(noon, take(1, 1, hourly("a.example", 10)))
	got := l.Charged(noon.Add(time.Minute), tokens(1, 2))
	want := []ratelimit.Send{{Token: 1, Age: time.Minute, Subjects: []ratelimit.Subject{hourly("a.example", 0)}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	day := []ratelimit.Subject{daily(hourly("a.example", 10), 10)}
	if keep, known := l.Kept(noon, day); keep != 24*time.Hour+24*time.Minute || known != 61*time.Minute {
		t.Fatalf("kept for %v, known for %v", keep, known)
	}
	if got := l.Charged(noon.Add(62*time.Minute), tokens(1, 1)); got != nil {
		t.Fatalf("forgotten, and told: %+v", got)
	}
	// Sends from before it kept them for longer may have been forgotten.
	later := noon.Add(62 * time.Minute)
	l.Take(later, take(2, 1, day...))
	if keep, known := l.Kept(later.Add(time.Minute), nil); keep != 24*time.Hour+24*time.Minute || known > 63*time.Minute {
		t.Fatalf("kept for %v, known for %v", keep, known)
	}
}
