package engine

import (
	"time"

	"sluice/ratelimit"
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
