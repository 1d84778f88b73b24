package sidecar

import "time"

// An Explanation is what is in force for somebody, and why.
type Explanation struct {
	Scope   string `json:"scope"`
	Node    string `json:"node"`
	Account string `json:"account"` // owner, empty if unknown
	Mode    Mode   `json:"mode"`
	Stopped string `json:"stopped"` // as in DomainStatus

	StoppedBy string  `json:"stopped_by"` // as in DomainStatus
	Values    []Value `json:"values"`
}

// Explain tells what is in force for a scope.
func (o *Operator) Explain(now time.Time, scope string) (Explanation, error) {
	scope, err := CanonicalScope(scope)
	if err != nil {
		return Explanation{}, err
	}
	if _, err := o.doubt(now, scope); err != nil {
		return Explanation{}, err
	}
	s := o.settings.Load()
	who := s.named(scope)
	e := Explanation{Scope: scope, Node: s.Node, Account: who.account, Mode: s.mode(who, scope)}
	e.Stopped, e.StoppedBy = o.stopped(now, who)
	names := who.names()
	for _, key := range thresholdKeys() {
		if isLimit(key) {
			e.Values = append(e.Values, s.limitsIn(key, scope, names)...)
		} else if who.mailbox != "" && isTrip(key) {
			v, _ := s.decisive(key, s.owned(who.domain).names())
			v.Of = who.domain
			e.Values = append(e.Values, v)
		} else if v, set := s.decisive(key, names); set {
			v.Of = scope
			e.Values = append(e.Values, v)
		}
	}
	for i := range e.Values {
		v := &e.Values[i]
		if max, limits := v.Value.(int64); limits && max > 0 && isLimit(v.Key) {
			v.Counted = o.settings.CountedSince(v.Key, v.Of)
		}
	}
	return e, nil
}
