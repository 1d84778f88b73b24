package engine

import (
	"fmt"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/attribution"
	"sluice/sidecar/cluster"
	"sluice/sidecar/deferfail"
	"sluice/sidecar/notes"
	"sluice/sidecar/policy"
	"sluice/sidecar/printable"
	"sluice/sidecar/settings"
	"sluice/sidecar/spike"
	"sluice/sidecar/stop"
	"sluice/sidecar/usual"
)

// who is an Observer that has sends counted by author.
type who struct {
	*attribution.Attribution
	feed     *cluster.Feed
	settings func() *settings.Settings
}

// Decided implements policy.Observer.
func (w who) Decided(now time.Time, d *policy.Decision) {
	m := attribution.Message{Subject: d.Payer.Subject(), Author: d.Author, Request: d.Request, To: d.To}
	if d.Uncharged {
		w.Uncharged(now, d.Payer.Class, &m)
		return
	}
	if d.Author.Key == "" || d.Payer.Subject() == "" {
		return
	}
	if d.Refused || d.Blocked {
		w.Refused(now, &m)
	} else {
		w.Charged(now, &m, d.Charged)
		w.askIfRising(now, d)
	}
}

// askIfRising exchanges reports with the other nodes at once when an author begins to send much.
func (w who) askIfRising(now time.Time, d *policy.Decision) {
	if w.feed == nil || d.Charged == 0 {
		return
	}
	subject, window := d.Payer.Subject(), w.settings().Window
	for _, u := range d.Uses {
		if u.Subject == subject && u.Limit.Window == window && w.Rises(now, subject, d.Author.Key, int64(d.Charged), u.Limit.Max) {
			w.feed.AskSoon(now, subject)
		}
	}
}

// newFeed is what the nodes of a board tell each other.
func (e *Engine) newFeed(board notes.Board) *cluster.Feed {
	return cluster.New(cluster.Options{Board: board, Node: func() string { return e.Settings.Load().Node },
		Report: func(now time.Time, subject string) (cluster.Report, bool) {
			r, known := e.Who.ForOthers(now, subject)
			e.Deferfail.AddHeld(subject, &r)
			return r, known
		},
		Used: func(st ratelimit.Standing) int64 {
			if e.Deferfail.IsTripped(st.Name) {
				return 100
			}
			return usedOf(e.Settings.Load(), st)
		},
		Soon:   e.loop.ReconcileSoon,
		Silent: func() map[string]time.Duration { return e.SilentNodes() }})
}

// usedOf is how much of its limits a subject has used, in percent, of the fullest.
func usedOf(s *settings.Settings, st ratelimit.Standing) (percent int64) {
	for _, l := range s.LimitsOf(st.Name) {
		if l.Max > 0 {
			percent = max(percent, st.Sent(l.Window)*100/l.Max)
		}
	}
	return percent
}

// whoOptions are what is needed to know who sends.
func (e *Engine) whoOptions(o Options, clock ratelimit.Clock) attribution.Options {
	if o.Forever {
		return attribution.Options{Clock: clock, Events: o.Events, Spike: e.spikeMark, Rule: e.spikeRule}
	}
	return attribution.Options{Others: e.Feed.Of, Window: o.Config.Limits.Window, Clock: clock, Notes: o.Notes, Events: o.Events,
		Memory: o.Config.Who.Memory, MaxAuthors: int(o.Config.Who.MaxAuthors), Stopped: e.Stopped.Between, Spike: e.spikeMark, Rule: e.spikeRule,
		Epoch: o.Store.Epoch,
		Counts: func(now time.Time, subject string) attribution.Counts {
			return countsOf(e.Settings.Load(), o.Store.Standing(clock.Store(now), subject))
		}}
}

// countsOf are the counts of a subject in the window of hourly limits, with its limit there.
func countsOf(s *settings.Settings, st ratelimit.Standing) attribution.Counts {
	c := attribution.Counts{Sent: st.Sent(s.Window), Refused: st.Refused}
	for _, l := range s.LimitsOf(st.Name) {
		if l.Window == s.Window {
			c.Limit = l.Max
		}
	}
	return c
}

// culprit is who sends most at the expense of a subject. That of an account are its domains.
func (e *Engine) culprit(now time.Time, subject string) (c sidecar.Culprit) {
	account, is := strings.CutPrefix(subject, sidecar.AccountPrefix)
	if !is {
		c.Author, c.Count, c.Of = e.Who.Most(now, subject)
		return c
	}
	sent := map[sidecar.Author]int64{}
	for _, domain := range e.Settings.Load().OwnerMap.Get().DomainsOf(account) {
		for _, u := range e.Who.Uses(now, domain, false) {
			n := sent[u.Author] + u.Sent
			sent[u.Author], c.Of = n, c.Of+u.Sent
			if n > c.Count || n == c.Count && u.Author.Key < c.Author.Key {
				c.Author, c.Count = u.Author, n
			}
		}
	}
	return c
}

// authors is what deferfail asks of who sends, and has stopped.
type authors struct {
	*stop.Stops
	who *attribution.Attribution
}

// Culprit implements deferfail.Authors.
func (a authors) Culprit(now time.Time, subject string) (c sidecar.Culprit) {
	c.Author, c.Count, c.Of = a.who.MostBad(now, subject)
	return c
}

// Sent implements deferfail.Authors.
func (a authors) Sent(now time.Time, subject string) (by []deferfail.AuthorSent, unknown int64) {
	r, _ := a.who.Of(now, subject)
	year, month, day := now.Date()
	today := time.Date(year, month, day, 0, 0, 0, 0, now.Location())
	for _, x := range r.Authors {
		by = append(by, deferfail.AuthorSent{Key: x.Key, Sent: x.Sent, AtLeast: max(0, x.Sent-x.Error), Known: x.FirstSeen.Before(today)})
	}
	return by, r.Unattributed
}

// volumes is what Watch asks of who sends. A relay sends for many.
func (e *Engine) volumes(now time.Time, domain string) (all []spike.Volume) {
	least := e.Config().Spike.Least
	for _, u := range e.Who.Uses(now, domain, true) {
		if n := u.Tried - u.Err; n > least && !strings.HasPrefix(u.Author.Key, sidecar.ClientPrefix) {
			if most, busiest, known := e.Who.Threshold(now, domain, u.Author.Key); known {
				all = append(all, spike.Volume{Author: u.Author.Key, Tried: n, Most: most, Busiest: busiest, Expected: n <= e.spikeRule(domain, u.Author.Key).Expected})
			}
		}
	}
	return all
}

// spikeRule says how much more than usual of an author of a domain is a spike.
func (e *Engine) spikeRule(domain, author string) usual.Rule {
	s := e.Settings.Load()
	expected, _ := s.Expected(s.PayerOfScope(domain), author)
	return usual.Rule{Least: s.Config.Spike.Least, Factor: s.Config.Spike.Factor, Expected: expected}
}

// spikeMark is what sluice who says of how much an author sends, if that is much more than ever,
// or if an operator expects it.
func (e *Engine) spikeMark(domain, author string) string {
	if mark := e.spikes.Mark(domain, author); mark != "" {
		return mark
	}
	s := e.Settings.Load()
	expected, by := s.Expected(s.PayerOfScope(domain), author)
	if expected == 0 {
		return ""
	}
	mark := fmt.Sprintf("expected up to %d/h", expected)
	if !by.Until.IsZero() {
		mark += " until " + printable.DateTime(by.Until)
	}
	return mark
}
