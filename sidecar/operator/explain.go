package operator

import (
	"time"

	"sluice/sidecar"
	"sluice/sidecar/limit"
	"sluice/sidecar/settings"
	"sluice/sidecar/typed"
)

// An Explanation is what is in force for somebody, and why.
type Explanation struct {
	Scope   string     `json:"scope"`
	Node    string     `json:"node"`
	Account string     `json:"account"` // owner, empty if unknown
	Mode    limit.Mode `json:"mode"`
	Stopped string     `json:"stopped"` // as in DomainStatus

	StoppedBy string       `json:"stopped_by"` // as in DomainStatus
	Stops     []StopStatus `json:"stops"`      // as in Status
	Values    []Value      `json:"values"`
	Share     *Share       `json:"share"`   // null: nothing is left to others
	Warning   string       `json:"warning"` // of a scope that may be a typo; else empty
}

// A Value is one threshold that is in force for somebody.
type Value struct {
	Key          string `json:"key"`
	Of           string `json:"of"`     // whose value it is: of a limit, the scope asked about or one that contains it
	Value        any    `json:"value"`  // as in Setting
	Set          string `json:"set_in"` // the scope in which it is set
	limit.Origin `json:"origin"`

	Counted time.Time `json:"counted_since,omitzero"` // of a limit: since when sends are counted; zero: since the first
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
	canonical, err := typed.Scope(scope)
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
			e.addLimits(s, key, scope, who)
		} else if who.Mailbox != "" && limit.IsDeferfail(key) {
			e.add(who.Domain, s.Decisive(key, s.PayerOfDomain(who.Domain).Scopes()))
		} else {
			e.add(scope, s.Decisive(key, names))
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

// add adds the value of a setting; nil is none.
func (e *Explanation) add(of string, set *limit.Setting) {
	if set != nil {
		e.Values = append(e.Values, Value{Key: set.Key, Of: of, Value: set.Value, Set: set.Scope, Origin: set.Origin})
	}
}

// addLimits adds the limits of one key, hourly or daily, that must all have room before scope
// may send. who is the payer of that scope.
func (e *Explanation) addLimits(s *settings.Settings, key, scope string, who sidecar.Payer) {
	for _, name := range who.Scopes() {
		byDefault := name == sidecar.DefaultScope && scope != sidecar.DefaultScope
		besideSpecial := who.Special != "" && name != who.Special // which is charged alone
		if !byDefault && !besideSpecial {
			e.add(name, s.Decisive(key, who.LimitScopes(name)))
		}
	}
}
