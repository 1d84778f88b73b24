package incident

import (
	"strings"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/printable"
)

// Event joins an event to the incident that it belongs to, and opens one if it is the cause of
// one. Watchers are told at the next Tick.
func (s *Incidents) Event(e event.Event) {
	r, domain, scope, ok := ruleOf(e)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := about{strings.Clone(domain), r.condition}
	i := s.current(a, e.At)
	starts := r.effect == begins || r.effect == pulses
	switch {
	case i == nil && starts:
		i = s.open(a, e.At, r.severity)
	case i == nil && r.effect == joins:
		i = s.by(scope)
	}
	if i == nil {
		return
	}
	if starts {
		i.begin(Cause{Name: r.cause, Scope: cut(scope), Severity: r.severity, Since: e.At}, r.effect == pulses)
	} else if r.effect == ends {
		i.end(r.cause, cut(scope), e.At)
	}
	i.add(Entry{At: e.At, Last: e.At, Count: 1, Event: e.Kind, Severity: r.severity, By: cut(e.Attr("who")), Scope: cut(e.Attr("scope")), Text: cut(e.Details("who", "stack"))})
}

// Found begins the incident of a cause that was there before the start, unless it is open: a
// crash may have come before its event was taken.
func (s *Incidents) Found(now time.Time, domain string, c Cause) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := about{domain: domain}
	i := s.current(a, now)
	if i == nil {
		i = s.open(a, now, c.Severity)
	}
	if old := i; old != nil && (old.cause(c.Name, c.Scope, "") == nil || !old.cause(c.Name, c.Scope, "").Gone.IsZero()) {
		c.Since = now
		i.begin(c, false)
	}
}

// by returns the open incident whose culprit a command was about; nil if there is none. s.mu is
// held.
func (s *Incidents) by(author string) *state {
	for _, i := range s.all {
		if author != "" && i.Open() && i.Culprit.Author == author {
			return i
		}
	}
	return nil
}

// begin adds a cause, or notes that one is there again, and opens the incident again. A pulse
// is gone at once, if it does not come again.
func (i *state) begin(c Cause, pulse bool) {
	if !i.Open() {
		i.Closed, i.news = time.Time{}, true
	}
	i.worsen(c.Severity)
	old := i.cause(c.Name, c.Scope, c.Node)
	switch {
	case old != nil:
		old.Severity = max(old.Severity, c.Severity)
	case len(i.Causes) < maxCauses:
		i.Causes = append(i.Causes, c)
		old = &i.Causes[len(i.Causes)-1]
	default: // one that is gone makes room
		old = &i.Causes[0]
		for n := range i.Causes {
			if c := &i.Causes[n]; !c.Gone.IsZero() && (old.Gone.IsZero() || c.Gone.Before(old.Gone)) {
				old = c
			}
		}
		*old = c
	}
	if old.Gone = (time.Time{}); pulse {
		old.Gone = c.Since
	}
	i.changed = true
}

// end notes that a cause which this node has seen is gone; of an empty scope each of the name.
func (i *state) end(name, scope string, at time.Time) {
	for n := range i.Causes {
		if c := &i.Causes[n]; c.Name == name && c.Node == "" && (scope == "" || c.Scope == scope) && c.Gone.IsZero() {
			c.Gone, i.changed = at, true
		}
	}
}

// endAll notes that all causes are gone.
func (i *state) endAll(at time.Time) {
	for _, c := range i.Causes {
		i.end(c.Name, c.Scope, at)
	}
}

// cause returns the cause of a name and scope that a node has seen, "" for this one; nil if there
// is none.
func (i *state) cause(name, scope, node string) *Cause {
	for n := range i.Causes {
		if c := &i.Causes[n]; c.Name == name && c.Scope == scope && c.Node == node {
			return c
		}
	}
	return nil
}

// has reports whether a cause of a name is there.
func (i *state) has(name string) bool {
	for _, c := range i.Causes {
		if c.Name == name && c.Gone.IsZero() {
			return true
		}
	}
	return false
}

// worsen raises the severity.
func (i *state) worsen(to Severity) {
	if to > i.Severity {
		i.Severity, i.news = to, true
	}
}

// add adds an entry to the timeline, or one more time to the same one. What the machine does
// differs only in its numbers.
func (i *state) add(e Entry) {
	i.changed = true
	for n := range i.Timeline {
		old := &i.Timeline[n]
		if old.Event == e.Event && old.By == e.By && old.Node == e.Node && (e.By == "" || old.Text == e.Text) && e.At.Sub(old.At) < joinFor {
			old.Count++
			old.Last, old.Text = e.At, e.Text
			return
		}
	}
	i.Timeline = append(i.Timeline, e)
	if len(i.Timeline) > maxTimeline {
		copy(i.Timeline[firstEntries:], i.Timeline[firstEntries+1:])
		i.Timeline = i.Timeline[:maxTimeline]
	}
}

// cut is a copy of a text that somebody has chosen, shortened.
func cut(s string) string {
	return strings.Clone(printable.Shorten(s, maxText))
}
