package ratelimit_test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"time"

	"sluice/ratelimit"
)

// Refusals that stand are forgiven once there is room below the limit, whatever it
// withholds from the Take that finds it.
func TestRefusalsAreForgivenWhateverIsWithheld(t *testing.T) {
	l := ratelimit.NewLedger(ratelimit.Options{})
	l.Take(noon, take(1, 4, hourly("a.example", 10)))
	l.Take(noon.Add(30*time.Minute), take(5, 6, hourly("a.example", 10)))
	if r := l.Take(noon.Add(31*time.Minute), take(20, 2, hourly("a.example", 10))); r.OK || r.Uses[0].Refused != 2 {
		t.Fatalf("%+v", r)
	}
	withheld := hourly("a.example", 10)
	withheld.Limits[0].Withheld = 3
	later := noon.Add(62 * time.Minute) // 6 are left
	if r := l.Take(later, take(20, 2, withheld)); r.OK || !r.Uses[0].Withheld || r.Uses[0].Refused != 2 {
		t.Fatalf("%+v", r)
	}
	if r := l.Take(later, take(20, 1, withheld)); !r.OK || r.Uses[0].Used != 7 || r.Uses[0].Refused != 0 {
		t.Fatalf("%+v", r)
	}
}

// Where nothing is withheld, what a Ledger decides and records is to the byte what it was
// before limits withheld anything.
func TestWithNothingWithheldAllIsAsBefore(t *testing.T) {
	sum, random := fnv.New64a(), rand.New(rand.NewPCG(1, 2))
	l := ratelimit.NewLedger(ratelimit.Options{Record: func(seq uint64, entry []byte) { fmt.Fprintf(sum, "%d %x\n", seq, entry) }})
	now := noon
	for i := range 20_000 {
		now = now.Add(time.Duration(random.Int64N(int64(20 * time.Second))))
		domain, account := hourly(fmt.Sprintf("d%d.example", random.IntN(3)), 40), daily(hourly("account:bob", 100), 900)
		domain.Watched = random.IntN(4) == 0
		ask := take(10*i+1, 1+random.IntN(9), domain, account)
		ask.Ahead = random.Int64N(3)
		var r ratelimit.Result
		switch random.IntN(20) {
		case 0:
			fmt.Fprintln(sum, l.Reset(now, domain.Name, -1))
		case 1, 2:
			r = l.Look(now, ask)
		case 3:
			ask.Force = true
			r = l.Take(now, ask)
		default:
			r = l.Take(now, ask)
		}
		fmt.Fprintln(sum, r.OK, r.Charged, r.At.UnixMilli())
		for _, u := range r.Uses {
			fmt.Fprintln(sum, u.Subject, u.Limit.Max, u.Used, u.Refused, u.Full, u.Over, u.Frees.UnixMilli(), u.Epoch)
		}
	}
	if got := fmt.Sprintf("%x", sum.Sum64()); got != "c05f0f298ee9ff8c" {
		t.Errorf("sum %s", got)
	}
}
