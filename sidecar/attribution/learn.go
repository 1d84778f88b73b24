package attribution

import (
	"time"

	"sluice/sidecar"
	"sluice/sidecar/usual"
)

// Hours are how much the authors of a domain usually send, as they are passed from one
// Attribution to another.
type Hours = usual.Saved

// A Learned is how much of what is usual was not known before.
type Learned struct {
	Domains int `json:"domains"`
	Authors int `json:"authors"`
	Days    int `json:"days"` // of all these authors
}

// Usual returns what is usual by domain, the last hour included.
func (a *Attribution) Usual(now time.Time) (all map[string]Hours) {
	a.locked(func() {
		for _, s := range a.subjects.byName {
			a.learn(s, now)
		}
		all = a.usual.All()
	})
	return all
}

// LearnUsual adds what is usual of domains, as logs say it. What is known already stays; days
// on which an author was stopped, and days to come, are left out.
func (a *Attribution) LearnUsual(now time.Time, all map[string]Hours) (l Learned) {
	today := a.day(a.number(now, now))
	for domain, hours := range all {
		if !sidecar.IsDomain(domain) {
			continue
		}
		a.locked(func() {
			authors, days := a.usual.Learn(now, domain, hours, func(author string, day uint16) bool {
				from := time.Date(1970, 1, 1+int(day), 0, 0, 0, 0, time.Local)
				return day > today || !usual.Has(author) || a.Stopped(from, from.AddDate(0, 0, 1), sidecar.Author{Key: author}, domain) != ""
			})
			l.Authors, l.Days = l.Authors+authors, l.Days+days
			if days > 0 {
				l.Domains++
			}
		})
	}
	return l
}

// Threshold returns beyond how many sends in an hour an author of a domain has a spike; see
// usual.Domain.Threshold.
func (a *Attribution) Threshold(now time.Time, domain, author string) (most, busiest int64, known bool) {
	a.locked(func() {
		most, busiest, known = a.usual.Of(domain).Threshold(author, a.day(a.number(now, now)), a.Rule(domain, author))
	})
	return most, busiest, known
}

// dirty reports whether so many sends of an author in an hour are a spike that looks like a
// thief's: much of it went wrong, or was called spam. Such an hour is not usual.
func (t *table) dirty(s *subject, id uint32, day uint16, sent int64) bool {
	author := t.authors.all[id].Key
	most, _, known := t.usual.Of(s.name).Threshold(author, day-1, t.Rule(s.name, author)) // today's may be noted already
	if !known || sent <= most {
		return false
	}
	var bad, spam int64
	for _, b := range s.badSends {
		if b.author == id {
			bad++
			if b.cause == sidecar.CalledSpam {
				spam++
			}
		}
	}
	return bad >= 10 && bad*5 >= sent || spam >= 5
}
