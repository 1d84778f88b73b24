package incident

import (
	"slices"
	"time"
)

const (
	checkEvery = 10 * time.Second
	maxChecks  = 50 // at domains in one Tick
	maxWho     = 8
	maxLines   = 12
)

// checkCauses asks whether the causes of open incidents of domains are still there, and copies
// evidence, of the least recently checked incidents first. s.mu is not held while it asks.
func (s *Incidents) checkCauses(now time.Time) {
	type question struct {
		of     *state
		causes []Cause
	}
	var due []question
	s.mu.Lock()
	for _, i := range s.all {
		if i.Open() && i.Domain != "" && now.Sub(i.looked) >= checkEvery {
			due = append(due, question{i, slices.Clone(i.Causes)})
		}
	}
	s.mu.Unlock()
	slices.SortStableFunc(due, func(a, b question) int { return a.of.looked.Compare(b.of.looked) })
	for _, q := range due[:min(maxChecks, len(due))] {
		there := false
		for n := range q.causes {
			c := &q.causes[n]
			if c.Gone.IsZero() && c.Node == "" && !s.Present(now, q.of.Domain, *c) {
				c.Gone = now
			}
			there = there || c.Gone.IsZero() && c.Node == ""
		}
		v := s.Look(now, q.of.Domain)
		s.mu.Lock()
		q.of.looked = now
		for _, c := range q.causes {
			if c.Gone.Equal(now) {
				q.of.end(c.Name, c.Scope, now)
			}
		}
		if there {
			q.of.addEvidence(now, v)
		}
		q.of.draw(now, v)
		s.mu.Unlock()
	}
}

// addEvidence copies what is known of the domain now. Who sends is kept as it was at its worst.
func (i *state) addEvidence(now time.Time, v View) {
	if len(v.Lines) > 0 {
		i.Evidence.Lines = bounded(v.Lines, maxLines, func(l *Line) { l.Text = cut(l.Text) })
	}
	if len(v.Who) > 0 && v.Tried >= i.Evidence.Tried {
		e := v.Evidence
		e.At, e.Lines = now, i.Evidence.Lines
		e.Who = bounded(v.Who, maxWho, func(w *Sender) { w.Subject = cut(w.Subject) })
		i.Evidence = e
	}
	if v.Unusual && i.has(CauseLimit) {
		i.worsen(Warning)
	}
	i.blame(v)
	i.changed = true
}

// bounded returns a copy of at most so many, each of which is cut.
func bounded[T any](all []T, most int, cut func(*T)) []T {
	all = slices.Clone(all[:min(most, len(all))])
	for n := range all {
		cut(&all[n])
	}
	return all
}

// blame finds the culprit: whom Sluice has stopped, or of a domain that is refused for its bad
// sends whose they mostly are, or who has tried most. One that stands is replaced only by who
// is stopped, or has more than half of all: two who send alike take no turns.
func (i *state) blame(v View) {
	c := v.Most
	if v.MostBad.Author != "" && (i.has(CauseDeferfail) || i.has(CauseCulprit)) {
		c = v.MostBad
	}
	for _, cause := range i.Causes {
		if cause.Name != CauseCulprit || !cause.Gone.IsZero() {
			continue
		}
		if c.Author != cause.Scope {
			c = Culprit{Author: cause.Scope}
			for _, known := range [...]Culprit{v.MostBad, v.Most, i.Culprit} {
				if known.Author == cause.Scope {
					c = known
					break
				}
			}
		}
		c.Stopped = true
		break // the first that was stopped
	}
	old := i.Culprit
	switch {
	case c.Author == "":
	case c.Author == old.Author:
		if c.Count >= old.Count || c.Stopped != old.Stopped {
			c.Stopped = c.Stopped || old.Stopped
			i.Culprit = c
		}
		i.news = i.news || i.Culprit.Stopped != old.Stopped
	case old.Author == "" || c.Stopped || !old.Stopped && c.Count*2 > c.Of:
		i.Culprit, i.news = c, true
	}
}
