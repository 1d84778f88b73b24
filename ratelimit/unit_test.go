package ratelimit_test

import (
	"fmt"
	"testing"
	"time"

	"sluice/ratelimit"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func hourly(name string, max int64) ratelimit.Subject {
	return ratelimit.Subject{Name: name, Limits: []ratelimit.Limit{{Window: time.Hour, Max: max}}}
}

func daily(s ratelimit.Subject, max int64) ratelimit.Subject {
	s.Limits = append(s.Limits, ratelimit.Limit{Window: 24 * time.Hour, Max: max})
	return s
}

// tokens are n tokens from a number on.
func tokens(from, n int) (ts []ratelimit.Token) {
	for i := range n {
		ts = append(ts, ratelimit.Token(from+i))
	}
	return ts
}

func take(from, n int, subjects ...ratelimit.Subject) ratelimit.Take {
	return ratelimit.Take{Subjects: subjects, Tokens: tokens(from, n), Marks: tokens(from, n)}
}

func sent(l *ratelimit.Ledger, at time.Time, name string) (sums []int64) {
	for _, w := range l.Standing(at, name).Windows {
		sums = append(sums, w.Sent)
	}
	return sums
}

func wantSent(t *testing.T, l *ratelimit.Ledger, at time.Time, name string, want ...int64) {
	t.Helper()
	if got := sent(l, at, name); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s has sent %v, want %v", name, got, want)
	}
}

func TestAllOrNothing(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	domain, account := hourly("a.example", 10), daily(hourly("account:bob", 0), 4)
	if r := l.Take(noon, take(1, 3, domain, account)); !r.OK || r.Charged != 3 {
		t.Fatalf("%+v", r)
	}
	r := l.Take(noon, take(4, 2, domain, account))
	if r.OK || r.Uses[0].Full || r.Uses[1].Full || !r.Uses[2].Full {
		t.Fatalf("the account's daily limit alone is full: %+v", r.Uses)
	}
	if u := r.Uses[2]; u.Subject != "account:bob" || u.Used != 3 || u.Room() != 1 || u.Refused != 2 ||
		!u.Frees.Equal(noon.Add(24*time.Hour+24*time.Minute)) {
		t.Fatalf("%+v", u)
	}
	wantSent(t, l, noon, "a.example", 3)
	wantSent(t, l, noon, "account:bob", 3, 3)
}

func TestLimitsChangeAndCountsStay(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	l.Take(noon, take(1, 5, hourly("a.example", 5)))
	for _, c := range []struct {
		max int64
		ok  bool
	}{{5, false}, {6, true}, {5, false}, {0, true}, {7, false}, {8, true}} {
		if r := l.Look(noon, take(100, 1, hourly("a.example", c.max))); r.OK != c.ok {
			t.Fatalf("limit %d: %+v", c.max, r)
		}
		if c.ok {
			l.Take(noon, take(200+int(c.max), 1, hourly("a.example", c.max)))
		}
	}
	wantSent(t, l, noon, "a.example", 8)
}

func TestRefusalsAreDistinctAndForgottenWhenThereIsRoom(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	a := hourly("a.example", 5)
	l.Take(noon, take(1, 5, a))
	for i, want := range []int64{1, 1, 2, 3, 3} {
		mark := []int{100, 100, 101, 102, 100}[i]
		if r := l.Look(noon, take(mark, 1, a)); r.Uses[0].Refused != want {
			t.Fatalf("refusal %d: %+v, want %d refused", i, r.Uses, want)
		}
	}
	if r := l.Take(noon, take(103, 2, a)); r.Uses[0].Refused != 5 {
		t.Fatalf("%+v", r.Uses)
	}
	// Only the subject that refuses counts refusals.
	l.Look(noon, take(200, 1, a, hourly("account:bob", 100)))
	if s := l.Standing(noon, "account:bob"); s.Refused != 0 {
		t.Fatalf("%+v", s)
	}
	later := noon.Add(61 * time.Minute)
	if r := l.Look(later, take(300, 1, a)); !r.OK || r.Uses[0].Refused != 0 {
		t.Fatalf("%+v", r)
	}
	l.Take(later, take(301, 5, a))
	if r := l.Look(later, take(400, 1, a)); r.Uses[0].Refused != 1 {
		t.Fatalf("%+v", r.Uses)
	}
	l.Reset(later, "a.example", -1)
	if s := l.Standing(later, "a.example"); s.Refused != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	a := hourly("a.example", 1)
	l.Take(noon, take(1, 1, a))
	for i := range 10 {
		l.Look(noon, take(100+i*1000, 1000, a))
	}
	if s := l.Standing(noon, "a.example"); s.Refused != 4096 {
		t.Fatalf("%d refusals are told apart", s.Refused)
	}
}

func TestRefusalsStandWhileRoomIsPromised(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	a := hourly("a.example", 20)
	for i := range 5 {
		look := take(100+i, 1, a)
		look.Ahead = 20
		if r := l.Look(noon, look); r.Uses[0].Refused != int64(i+1) {
			t.Fatalf("%+v", r.Uses)
		}
	}
}

func TestCeiling(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{MaxSubjects: 2})
	a, b, c := hourly("a.example", 3), hourly("b.example", 3), hourly("c.example", 3)
	l.Take(noon, take(1, 2, a))
	l.Take(noon, take(10, 2, b))
	if r := l.Take(noon, take(20, 5, c)); r.OK {
		t.Fatal("more than the limit at once passed")
	}
	for i := range 4 {
		if r := l.Take(noon, take(30+i, 2, c)); !r.OK {
			t.Fatalf("a new subject past the ceiling was refused: %+v", r)
		}
	}
	if r := l.Take(noon, take(40, 2, a)); r.OK {
		t.Fatalf("an existing subject is not exact past the ceiling: %+v", r)
	}
	if r := l.Take(noon, take(50, 1, b, c)); !r.OK {
		t.Fatalf("%+v", r)
	}
	wantSent(t, l, noon, "b.example", 3)
	if subjects, sends, uncounted := l.Size(); subjects != 2 || sends != 5 || uncounted != 9 {
		t.Fatalf("%d subjects, %d sends, %d uncounted", subjects, sends, uncounted)
	}
	// When the others are forgotten there is room for the new one.
	later := noon.Add(3 * time.Hour)
	sweep(l, later)
	l.Take(later, take(60, 1, c))
	wantSent(t, l, later, "c.example", 1)
}

func sweep(l *ratelimit.Ledger, now time.Time) {
	l.Horizon(now) // sets the clock
	for range 128 {
		l.Sweep()
	}
}

func TestMemoryFollowsWhatIsActive(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	for i := range 5000 {
		l.Take(noon, take(i*3+1, 3, hourly(fmt.Sprintf("d%d.example", i), 10), hourly("account:all", 0)))
	}
	if subjects, sends, _ := l.Size(); subjects != 5001 || sends != 15000 {
		t.Fatalf("%d subjects, %d sends", subjects, sends)
	}
	later := noon.Add(50 * time.Minute)
	l.Take(later, take(100001, 1, hourly("d7.example", 10)))
	sweep(l, noon.Add(62*time.Minute))
	if subjects, sends, _ := l.Size(); subjects != 5001 || sends != 1 {
		t.Fatalf("after the window: %d subjects, %d sends", subjects, sends)
	}
	sweep(l, noon.Add(75*time.Minute))
	if subjects, sends, _ := l.Size(); subjects != 1 || sends != 1 {
		t.Fatalf("in the end: %d subjects, %d sends", subjects, sends)
	}
	wantSent(t, l, noon.Add(75*time.Minute), "d7.example", 1)
}

// A day that is limited from now on begins with what was sent in the last hour,
// and with its outcomes.
func TestAWindowThatComesLater(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	l.Take(noon.Add(-2*time.Hour), take(91, 4, hourly("a.example", 10))) // of which nothing is known any more
	l.Take(noon, take(1, 3, hourly("a.example", 10)))
	l.Settle(noon, []ratelimit.Report{{Token: 1, Outcome: ratelimit.Failed}})
	now := noon.Add(30 * time.Minute)
	l.Take(now, take(11, 2, daily(hourly("a.example", 10), 10)))
	wantSent(t, l, now, "a.example", 5, 5)
	l.Settle(now, []ratelimit.Report{{Token: 2, Outcome: ratelimit.Deferred}})
	if st := l.Standing(now, "a.example"); st.Windows[1].Failed != 1 || st.Windows[1].Deferred != 1 {
		t.Errorf("outcomes of the day: %+v", st)
	}
	l.Uncharge(now, tokens(1, 3))
	wantSent(t, l, now, "a.example", 2, 2)
	l.Uncharge(now, append(tokens(11, 2), 11))
	wantSent(t, l, now, "a.example", 0, 0)
	// Sends of before the hour count nowhere: others of then do not either.
	for i, age := range []time.Duration{time.Minute, 2 * time.Hour} {
		old := take(21+i, 1, daily(hourly("a.example", 10), 10))
		old.Force, old.Age = true, age
		l.Take(now, old)
		wantSent(t, l, now, "a.example", 1, 1)
	}
}

// Who is over a limit of a day as soon as it is there stays over it, although
// nothing is charged and the hour from which that follows goes by.
func TestAWindowThatComesLaterAndRefuses(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	l.Take(noon, take(1, 5, hourly("a.example", 10)))
	for _, later := range []time.Duration{time.Minute, 2 * time.Hour, 23 * time.Hour} {
		if r := l.Look(noon.Add(later), ratelimit.Take{Subjects: take(0, 0, daily(hourly("a.example", 10), 5)).Subjects}); r.OK || r.Uses[1].Used != 5 {
			t.Errorf("after %v: %+v", later, r)
		}
	}
	if r := l.Take(noon.Add(25*time.Hour), take(11, 1, daily(hourly("a.example", 10), 5))); !r.OK {
		t.Errorf("after the day: %+v", r)
	}
}

// A window whose buckets do not consist of those of a shorter one starts at zero, and
// does not count earlier sends of the same millisecond.
func TestAWindowThatNoOtherOneTellsOf(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	odd := func(max int64) ratelimit.Subject {
		return ratelimit.Subject{Name: "a.example", Limits: []ratelimit.Limit{{Window: time.Hour}, {Window: 7 * time.Second, Max: max}}}
	}
	l.Take(noon, take(1, 3, hourly("a.example", 10)))
	if r := l.Take(noon, take(11, 2, odd(2))); !r.OK || r.Uses[1].Used != 2 {
		t.Errorf("%+v", r)
	}
	l.Uncharge(noon, tokens(1, 3))
	wantSent(t, l, noon, "a.example", 2, 2)
}

// A daily limit that is lifted for a while has missed nothing when it is back.
func TestAWindowThatIsLeftAndComesBack(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	l.Take(noon, take(1, 1, daily(hourly("a.example", 10), 3)))
	l.Take(noon, take(11, 5, hourly("a.example", 10)))
	if r := l.Take(noon, take(21, 1, daily(hourly("a.example", 10), 3))); r.OK || r.Uses[1].Used != 6 {
		t.Fatalf("%+v", r)
	}
	l.Uncharge(noon, tokens(11, 5))
	wantSent(t, l, noon, "a.example", 1, 1)
}

func TestAnOldForcedChargeIsDated(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{Keep: time.Hour})
	forced := take(1, 4, hourly("a.example", 3))
	forced.Force, forced.Age = true, 30*time.Minute
	if r := l.Take(noon, forced); !r.OK || r.Charged != 4 || r.Uses[0].Used != 4 {
		t.Fatalf("%+v", r)
	}
	wantSent(t, l, noon.Add(29*time.Minute), "a.example", 4)
	wantSent(t, l, noon.Add(31*time.Minute+time.Second), "a.example", 0)
	forced.Age = 2 * time.Hour
	forced.Tokens = tokens(11, 1)
	if r := l.Take(noon, forced); !r.OK || r.Charged != 0 {
		t.Fatalf("what is older than all windows changed something: %+v", r)
	}
}

func TestWhatIsDatedBeforeAResetCountsNothing(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	a := hourly("a.example", 3)
	l.Take(noon, take(1, 3, a))
	epoch := l.Reset(noon, "a.example", 0)
	wantSent(t, l, noon, "a.example", 0)
	l.Take(noon, take(11, 1, a)) // in the same millisecond, but after it
	wantSent(t, l, noon, "a.example", 1)
	late := take(21, 3, a)
	late.Force, late.Age = true, time.Minute
	l.Take(noon.Add(time.Second), late)
	l.Uncharge(noon, tokens(1, 3))
	wantSent(t, l, noon.Add(time.Second), "a.example", 1)
	if again := l.Reset(noon.Add(2*time.Second), "a.example", epoch-1); again != epoch {
		t.Fatalf("a stale hand released the epoch %d", again)
	}
	wantSent(t, l, noon.Add(2*time.Second), "a.example", 1)
}

func TestHorizon(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{Keep: time.Hour})
	if got, want := l.Horizon(noon), noon.Add(-61*time.Minute); !got.Equal(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	// A longer window keeps sends for longer, from now on.
	l.Take(noon, take(1, 1, daily(hourly("a.example", 1), 1)))
	later := noon.Add(2 * time.Hour)
	if got, want := l.Horizon(later), noon.Add(-61*time.Minute); !got.Equal(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	if !l.Known(later, 1) {
		t.Fatal("a send within the daily window was forgotten")
	}
}

func BenchmarkTake(b *testing.B) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	a := hourly("a.example", 0)
	i := 0
	for b.Loop() {
		i++
		l.Take(noon.Add(time.Duration(i)*time.Millisecond), take(i, 1, a))
	}
}
