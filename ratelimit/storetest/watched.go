package storetest

import (
	"slices"

	"sluice/ratelimit"
)

// standings are those of the subjects of a Take.
func (h *history) standings(t ratelimit.Take) map[string]ratelimit.Standing {
	all := map[string]ratelimit.Standing{}
	for _, s := range t.Subjects {
		all[s.Name] = h.store.Standing(h.now(), s.Name)
	}
	return all
}

// fits tells for how many of n sends an accepted Take was to charge each of its
// subjects: all, or where one is watched as many as it had room for before.
func (h *history) fits(t ratelimit.Take, before map[string]ratelimit.Standing, r ratelimit.Result, n int) map[string]int {
	fits := map[string]int{}
	for _, s := range t.Subjects {
		fits[s.Name] = n
	}
	for _, u := range r.Uses {
		if !u.Watched || !u.Full || t.Force {
			continue
		}
		used, counted := int64(0), false
		for _, w := range before[u.Subject].Windows {
			if w.Window == u.Limit.Window {
				used, counted = w.Sent, true
			}
		}
		if !counted {
			used = h.gains(u.Subject, u.Limit.Window)
		}
		room := max(0, u.Limit.Max-used)
		if u.Limit.Max == 0 || room >= int64(n) {
			h.Fatalf("watched %s let %d sends pass uncharged, though %d of %d leave room", u.Subject, n, used, u.Limit.Max)
		}
		fits[u.Subject] = min(fits[u.Subject], int(room))
	}
	return fits
}

// charged are the subjects of a Take that more than i of its sends fit.
func (h *history) charged(t ratelimit.Take, fits map[string]int, i int) []ratelimit.Subject {
	return slices.DeleteFunc(slices.Clone(t.Subjects), func(s ratelimit.Subject) bool { return fits[s.Name] <= i })
}
