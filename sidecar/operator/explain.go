package operator

import (
	"time"

	"sluice/sidecar"
	"sluice/sidecar/limit"
)

// An Explanation is what is in force for somebody, and why.
type Explanation struct {
	Scope   string     `json:"scope"`
	Node    string     `json:"node"`
	Account string     `json:"account"` // owner, empty if unknown
	Mode    limit.Mode `json:"mode"`
	Stopped string     `json:"stopped"` // as in DomainStatus

	StoppedBy string        `json:"stopped_by"` // as in DomainStatus
	Stops     []StopStatus  `json:"stops"`      // as in Status
	Values    []limit.Value `json:"values"`
	Share     *Share        `json:"share"`   // null: nothing is left to others
	Warning   string        `json:"warning"` // of a scope that may be a typo; else empty
}

// A Share is what is left now of a domain's hourly limit to the others of it by a mailbox, or
// by an author that has never sent.
type Share struct {
	Of     int64 `json:"of"`     // the limit
	Others int64 `json:"others"` // that others usually still send
	Free   int64 `json:"free"`   // sends from now that need not leave them room, though the limit holds
}

// share is that of a scope; nil if there is none.
func (o *Operator) share(now time.Time, scope string, who sidecar.Payer) *Share {
	free, others, max := o.policy.ShareOf(now, authorOf(scope), who)
	if others == 0 {
		return nil
	}
	return &Share{max, others, free}
}

// Explain returns what is in force for a scope, and where it is set.
func (o *Operator) Explain(now time.Time, scope string) (Explanation, error) {
	canonical, err := limit.CanonicalScope(scope)
	if err != nil {
		return o.explainAuthor(now, scope, err)
	}
	scope = canonical
	warning, err := o.scopes.check(now, scope)
	if err != nil {
		return Explanation{}, err
	}
	s := o.settings.Load()
	who := s.PayerOfScope(scope)
	e := Explanation{Scope: scope, Node: s.Node, Account: who.Account, Mode: s.Mode(who, scope), Warning: warning, Stops: o.stopsIn(now, scope)}
	e.Stopped, e.StoppedBy = o.stopped(now, authorOf(scope), who)
	e.Share = o.share(now, scope, who)
	names := who.Scopes()
	for _, key := range limit.Keys() {
		if limit.IsLimit(key) {
			e.Values = append(e.Values, s.LimitsIn(key, scope, who)...)
		} else if who.Mailbox != "" && limit.IsDeferfail(key) {
			v, _ := s.Decisive(key, s.PayerOfDomain(who.Domain).Scopes())
			v.Of = who.Domain
			e.Values = append(e.Values, v)
		} else if v, set := s.Decisive(key, names); set {
			v.Of = scope
			e.Values = append(e.Values, v)
		}
	}
	for i := range e.Values {
		v := &e.Values[i]
		if max, limits := v.Value.(int64); limits && max > 0 && limit.IsLimit(v.Key) {
			v.Counted = o.settings.CountedSince(v.Key, v.Of)
		}
	}
	return e, nil
}
