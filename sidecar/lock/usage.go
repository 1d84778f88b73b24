package lock

import (
	"cmp"
	"slices"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/printable"
)

// maxUsage is the largest number of usage files.
const maxUsage = 10_000

// Survey has the lock directory show the usage of the domains that have used at least
// half of a limit; the fullest if there are too many.
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
		var files []lockfile.Usage
		for _, u := range full.sorted() {
			files = append(files, lockfile.Usage{Domain: u.Subject, Content: printable.Ratio(u.Used, u.Limit.Max), Epoch: u.Epoch})
		}
		l.dir.ShowUsage(files)
	}
}

// halfUsed reports whether at least half of a limit is used.
func halfUsed(u ratelimit.Use) bool { return u.Limit.Max > 0 && u.Used >= u.Limit.Max-u.Used }

// fill returns the part of a limit that is used: 1 is all.
func fill(u ratelimit.Use) float64 {
	if u.Limit.Max == 0 {
		return 0
	}
	return float64(u.Used) / float64(u.Limit.Max)
}

// fullestOf returns the limit of which the largest part is used, the first of equals.
func fullestOf(s ratelimit.Standing, limits []ratelimit.Limit) (most ratelimit.Use) {
	for _, limit := range limits {
		u := ratelimit.Use{Subject: s.Name, Limit: limit, Epoch: s.Epoch, Used: s.Sent(limit.Window)}
		if fill(u) > fill(most) {
			most = u
		}
	}
	return most
}

// A usageList keeps the fullest of the uses that are added, up to the number in most.
// Until it is sorted it may have nearly twice as many.
type usageList struct {
	most int
	uses []ratelimit.Use
}

func (l *usageList) add(u ratelimit.Use) {
	if l.uses = append(l.uses, u); len(l.uses) >= 2*l.most {
		l.uses = l.sorted()
	}
}

// sorted returns the uses to keep, the fullest first.
func (l *usageList) sorted() []ratelimit.Use {
	slices.SortFunc(l.uses, func(a, b ratelimit.Use) int {
		return cmp.Or(cmp.Compare(fill(b), fill(a)), cmp.Compare(a.Subject, b.Subject))
	})
	return l.uses[:min(len(l.uses), l.most)]
}
