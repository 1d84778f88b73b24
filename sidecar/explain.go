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

// A Value is one threshold that is in force for somebody.
type Value struct {
	Key    string `json:"key"`
	Of     string `json:"of"`     // whom it limits: the scope itself, or one that it belongs to
	Value  any    `json:"value"`  // as in Setting
	Set    string `json:"set_in"` // the scope in which it is set
	Origin `json:"origin"`

	Counted time.Time `json:"counted_since,omitzero"` // of a limit: since when its sends are counted; zero: from the first on
}

// Explain tells what is in force for a scope.
func (p *Policy) Explain(now time.Time, scope string) (Explanation, error) {
	scope, err := CanonicalScope(scope)
	if err != nil {
		return Explanation{}, err
	}
	if _, err := p.doubt(now, scope); err != nil {
		return Explanation{}, err
	}
	s := p.settings.Load()
	who := s.named(scope)
	e := Explanation{Scope: scope, Node: s.Node, Account: who.account, Mode: s.mode(who, scope)}
	if stopped := p.stop(s, who); stopped != nil {
		e.Stopped, e.StoppedBy = stopped.text, stopped.by
	}
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
			v.Counted = p.settings.CountedSince(v.Key, v.Of)
		}
	}
	return e, nil
}

// names are the scopes of somebody, from the most specific to the default.
func (who identity) names() (names []string) {
	if who.mailbox != "" {
		names = append(names, who.mailbox)
	}
	if who.domain != "" {
		names = append(names, who.domain)
	}
	if who.account != "" {
		names = append(names, accountPrefix+who.account)
	}
	return append(names, defaultScope)
}

// decisive is the value of the most specific scope that sets a key.
func (s *Settings) decisive(key string, names []string) (Value, bool) {
	for _, name := range names {
		if scope := s.scopes[name]; scope != nil {
			if set := scope.set(key); set != nil {
				return Value{Key: key, Value: set.Value, Set: name, Origin: set.Origin}, true
			}
		}
	}
	return Value{}, false
}

// limitsIn are the limits that must all have room for a send of a scope.
func (s *Settings) limitsIn(key, scope string, names []string) (all []Value) {
	for _, name := range names {
		from := []string{name}
		switch {
		case name == defaultScope && scope != defaultScope:
			continue
		case isDomain(name):
			from = append(from, defaultScope)
		}
		if v, set := s.decisive(key, from); set {
			v.Of = name
			all = append(all, v)
		}
	}
	return all
}

// valueOf is the value of a key that is in force for a scope; nil if none is.
func (s *Settings) valueOf(key, scope string) any {
	if isLimit(key) {
		for _, v := range s.limitsIn(key, scope, []string{scope}) {
			return v.Value
		}
		return nil
	}
	v, _ := s.decisive(key, s.named(scope).names())
	return v.Value
}
