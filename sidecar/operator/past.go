package operator

import (
	"fmt"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/eventlog"
	"sluice/sidecar/incident"
	"sluice/sidecar/live"
	"sluice/sidecar/stop"
	"sluice/sidecar/typed"
)

// past is what is kept of what has happened; nil where nothing is.
type past struct {
	settings  *live.Live
	log       *eventlog.Log
	incidents *incident.Incidents
}

// ShowPast has Happened and Incidents answer.
func (p *past) ShowPast(log *eventlog.Log, incidents *incident.Incidents) {
	p.log, p.incidents = log, incidents
}

// Past is what has happened.
type Past struct {
	Node   string            `json:"node"` // this one
	Now    time.Time         `json:"now"`
	Events []eventlog.Record `json:"events"` // the first first
}

// Happened returns what has happened since a time: to a domain and its authors; to an author,
// with what has happened to its whole domain; to an account and its domains; or to all for "".
func (p *past) Happened(now, since time.Time, scope string) (Past, error) {
	all := Past{Node: p.settings.Load().Node, Now: now, Events: []eventlog.Record{}}
	if scope != "" {
		var err error
		if scope, err = ShownScope(scope); err != nil {
			return all, err
		}
	}
	if p.log != nil {
		all.Events = p.log.Find(since, func(r eventlog.Record) bool { return scope == "" || p.concerns(r, scope) })
	}
	return all, nil
}

// concerns reports whether a record is about a scope.
func (p *past) concerns(r eventlog.Record, scope string) bool {
	domain := stop.DomainOf(scope)
	account, isAccount := strings.CutPrefix(scope, sidecar.AccountPrefix)
	switch {
	case r.Scope == scope || r.Domain == scope || r.Domain == sidecar.ForwardPrefix+scope:
		return true
	case domain != "": // a mailbox or forwarder
		return r.Domain == domain && r.Scope == ""
	case isAccount:
		return r.Domain != "" && p.settings.Load().PayerOfScope(r.Domain).Account == account
	}
	return r.Scope != "" && stop.DomainOf(r.Scope) == scope
}

// Incidents returns the incidents of a number, like mx1-42 or 42 of this node, of a domain or
// what else is charged, or all for "", the last first. The error wraps ErrNotFound if there is
// none.
func (p *past) Incidents(scope string) ([]incident.Incident, error) {
	if p.incidents == nil {
		return []incident.Incident{}, nil
	}
	node := p.settings.Load().Node
	domain, invalid := typed.Scope(scope)
	found := p.incidents.List(func(i *incident.Incident) bool {
		id := i.ID.String()
		return scope == "" || strings.EqualFold(id, scope) || strings.EqualFold(id, node+"-"+scope) ||
			invalid == nil && (i.Domain == domain || i.Domain == sidecar.ForwardPrefix+domain) ||
			i.Culprit.Author != "" && i.Culprit.Author == scope
	})
	if len(found) == 0 && scope != "" {
		return nil, fmt.Errorf("%w: there is no incident of that number or name", typed.ErrNotFound)
	}
	return found, nil
}
