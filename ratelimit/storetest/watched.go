package storetest

import (
	"slices"

	"sluice/ratelimit"
)

// standings returns the standings of the subjects of a Take.
func (h *history) standings(t ratelimit.Take) map[string]ratelimit.Standing {
	all := map[string]ratelimit.Standing{}
	for _, s := range t.Subjects {
		all[s.Name] = h.store.Standing(h.now(), s.Name)
	}
	return all
}

// admitted returns for how many of n sends an accepted Take was to charge each of its
// subjects: all or, if it is watched, as many as it had room for before. within is how
// many it would have had room for if nothing were withheld.
func (h *history) admitted(t ratelimit.Take, before map[string]ratelimit.Standing, r ratelimit.Result, n int) (admitted, within map[string]int) {
	admitted, within = map[string]int{}, map[string]int{}
	for _, s := range t.Subjects {
		admitted[s.Name], within[s.Name] = n, n
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
			used = h.seedOf(u.Subject, u.Limit.Window)
		}
		room := max(0, left(u.Limit)-used)
		if u.Limit.Max == 0 || room >= int64(n) {
			h.Fatalf("watched %s let %d sends pass uncharged, though %d of %+v leave room", u.Subject, n, used, u.Limit)
		}
		admitted[u.Subject] = min(admitted[u.Subject], int(room))
		within[u.Subject] = min(within[u.Subject], int(max(0, u.Limit.Max-used)))
	}
	return admitted, within
}

// charged returns the subjects of a Take that are charged for more than i sends.
func (h *history) charged(t ratelimit.Take, admitted map[string]int, i int) []ratelimit.Subject {
	return slices.DeleteFunc(slices.Clone(t.Subjects), func(s ratelimit.Subject) bool { return admitted[s.Name] <= i })
}
