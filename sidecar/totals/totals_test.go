package totals

import (
	"testing"

	"sluice/ratelimit"
)

// A charge beyond an enforced limit, which a broken store has accepted, is found.
func TestOvershootIsFound(t *testing.T) {
	use := func(used, max_ int64) ratelimit.Use {
		return ratelimit.Use{Used: used, Limit: ratelimit.Limit{Max: max_}}
	}
	watched := use(30, 20)
	watched.Watched = true
	var all Totals
	for _, c := range []struct {
		what   string
		result ratelimit.Result
		want   int64
	}{
		{"at the limit", ratelimit.Result{Charged: 1, Uses: []ratelimit.Use{use(20, 20)}}, 0},
		{"unlimited", ratelimit.Result{Charged: 1, Uses: []ratelimit.Use{use(20, 0)}}, 0},
		{"watched", ratelimit.Result{Charged: 1, Uses: []ratelimit.Use{watched}}, 0},
		{"charged before, and the limit was lowered since", ratelimit.Result{Charged: 0, Uses: []ratelimit.Use{use(30, 20)}}, 0},
		{"by day", ratelimit.Result{Charged: 1, Uses: []ratelimit.Use{use(20, 20), use(103, 100)}}, 3},
		{"less", ratelimit.Result{Charged: 1, Uses: []ratelimit.Use{use(21, 20)}}, 3},
		{"more", ratelimit.Result{Charged: 1, Uses: []ratelimit.Use{use(27, 20)}}, 7},
	} {
		if all.Charged(c.result); all.Overshoot() != c.want {
			t.Errorf("%s: %d, want %d", c.what, all.Overshoot(), c.want)
		}
	}
}
