package attribution

import (
	"math"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/cluster"
	"sluice/sidecar/sketch"
	"sluice/sidecar/usual"
)

// Share implements policy.Sharer. Both numbers err to the side of who is counted too low: what
// an author has sent is counted for up to a sixth of the window longer, that of the others up
// to a sixth shorter.
func (a *Attribution) Share(now time.Time, who sidecar.Author, domain string, limit, most int64) (free, others int64) {
	free = math.MaxInt64
	told := a.others(now, domain)
	a.locked(func() {
		own := a.usual.Of(domain)
		if own == nil && len(told) == 0 { // as below, at once
			return
		}
		number := a.number(now, now)
		hours := cluster.Usual{Own: own, Day: a.day(number), Others: told}
		left := hours.OthersQuota(who.Key)
		if left <= 0 { // nobody else is known: so it mostly is
			return
		}
		s := a.subjects.byName[domain]
		if left = min(most, left-a.othersUsed(s, number, hours, who.Key)); left <= 0 {
			return
		}
		free, others = max(0, hours.Free(who.Key, limit)-a.used(s, number, who.Key)-hours.Sent(who.Key)), left
	})
	return free, others
}

// Unusual returns what an author of a domain usually sends in its busiest hours, 0 if that is
// not known, and whether n sends an hour are more than that and a half, where the domain is known
// since an earlier day. limit is the domain's, 0 for none.
func (a *Attribution) Unusual(now time.Time, domain, author string, n, limit int64) (most int64, is bool) {
	a.locked(func() {
		day, hours := a.day(a.number(now, now)), a.usual.Of(domain)
		if usual.Has(author) {
			most, is = hours.Usual(author, day), hours.Known(day) && n > hours.Free(author, day, limit)
		}
	})
	return most, is
}

// Rises reports whether n sends of an author, just made, have brought it over its usual hour, or over another
// tenth of limit, that of its domain; 0 is unlimited.
func (a *Attribution) Rises(now time.Time, domain, author string, n, limit int64) (rises bool) {
	a.locked(func() {
		number := a.number(now, now)
		after, free := a.used(a.subjects.byName[domain], number, author), a.usual.Of(domain).Free(author, a.day(number), 0)
		tenth := max(1, limit/10)
		rises = free > 0 && after-n <= free && after > free || limit > 0 && (after-n)/tenth < after/tenth
	})
	return rises
}

// UsualFrom is when it was first known what anybody usually sends; zero: it is not yet.
func (a *Attribution) UsualFrom() (t time.Time) {
	a.locked(func() { t = a.usual.Since() })
	return t
}

// used is what an author has sent in the window, and up to a sixth of it longer.
func (t *table) used(s *subject, number int64, author string) (n int64) {
	if s == nil {
		return 0
	}
	id := t.authors.numbers[author]
	for i := range s.panes {
		p := &s.panes[i]
		switch e := p.Find(id); {
		case p.Number < number-parts:
		case e != nil:
			n += int64(e.Sent)
		default:
			n += int64(p.Floor)
		}
	}
	return n
}

// othersUsed is how much of their quotas the other authors of a domain have sent in the
// newest panes.
func (t *table) othersUsed(s *subject, number int64, hours cluster.Usual, author string) (n int64) {
	clear(t.scratch)
	if s != nil {
		sketch.Sums(s.panes, number-parts+1, t.scratch)
	}
	for id, sum := range t.scratch {
		if key := t.authors.all[id].Key; key != author {
			n += min(hours.Quota(key), max(0, sum.Sent-sum.Err)+hours.Newest(key))
		}
	}
	for key := range hours.Authors() {
		if _, own := t.scratch[t.authors.numbers[key]]; !own && key != author {
			n += min(hours.Quota(key), hours.Newest(key))
		}
	}
	return n
}
