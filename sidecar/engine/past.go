package engine

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/eventlog"
	"sluice/sidecar/incident"
	"sluice/sidecar/near"
	"sluice/sidecar/policy"
	"sluice/sidecar/reconcile"
	"sluice/sidecar/senders"
	"sluice/sidecar/stop"
)

// past is what is made of events: the event log, and incidents.
type past struct {
	queue     *event.Queue
	near      *near.Near
	log       *eventlog.Log
	incidents *incident.Incidents
	watchers  []func(event.Event)
}

// keepPast makes the event log and the incidents, and connects them.
func (e *Engine) keepPast(o Options, clock ratelimit.Clock) {
	standing := func(now time.Time, subject string) ratelimit.Standing {
		return o.Store.Standing(clock.Store(now), subject)
	}
	e.past = past{queue: o.Queued, log: eventlog.New(o.Notes, o.Events, e.AccountOf), near: near.New(near.Options{Events: o.Events, Settings: e.Settings.Load, Culprit: e.culprit})}
	e.past.incidents = incident.New(incident.Options{Node: e.Settings.Load().Node, Notes: o.Notes, Events: o.Events, Now: o.Now, Board: o.Board, Alive: e.Alive,
		Present: func(now time.Time, domain string, c incident.Cause) bool { return e.present(now, standing, domain, c) },
		Look:    func(now time.Time, domain string) incident.View { return e.view(now, domain) }})
	if o.Board != nil {
		e.past.log.Share(o.Board, e.Settings.Load().Node, o.Now)
	}
	e.Operator.ShowPast(e.past.log, e.past.incidents)
	e.Policy.AddObserver(refusalLog{e.past.log})
	e.Recorder.AddObserver(forwarded{o.Events, map[string]*calledSpam{}})
	amiss := &conditions{events: o.Events, measures: e.Operator.Measures, since: map[event.Kind]time.Time{}, emitted: map[event.Kind]bool{}}
	take := func(ctx context.Context, now time.Time) { e.past.record(ctx, now) }
	e.loop.Add(reconcile.Owner{Survey: e.past.near.Survey})
	e.loop.Add(reconcile.Owner{Start: func(_ context.Context, now time.Time) { e.findCauses(now) }, Stepped: take,
		Tick: func(ctx context.Context, now time.Time) {
			amiss.tick(now)
			take(ctx, now)
			e.past.log.Tick(ctx, now)
			e.past.incidents.Tick(ctx, now)
		},
		Stop: func(ctx context.Context, now time.Time) {
			take(ctx, now)
			e.past.log.Stop(ctx, now)
			e.past.incidents.Stop(ctx, now)
		}})
}

// WatchIncidents calls f for every incident, see incident.Incidents.Watch. It does nothing in an
// engine that keeps no incidents.
func (e *Engine) WatchIncidents(f func(incident.Incident)) {
	if e.past.incidents != nil {
		e.past.incidents.Watch(f)
	}
}

// AccountOf is the account that a domain, or what else is charged, belongs to; empty if it is nobody's, as far as is known.
func (e *Engine) AccountOf(subject string) string {
	return e.Settings.Load().PayerOfScope(subject).Account
}

// SharedIncidents are what all nodes know of incidents, and of what was told of them; nil where this
// node shares its counts with nobody.
func (e *Engine) SharedIncidents() *incident.Incidents {
	if e.past.incidents == nil || e.past.incidents.Board == nil {
		return nil
	}
	return e.past.incidents
}

// WatchEvents has f called with every event that is kept. Call it before Run.
func (e *Engine) WatchEvents(f func(event.Event)) { e.past.watchers = append(e.past.watchers, f) }

// Incident returns an incident as it is now; false if it is not kept any more.
func (e *Engine) Incident(id incident.ID) (incident.Incident, bool) {
	if e.past.incidents == nil {
		return incident.Incident{}, false
	}
	found := e.past.incidents.List(func(i *incident.Incident) bool { return i.ID == id })
	if len(found) == 0 {
		return incident.Incident{}, false
	}
	return found[0], true
}

// record passes queued events to the log, the incidents and the watchers.
func (p *past) record(ctx context.Context, now time.Time) {
	events, lost := p.queue.Take()
	if len(events) == 0 {
		return
	}
	for _, e := range events {
		p.log.Event(e)
		p.incidents.Event(e)
		for _, f := range p.watchers {
			f(e)
		}
	}
	if lost > 0 {
		p.log.Event(event.Event{Kind: event.EventsLost, At: now, Attrs: event.Attrs("events", lost)})
	}
	p.incidents.Tick(ctx, now)
}

// refusalLog is an Observer that keeps who was refused.
type refusalLog struct{ *eventlog.Log }

// Decided implements policy.Observer.
func (l refusalLog) Decided(now time.Time, d *policy.Decision) {
	switch subject := d.Payer.Subject(); {
	case subject == "":
	case d.Refused && d.Request.Stage == sidecar.StageRoute:
		l.Refused(now, subject, d.Author.Key, "held: over a limit")
	case d.Refused:
		l.Refused(now, subject, d.Author.Key, "over a limit")
	case d.Blocked:
		l.Refused(now, subject, d.Author.Key, "blocked: "+d.By)
	}
}

// findCauses begins the incidents of what was so before the start.
func (e *Engine) findCauses(now time.Time) {
	for _, domain := range e.Locks.Full("") {
		e.past.incidents.Found(now, domain, incident.Cause{Name: incident.CauseLimit, Severity: incident.Info})
	}
	for _, subject := range e.Deferfail.Tripped() {
		e.past.incidents.Found(now, subject, incident.Cause{Name: incident.CauseDeferfail, Severity: incident.Critical})
	}
	for _, b := range e.Stopped.Blamed(now) {
		e.past.incidents.Found(now, b.Subject, incident.Cause{Name: incident.CauseCulprit, Scope: b.Key, Severity: incident.Warning})
	}
}

// present reports whether a cause of an incident is still there.
func (e *Engine) present(now time.Time, standing func(time.Time, string) ratelimit.Standing, domain string, c incident.Cause) bool {
	switch c.Name {
	case incident.CauseNear:
		return e.past.near.Is(standing(now, cmp.Or(c.Scope, domain)))
	case incident.CauseLimit:
		return len(e.Locks.Full(domain)) > 0
	case incident.CauseDeferfail:
		return e.Deferfail.Trip(now, domain) != nil
	case incident.CauseSpike:
		return e.spikes.Has(now, domain, c.Scope)
	case incident.CauseCulprit:
		return slices.ContainsFunc(e.Stopped.List(now, c.Scope, false), func(st stop.Stop) bool { return st.Of == domain })
	}
	return false
}

// view is what is known of a domain for its incident.
func (e *Engine) view(now time.Time, domain string) (v incident.View) {
	r, _ := e.Who.Of(now, domain)
	v.Evidence = incident.Evidence{Sent: r.Sent, Tried: r.Tried, Refused: r.Refused, Limit: r.Limit, Who: []incident.Sender{}, Lines: []incident.Line{}}
	for _, a := range r.Authors[:min(len(r.Authors), 8)] {
		v.Who = append(v.Who, senderOf(a))
	}
	causes, _ := e.Deferfail.Causes(domain)
	for _, c := range causes {
		v.Lines = append(v.Lines, incident.Line{Cause: string(c.Cause), Text: c.LastLine})
	}
	since, minutes := e.Who.Minutes(now, domain)
	for _, m := range minutes {
		v.Minute = append(v.Minute, incident.Minute(m))
	}
	v.Since = since
	v.Most, v.Unusual = e.culpritOf(now, domain, r.Limit, e.culprit(now, domain))
	v.MostBad, _ = e.culpritOf(now, domain, math.MaxInt64, authors{e.Stopped, e.Who}.Culprit(now, domain))
	return v
}

// culpritOf is a culprit with what it usually sends, and whether it has sent more than that.
func (e *Engine) culpritOf(now time.Time, domain string, limit int64, c sidecar.Culprit) (incident.Culprit, bool) {
	if !c.Named() {
		return incident.Culprit{}, false
	}
	usual, unusual := e.Who.Unusual(now, domain, c.Author.Key, c.Count, limit)
	unusual = unusual && c.Count > e.spikeRule(domain, c.Author.Key).Expected
	return incident.Culprit{Author: c.Author.Key, Kind: c.Author.Kind(), Proof: c.Author.Proof.String(), Account: c.Author.Account, Count: c.Count, Of: c.Of, Usual: usual}, unusual
}

func senderOf(a senders.Author) incident.Sender {
	s := incident.Sender{Author: a.Key, Proof: a.Proof, Tried: a.Tried, Sent: a.Sent, Bad: a.Bad, Recipients: a.Recipients,
		Networks: []string{}, MoreNetworks: a.MoreNetworks, Destinations: []string{}, Subject: a.Subject, FirstSeen: a.FirstSeen}
	for _, n := range a.Networks {
		s.Networks = append(s.Networks, n.Name)
	}
	for _, d := range a.Destinations {
		s.Destinations = append(s.Destinations, d.Name)
	}
	return s
}
