package lock

import (
	"cmp"
	"slices"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// maxUsage is how many usage files there are at most.
const maxUsage = 10_000

// survey has the lock directory show the usage of the domains that are at
// or above half of a limit, those nearest to theirs first.
func (l *Locks) Survey(time.Time) (each func(ratelimit.Standing), done func()) {
	full := usageList{most: maxUsage}
	settings := l.settings()
	each = func(s ratelimit.Standing) {
		if sidecar.IsDomain(s.Name) {
			if u := fullestOf(s, settings.LimitsOf(s.Name)); halfUsed(u) {
				full.add(u)
			}
		}
	}
	return each, func() {
		var files []sidecar.Usage
		for _, u := range full.sorted() {
			files = append(files, sidecar.Usage{Domain: u.Subject, Content: sidecar.Ratio(u.Used, u.Limit.Max), Epoch: u.Epoch})
		}
		l.dir.ShowUsage(files)
	}
}

// halfUsed tells whether at least half of a limit is used.
func halfUsed(u ratelimit.Use) bool { return u.Limit.Max > 0 && u.Used >= u.Limit.Max-u.Used }

// fill is how much of a limit is used: 1 is all.
func fill(u ratelimit.Use) float64 {
	if u.Limit.Max == 0 {
		return 0
	}
	return float64(u.Used) / float64(u.Limit.Max)
}

// fullestOf is the limit of which most is used, the first of equals.
func fullestOf(s ratelimit.Standing, limits []ratelimit.Limit) (most ratelimit.Use) {
	for _, limit := range limits {
		u := ratelimit.Use{Subject: s.Name, Limit: limit, Epoch: s.Epoch, Used: s.Sent(limit.Window)}
		if fill(u) > fill(most) {
			most = u
		}
	}
	return most
}

// A usageList keeps the fullest of what is added, in bounded memory.
type usageList struct {
	most int
	uses []ratelimit.Use
}

func (l *usageList) add(u ratelimit.Use) {
	if l.uses = append(l.uses, u); len(l.uses) >= 2*l.most {
		l.uses = l.sorted()
	}
}

// sorted are the fullest, the very fullest first.
func (l *usageList) sorted() []ratelimit.Use {
	slices.SortFunc(l.uses, func(a, b ratelimit.Use) int {
		return cmp.Or(cmp.Compare(fill(b), fill(a)), cmp.Compare(a.Subject, b.Subject))
	})
	return l.uses[:min(len(l.uses), l.most)]
}
