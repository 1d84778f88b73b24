package sidecar

import (
	"cmp"
	"slices"
	"time"

	"sluice/ratelimit"
)

// A Table is the limits in force: what all layers have set, laid on each other, and
// worked out for each scope. It does not change.
type Table struct {
	window time.Duration // that of hourly limits

	scopes   map[string]*scoped           // what is in force, by scope; that of defaultScope is complete
	byName   map[string][]ratelimit.Limit // what a domain, an account or a mailbox of its own has
	fallback []ratelimit.Limit            // what any other domain has
	accounts bool                         // byName has one of an account
	watches  bool                         // some scope is watched
	exempts  bool                         // some scope is exempt
}

// newTable lays layers on each other, the lowest first.
func newTable(window time.Duration, layers ...[]Setting) *Table {
	t := &Table{window: window}
	t.compile(layers...)
	return t
}

// scoped is what is in force for one scope.
type scoped struct {
	Thresholds
	from []*Setting // that Thresholds were set by, one for each key
}

// set finds who set a key here; nil if that is left to the scopes above.
func (s *scoped) set(key string) *Setting {
	if s == nil {
		return nil
	}
	if i := slices.IndexFunc(s.from, func(o *Setting) bool { return o.Key == key }); i >= 0 {
		return s.from[i]
	}
	return nil
}

// origin is that of a key that is set here.
func (s *scoped) origin(key string) Origin {
	if setting := s.set(key); setting != nil {
		return setting.Origin
	}
	return Origin{}
}

// put has a setting take the place of one of a lower layer. Each layer has
// checked its own.
func (s *scoped) put(setting *Setting) {
	field := s.field(setting.Key)
	if field == nil || field.set(setting.Value) != nil {
		return
	}
	if i := slices.IndexFunc(s.from, func(o *Setting) bool { return o.Key == setting.Key }); i >= 0 {
		s.from[i] = setting
		return
	}
	s.from = append(s.from, setting)
}

// compile lays the layers on each other, the lowest first, and works out the
// limits of every subject that has its own.
func (t *Table) compile(layers ...[]Setting) {
	t.scopes = map[string]*scoped{defaultScope: {}}
	for _, layer := range layers {
		for i := range layer {
			scope := t.scopes[layer[i].Scope]
			if scope == nil {
				scope = &scoped{}
				t.scopes[layer[i].Scope] = scope
			}
			scope.put(&layer[i])
		}
	}
	t.fallback = t.compileLimits("", t.scopes[defaultScope])
	t.byName = map[string][]ratelimit.Limit{}
	for name, scope := range t.scopes {
		t.watches = t.watches || scope.Mode != nil && *scope.Mode == Watch
		t.exempts = t.exempts || scope.Exempt != nil && *scope.Exempt
		if name == defaultScope {
			continue
		}
		t.byName[name] = t.compileLimits(name, scope)
		t.accounts = t.accounts || isAccount(name)
	}
}

// compileLimits finds the limits by which a subject is charged; none if it is not.
// A limit is for its own subject only, but those of the default scope are each
// domain't.
func (t *Table) compileLimits(name string, own *scoped) []ratelimit.Limit {
	var fallback Thresholds
	if isDomain(name) {
		fallback = t.scopes[defaultScope].Thresholds
	}
	var limits []ratelimit.Limit
	if hourly := cmp.Or(own.Hourly, fallback.Hourly, new(int64)); *hourly > 0 || isDomain(name) {
		limits = append(limits, ratelimit.Limit{Window: t.window, Max: *hourly})
	}
	if daily := cmp.Or(own.Daily, fallback.Daily, new(int64)); *daily > 0 && t.window != day {
		limits = append(limits, ratelimit.Limit{Window: day, Max: *daily})
	}
	return limits
}

func (t *Table) keep() time.Duration {
	longest := t.window
	for _, limits := range t.byName {
		for _, limit := range limits {
			longest = max(longest, limit.Window)
		}
	}
	for _, limit := range t.fallback {
		longest = max(longest, limit.Window)
	}
	return longest
}

// appendSubjects appends, to none, those who are charged for a message: its domain
// in any case, its mailbox and account where a limit names them.
func (t *Table) appendSubjects(subjects []ratelimit.Subject, who identity) []ratelimit.Subject {
	if limits := t.byName[who.mailbox]; len(limits) > 0 {
		subjects = append(subjects, ratelimit.Subject{Name: who.mailbox, Limits: limits})
	}
	subjects = append(subjects, ratelimit.Subject{Name: who.domain, Limits: t.limitsOf(who.domain)})
	if who.account != "" && t.accounts {
		name := accountPrefix + who.account
		if limits := t.byName[name]; len(limits) > 0 {
			subjects = append(subjects, ratelimit.Subject{Name: name, Limits: limits})
		}
	}
	if t.watches {
		for i := range subjects {
			subjects[i].Watched = t.watched(who, subjects[i].Name)
		}
	}
	return subjects
}

// limitsOf are the limits of a subject.
func (t *Table) limitsOf(subject string) []ratelimit.Limit {
	if own, ok := t.byName[subject]; ok || !isDomain(subject) {
		return own
	}
	return t.fallback
}

// mode is how a subject is limited, as status shows it.
func (t *Table) mode(who identity, subject string) Mode {
	switch {
	case t.exemptScope(who):
		return Exempt
	case t.watched(who, subject):
		return Watch
	}
	return Enforce
}

// watched tells whether the limits of one of the subjects of a message are.
func (t *Table) watched(who identity, subject string) bool {
	switch {
	case isAccount(subject):
		who.domain, who.mailbox = "", ""
	case isDomain(subject):
		who.mailbox = ""
	}
	mode, _ := inForce(t, who, "mode", func(t *Thresholds) *Mode { return t.Mode })
	return mode == Watch
}

// exemptScope tells whether nobody is charged for somebody, by thresholds.
func (t *Table) exemptScope(who identity) bool {
	if !t.exempts {
		return false
	}
	exempt, _ := inForce(t, who, "exempt", func(t *Thresholds) *bool { return t.Exempt })
	return exempt
}

// limitOrigin is who set the limit of a subject in a window.
func (t *Table) limitOrigin(subject string, window time.Duration) Origin {
	key := "hourly"
	if window != t.window {
		key = "daily"
	}
	for _, name := range [...]string{subject, defaultScope} {
		if scope := t.scopes[name]; scope != nil && scope.set(key) != nil {
			return scope.origin(key)
		}
	}
	return Origin{}
}

// inForce is the value of a key that cascades from the default over account
// and domain to mailbox, and who set it.
func inForce[T any](t *Table, who identity, key string, value func(*Thresholds) *T) (T, Origin) {
	names := [...]string{who.mailbox, who.domain, "", defaultScope}
	if who.account != "" {
		names[2] = accountPrefix + who.account
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		if scope := t.scopes[name]; scope != nil {
			if v := value(&scope.Thresholds); v != nil {
				return *v, scope.origin(key)
			}
		}
	}
	var none T
	return none, Origin{}
}

// deferfailLimits are how many bad sends of somebody, and which share, trip.
func (t *Table) deferfailLimits(who identity) (least, percent int64) {
	least, _ = inForce(t, who, "deferfail_min", func(t *Thresholds) *int64 { return t.DeferfailMin })
	percent, _ = inForce(t, who, "deferfail_percent", func(t *Thresholds) *int64 { return t.DeferfailPercent })
	return least, percent
}

// deferfailOrigin is who set the percentage of somebody.
func (t *Table) deferfailOrigin(who identity) Origin {
	_, origin := inForce(t, who, "deferfail_percent", func(t *Thresholds) *int64 { return t.DeferfailPercent })
	return origin
}

// ignored are the causes that are left out for somebody.
func (t *Table) ignored(who identity) []Cause {
	causes, _ := inForce(t, who, "deferfail_ignore", func(t *Thresholds) *[]Cause { return t.DeferfailIgnore })
	return causes
}

// decisive is the value of the most specific scope that sets a key.
func (t *Table) decisive(key string, names []string) (Value, bool) {
	for _, name := range names {
		if scope := t.scopes[name]; scope != nil {
			if set := scope.set(key); set != nil {
				return Value{Key: key, Value: set.Value, Set: name, Origin: set.Origin}, true
			}
		}
	}
	return Value{}, false
}

// limitsIn are the limits that must all have room for a send of a scope.
func (t *Table) limitsIn(key, scope string, names []string) (all []Value) {
	for _, name := range names {
		from := []string{name}
		switch {
		case name == defaultScope && scope != defaultScope:
			continue
		case isDomain(name):
			from = append(from, defaultScope)
		}
		if v, set := t.decisive(key, from); set {
			v.Of = name
			all = append(all, v)
		}
	}
	return all
}

// full is the limit that a subject has used up, if it has.
func (t *Table) full(standing ratelimit.Standing) (ratelimit.Use, bool) {
	for _, limit := range t.limitsOf(standing.Name) {
		u := ratelimit.Use{Subject: standing.Name, Limit: limit, Epoch: standing.Epoch,
			Used: standing.Sent(limit.Window), Refused: standing.Refused}
		if atLimit(u) {
			return u, true
		}
	}
	return ratelimit.Use{}, false
}

func atLimit(u ratelimit.Use) bool { return u.Limit.Max > 0 && u.Used >= u.Limit.Max }

// A Value is one threshold that is in force for somebody.
type Value struct {
	Key    string `json:"key"`
	Of     string `json:"of"`     // whom it limits: the scope itself, or one that it belongs to
	Value  any    `json:"value"`  // as in Setting
	Set    string `json:"set_in"` // the scope in which it is set
	Origin `json:"origin"`

	Counted time.Time `json:"counted_since,omitzero"` // of a limit: since when its sends are counted; zero: from the first on
}

// live lists what is set live for a scope.
func (s *scoped) live() (all []*Setting) {
	if s == nil {
		return nil
	}
	for _, setting := range s.from {
		if setting.Layer == LayerLive {
			all = append(all, setting)
		}
	}
	return all
}
