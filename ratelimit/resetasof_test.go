package ratelimit_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/ratelimit"
)

// A reset as of some time ago forgets what was sent before it, and nothing else,
// to the millisecond: also in the buckets that it cuts in two, and in a ledger
// that is replayed.
func TestResetAsOfAgainstAnExactLog(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var entries [][]byte
		l := ratelimit.NewLedger(ratelimit.Options{Record: func(_ uint64, entry []byte) { entries = append(entries, bytes.Clone(entry)) }})
		a, bob := daily(hourly("a.example", 0), 1000), daily(hourly("account:bob", 0), 1000)
		l.Take(noon.Add(-25*time.Hour), take(1, 1, a, bob))
		type sent struct {
			when time.Time
			a    bool
		}
		log := map[ratelimit.Token]sent{}
		now, epoch, next := noon, time.Time{}, 100
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, 60_000).Draw(rt, "ms")) * time.Millisecond)
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				age := min(time.Duration(rapid.Int64Range(0, 300_000).Draw(rt, "age"))*time.Millisecond, now.Sub(noon))
				l.ResetAsOf(now, "a.example", age)
				if at := now.Add(-age); at.After(epoch) {
					epoch = at
				}
				now = now.Add(time.Millisecond)
			case 1:
				l.Uncharge(now, tokens(next-1, 1))
				delete(log, ratelimit.Token(next-1))
			default:
				one := take(next, 1, a, bob)
				one.Force, one.Outcome = true, ratelimit.Outcome(rapid.IntRange(0, 3).Draw(rt, "outcome"))
				one.Age = min(time.Duration(rapid.Int64Range(0, 90_000).Draw(rt, "age"))*time.Millisecond, now.Sub(noon))
				to := rapid.IntRange(0, 2).Draw(rt, "to")
				if to > 0 {
					one.Subjects = one.Subjects[to-1 : to]
				}
				l.Take(now, one)
				log[ratelimit.Token(next)] = sent{now.Add(-one.Age), to != 2}
				next++
			}
			var want int64
			for _, s := range log {
				if s.a && s.when.After(epoch) {
					want++
				}
			}
			st := l.Standing(now, "a.example")
			for _, w := range st.Windows {
				if w.Sent != want || w.Delivered+w.Deferred+w.Failed > want {
					rt.Fatalf("%d sent after the reset, counted %+v", want, w)
				}
			}
			other := ratelimit.NewLedger(ratelimit.Options{})
			for i, e := range entries {
				if err := other.Replay(uint64(i+1), e); err != nil {
					rt.Fatal(err)
				}
			}
			if diff := cmp.Diff(st, other.Standing(now, "a.example")); diff != "" {
				rt.Fatalf("replayed: %s", diff)
			}
		}
	})
}

// Where the sends are forgotten the bucket stays whole: what may have been sent
// after the reset counts.
func TestResetAsOfBeforeWhatIsKept(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{Keep: time.Hour})
	a := daily(hourly("a.example", 100), 0)
	l.Take(noon, take(1, 3, a))
	l.Take(noon.Add(time.Minute), take(11, 2, a))
	l.Take(noon.Add(2*time.Hour), take(21, 1, a))
	l.ResetAsOf(noon.Add(2*time.Hour), "a.example", 2*time.Hour-time.Second)
	wantSent(t, l, noon.Add(2*time.Hour), "a.example", 1, 6)
}
