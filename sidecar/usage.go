package sidecar

import (
	"cmp"
	"context"
	"slices"
	"time"

	"sluice/ratelimit"
)

const (
	// usageEvery is how often usage files are refreshed.
	usageEvery = 10 * time.Second
	// usageShare is the least part of the time in which they are not: going
	// through a million domains takes long enough to be felt by mail.
	usageShare = 20
	// maxUsage is how many usage files there are at most.
	maxUsage = 10_000
)

// runUsage refreshes the usage files until ctx is done. Those that stand at
// the end are taken over by the next process.
func (p *Policy) runUsage(ctx context.Context) {
	for {
		start := time.Now()
		p.ShowUsage(start)
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(usageEvery, usageShare*time.Since(start)) - time.Since(start)):
		}
	}
}

// ShowUsage has the lock directory show the usage of the domains that are at
// or above half of a limit, those nearest to theirs first.
func (p *Policy) ShowUsage(now time.Time) {
	full := usageList{most: maxUsage}
	settings := p.settings.Load()
	p.store.Standings(p.clock.store(now), func(s ratelimit.Standing) bool {
		if !isDomain(s.Name) {
			return true
		}
		if hasBad(s) && settings.deferfailOf(s).over() && !p.trips.has(s.Name) {
			p.due.add(s.Name) // good sends have left the window, and the bad ones not
		}
		if u := fullestOf(s, settings.limitsOf(s.Name)); halfUsed(u) {
			full.add(u)
		}
		return true
	})
	var files []Usage
	for _, u := range full.sorted() {
		files = append(files, Usage{Domain: u.Subject, Content: ratio(u.Used, u.Limit.Max), Epoch: u.Epoch})
	}
	p.locks.ShowUsage(files)
	p.bads.prune(now.Add(-settings.window - settings.window/60))
}

// hasBad tells whether anything is held against a subject at all.
func hasBad(s ratelimit.Standing) bool {
	return slices.ContainsFunc(s.Windows, func(w ratelimit.WindowCounts) bool { return w.Bad() > 0 })
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
