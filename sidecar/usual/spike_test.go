package usual

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// builtIn is the rule of the configuration that nobody has changed.
var builtIn = Rule{Least: 50, Factor: 3}

// A habit is how much an author sends in the busiest hour of a day; 0: nothing.
type habit struct {
	name string
	on   func(random *rand.Rand, day uint16) int64
}

// between is a number from one to another.
func between(random *rand.Rand, from, to int64) int64 { return from + random.Int64N(to-from+1) }

// habits makes the authors of a domain: of 100, 60 are offices, 15 shops with one day of sales
// a year, 10 send a newsletter each week, 5 each month, 3 at times, more than a month apart, and
// 5 have reports every morning.
func habits(random *rand.Rand, domain int) (kind string, all []habit) {
	for i := range 2 + random.IntN(5) {
		usually := between(random, 2, 12)
		all = append(all, habit{fmt.Sprint("person", i), func(random *rand.Rand, day uint16) int64 {
			if day%7 >= 5 {
				return 0
			}
			return between(random, 0, 2*usually)
		}})
	}
	many, phase := between(random, 200, 2000), uint16(random.IntN(31))
	list := func(on func(day uint16) bool) habit {
		return habit{"list", func(random *rand.Rand, day uint16) int64 {
			if !on(day) {
				return 0
			}
			return many * between(random, 85, 115) / 100
		}}
	}
	switch n := domain % 100; {
	case n < 60:
		return "office", all
	case n < 75:
		return "shop", append(all, habit{"shop", func(random *rand.Rand, day uint16) int64 {
			if day%365 == 300+phase {
				return between(random, 80, 200)
			}
			return between(random, 5, 30)
		}})
	case n < 85:
		return "weekly", append(all, list(func(day uint16) bool { return day%7 == phase%7 }))
	case n < 90:
		return "monthly", append(all, list(func(day uint16) bool { return day%31 == phase }))
	case n < 93:
		return "irregular", append(all, list(func(day uint16) bool { return day%53 == phase }))
	}
	return "reports", append(all, list(func(uint16) bool { return true }))
}

// The rule on made-up domains for 180 days, after 40 that are learned: how often it takes for a
// spike what is none, and how many stolen mailboxes it finds. Who sends newsletters each month
// or week, and reports every day, has none.
func TestSpikeRule(t *testing.T) {
	const domains, days = 400, 180
	random := rand.New(rand.NewPCG(20, 4))
	alarms, found, attacks := map[string]int{}, map[int64]int{}, 0
	for n := range domains {
		h, name := New(1000), fmt.Sprintf("d%d.example", n)
		kind, people := habits(random, n)
		for day := uint16(20_000); day < 20_000+40+days; day++ {
			d := h.Of(name)
			for _, p := range people {
				sent := p.on(random, day)
				if most, _, known := d.Threshold(p.name, day, builtIn); known && sent > most && day >= 20_040 {
					alarms[kind]++
				}
				if sent > 0 { // it ends without a sign
					h.Note(noon, name, p.name, day, sent)
				}
			}
			if day < 20_040 || day%10 != 0 {
				continue
			}
			attacks++
			for _, sent := range []int64{100, 300} {
				if most, _, known := h.Of(name).Threshold("person0", day, builtIn); known && sent > most {
					found[sent]++
				}
			}
		}
	}
	all := 0
	for _, n := range alarms {
		all += n
	}
	monthly := float64(all) / domains * 1000 / (days / 30.0)
	t.Logf("%.1f false alarms of 1,000 domains in a month, of %v; of %d attacks of 100 an hour %d are found, of 300 %d", monthly, alarms, attacks, found[100], found[300])
	if monthly > 25 || found[100]*100 < 90*attacks || found[300]*100 < 97*attacks {
		t.Error("worse than it was measured")
	}
	for _, kind := range []string{"office", "weekly", "monthly", "reports"} {
		if alarms[kind] > 0 {
			t.Errorf("%s: %d false alarms", kind, alarms[kind])
		}
	}
	if alarms["irregular"] == 0 {
		t.Error("the newsletters that come more than a month apart are no alarm: the rule is not asked")
	}
}

// Where a domain is known for less than 35 days nothing is a spike, and what strangers choose
// never is; who is new there may send twice the least, or what all others have.
func TestThreshold(t *testing.T) {
	h := New(100)
	h.Note(noon, "x.example", "a", 1000, 8)
	h.Note(noon, "x.example", "b", 1000, 8)
	h.Note(noon, "x.example", "a", 1020, 64)
	h.Note(noon, "x.example", "b", 1030, 8)
	for _, c := range []struct {
		author        string
		day           uint16
		most, busiest int64
		known         bool
	}{
		{"a", 1034, 0, 0, false}, {"new", 1034, 0, 0, false},
		{"a", 1035, 192, 64, true}, {"a", 1054, 192, 64, true}, {"a", 1055, 50, 0, true},
		{"b", 1035, 50, 8, true}, {"new", 1035, 100, 0, true}, {"forward:i@x.example", 1035, 0, 0, false},
	} {
		if most, busiest, known := h.Of("x.example").Threshold(c.author, c.day, builtIn); most != c.most || busiest != c.busiest || known != c.known {
			t.Errorf("%s on day %d: %d, %d, %t", c.author, c.day, most, busiest, known)
		}
	}
	h.Note(noon, "x.example", "list", 1035, 512)
	if most, _, _ := h.Of("x.example").Threshold("new", 1036, builtIn); most != 512 {
		t.Errorf("new beside a newsletter: %d", most)
	}
	if most, _, _ := h.Of("x.example").Threshold("list", 1035, builtIn); most != 512 {
		t.Errorf("new today: %d", most)
	}
}
