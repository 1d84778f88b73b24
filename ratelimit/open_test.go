package ratelimit_test

import (
	"fmt"
	"testing"
	"time"

	"sluice/ratelimit"
)

// Far more subjects than have their rings open, in two rounds, a snapshot in
// between: all of them are counted.
func TestEachOfManySubjectsIsCounted(t *testing.T) {
	const n = 3 * 4096
	name := func(i int) string { return fmt.Sprintf("d%d.example", i) }
	l := ratelimit.NewLedger(ratelimit.Options{})
	for i := range n {
		l.Take(noon, take(i*2+1, 2, hourly(name(i), 10)))
	}
	restored := ratelimit.NewLedger(ratelimit.Options{})
	if err := l.Snapshot(restored.Restore); err != nil {
		t.Fatal(err)
	}
	restored.Ready(0)
	later := noon.Add(10 * time.Minute)
	for _, l := range []*ratelimit.Ledger{l, restored} {
		for i := range n {
			l.Take(later, take(100_000+i, 1, hourly(name(i), 10)))
		}
		for i := 0; i < n; i += 2 {
			l.Uncharge(later, tokens(i*2+1, 1))
		}
		for i := range n {
			wantSent(t, l, later, name(i), 2+int64(i%2))
		}
		for i := range n {
			wantSent(t, l, noon.Add(65*time.Minute), name(i), 1)
		}
	}
}

// A subject that gets the number of one that was dropped has nothing of it.
func TestASubjectInThePlaceOfAnother(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	l.Take(noon, take(1, 3, daily(hourly("a.example", 10), 0)))
	later := noon.Add(26 * time.Hour)
	l.Take(later, take(5, 1, hourly("other.example", 10)))
	sweep(l, later)
	if subjects, _, _ := l.Size(); subjects != 1 {
		t.Fatalf("%d subjects", subjects)
	}
	l.Take(later, take(11, 1, hourly("b.example", 10)))
	wantSent(t, l, later, "b.example", 1)
}
