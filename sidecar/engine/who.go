package engine

import (
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/attribution"
	"sluice/sidecar/policy"
	"sluice/sidecar/settings"
)

// who is an Observer that has sends counted by author.
type who struct{ *attribution.Attribution }

// Decided implements policy.Observer.
func (w who) Decided(now time.Time, d *policy.Decision) {
	if d.Author.Key == "" || d.Payer.Subject() == "" {
		return
	}
	m := attribution.Message{Subject: d.Payer.Subject(), Author: d.Author, Request: d.Request, To: d.To}
	if d.Refused || d.Blocked {
		w.Refused(now, &m)
	} else {
		w.Charged(now, &m, d.Charged)
	}
}

// whoOptions are what is needed to know who sends.
func (e *Engine) whoOptions(o Options, clock sidecar.Clock) attribution.Options {
	if o.Forever {
		return attribution.Options{Clock: clock, Events: o.Events}
	}
	return attribution.Options{Window: o.Config.Limits.Window, Clock: clock, Notes: o.Notes, Events: o.Events,
		Memory: o.Config.Who.Memory, MaxAuthors: int(o.Config.Who.MaxAuthors),
		Counts: func(now time.Time, subject string) attribution.Counts {
			return countsOf(e.Settings.Load(), o.Store.Standing(clock.Store(now), subject))
		}}
}

// countsOf are the counts of a subject in the window of hourly limits, with its limit there.
func countsOf(s *settings.Settings, st ratelimit.Standing) attribution.Counts {
	c := attribution.Counts{Sent: st.Sent(s.Window), Refused: st.Refused, Epoch: st.Epoch}
	for _, l := range s.LimitsOf(st.Name) {
		if l.Window == s.Window {
			c.Limit = l.Max
		}
	}
	return c
}

// culprit is who sends most at the expense of a subject.
func (e *Engine) culprit(now time.Time, subject string) (c sidecar.Culprit) {
	c.Author, c.Count, c.Of = e.Who.Most(now, subject)
	return c
}

// badCulprit is of whose sends most have gone wrong.
func (e *Engine) badCulprit(now time.Time, subject string) (c sidecar.Culprit) {
	c.Author, c.Count, c.Of = e.Who.MostBad(now, subject)
	return c
}
