package limit

import (
	"cmp"
	"slices"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// A Table is the limits in force: what all layers have set, laid on each other, and
// worked out for each scope. It does not change.
type Table struct {
	Window time.Duration // that of hourly limits

	Scopes   map[string]*scoped           // what is in force, by scope; that of defaultScope is complete
	ByName   map[string][]ratelimit.Limit // what a domain, an account or a mailbox of its own has
	fallback []ratelimit.Limit            // what any other domain has
	Accounts bool                         // byName has one of an account
	Watches  bool                         // some scope is watched
	exempts  bool                         // some scope is exempt
}

// newTable lays layers on each other, the lowest first.
func NewTable(window time.Duration, layers ...[]Setting) *Table {
	t := &Table{Window: window}
	t.compile(layers...)
	return t
}

// scoped is what is in force for one scope.
type scoped struct {
	Thresholds
	from []*Setting // that Thresholds were set by, one for each key
}

// set finds who set a key here; nil if that is left to the scopes above.
func (s *scoped) Set(key string) *Setting {
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
	if setting := s.Set(key); setting != nil {
		return setting.Origin
	}
	return Origin{}
}

// put has a setting take the place of one of a lower layer. Each layer has
// checked its own.
func (s *scoped) put(setting *Setting) {
	field := s.Field(setting.Key)
	if field == nil || field.Set(setting.Value) != nil {
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
	t.Scopes = map[string]*scoped{sidecar.DefaultScope: {}}
	for _, layer := range layers {
		for i := range layer {
			scope := t.Scopes[layer[i].Scope]
			if scope == nil {
				scope = &scoped{}
				t.Scopes[layer[i].Scope] = scope
			}
			scope.put(&layer[i])
		}
	}
	t.fallback = t.compileLimits("", t.Scopes[sidecar.DefaultScope])
	t.ByName = map[string][]ratelimit.Limit{}
	for name, scope := range t.Scopes {
		t.Watches = t.Watches || scope.Mode != nil && *scope.Mode == Watch
		t.exempts = t.exempts || scope.Exempt != nil && *scope.Exempt
		if name == sidecar.DefaultScope {
			continue
		}
		t.ByName[name] = t.compileLimits(name, scope)
		t.Accounts = t.Accounts || sidecar.IsAccount(name)
	}
}

// compileLimits finds the limits by which a subject is charged; none if it is not.
// A limit is for its own subject only, but those of the default scope are each
// domain't.
func (t *Table) compileLimits(name string, own *scoped) []ratelimit.Limit {
	var fallback Thresholds
	if sidecar.IsDomain(name) {
		fallback = t.Scopes[sidecar.DefaultScope].Thresholds
	}
	var limits []ratelimit.Limit
	if hourly := cmp.Or(own.Hourly, fallback.Hourly, new(int64)); *hourly > 0 || sidecar.IsDomain(name) {
		limits = append(limits, ratelimit.Limit{Window: t.Window, Max: *hourly})
	}
	if daily := cmp.Or(own.Daily, fallback.Daily, new(int64)); *daily > 0 && t.Window != sidecar.Day {
		limits = append(limits, ratelimit.Limit{Window: sidecar.Day, Max: *daily})
	}
	return limits
}

func (t *Table) Keep() time.Duration {
	longest := t.Window
	for _, limits := range t.ByName {
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
func (t *Table) AppendSubjects(subjects []ratelimit.Subject, who sidecar.Payer) []ratelimit.Subject {
	if limits := t.ByName[who.Mailbox]; len(limits) > 0 {
		subjects = append(subjects, ratelimit.Subject{Name: who.Mailbox, Limits: limits})
	}
	subjects = append(subjects, ratelimit.Subject{Name: who.Domain, Limits: t.LimitsOf(who.Domain)})
	if who.Account != "" && t.Accounts {
		name := sidecar.AccountPrefix + who.Account
		if limits := t.ByName[name]; len(limits) > 0 {
			subjects = append(subjects, ratelimit.Subject{Name: name, Limits: limits})
		}
	}
	if t.Watches {
		for i := range subjects {
			subjects[i].Watched = t.Watched(who, subjects[i].Name)
		}
	}
	return subjects
}

// limitsOf are the limits of a subject.
func (t *Table) LimitsOf(subject string) []ratelimit.Limit {
	if own, ok := t.ByName[subject]; ok || !sidecar.IsDomain(subject) {
		return own
	}
	return t.fallback
}

// mode is how a subject is limited, as status shows it.
func (t *Table) Mode(who sidecar.Payer, subject string) Mode {
	switch {
	case t.ExemptScope(who):
		return Exempt
	case t.Watched(who, subject):
		return Watch
	}
	return Enforce
}

// watched tells whether the limits of one of the subjects of a message are.
func (t *Table) Watched(who sidecar.Payer, subject string) bool {
	switch {
	case sidecar.IsAccount(subject):
		who.Domain, who.Mailbox = "", ""
	case sidecar.IsDomain(subject):
		who.Mailbox = ""
	}
	mode, _ := InForce(t, who, "mode", func(t *Thresholds) *Mode { return t.Mode })
	return mode == Watch
}

// exemptScope tells whether nobody is charged for somebody, by thresholds.
func (t *Table) ExemptScope(who sidecar.Payer) bool {
	if !t.exempts {
		return false
	}
	exempt, _ := InForce(t, who, "exempt", func(t *Thresholds) *bool { return t.Exempt })
	return exempt
}

// limitOrigin is who set the limit of a subject in a window.
func (t *Table) LimitOrigin(subject string, window time.Duration) Origin {
	key := "hourly"
	if window != t.Window {
		key = "daily"
	}
	for _, name := range [...]string{subject, sidecar.DefaultScope} {
		if scope := t.Scopes[name]; scope != nil && scope.Set(key) != nil {
			return scope.origin(key)
		}
	}
	return Origin{}
}

// inForce is the value of a key that cascades from the default over account
// and domain to mailbox, and who set it.
func InForce[T any](t *Table, who sidecar.Payer, key string, value func(*Thresholds) *T) (T, Origin) {
	names := [...]string{who.Mailbox, who.Domain, "", sidecar.DefaultScope}
	if who.Account != "" {
		names[2] = sidecar.AccountPrefix + who.Account
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		if scope := t.Scopes[name]; scope != nil {
			if v := value(&scope.Thresholds); v != nil {
				return *v, scope.origin(key)
			}
		}
	}
	var none T
	return none, Origin{}
}

// deferfailLimits are how many bad sends of somebody, and which share, trip.
func (t *Table) DeferfailLimits(who sidecar.Payer) (least, percent int64) {
	least, _ = InForce(t, who, "deferfail_min", func(t *Thresholds) *int64 { return t.DeferfailMin })
	percent, _ = InForce(t, who, "deferfail_percent", func(t *Thresholds) *int64 { return t.DeferfailPercent })
	return least, percent
}

// deferfailOrigin is who set the percentage of somebody.
func (t *Table) DeferfailOrigin(who sidecar.Payer) Origin {
	_, origin := InForce(t, who, "deferfail_percent", func(t *Thresholds) *int64 { return t.DeferfailPercent })
	return origin
}

// ignored are the causes that are left out for somebody.
func (t *Table) Ignored(who sidecar.Payer) []sidecar.Cause {
	causes, _ := InForce(t, who, "deferfail_ignore", func(t *Thresholds) *[]sidecar.Cause { return t.DeferfailIgnore })
	return causes
}

// decisive is the value of the most specific scope that sets a key.
func (t *Table) Decisive(key string, names []string) (Value, bool) {
	for _, name := range names {
		if scope := t.Scopes[name]; scope != nil {
			if set := scope.Set(key); set != nil {
				return Value{Key: key, Value: set.Value, Set: name, Origin: set.Origin}, true
			}
		}
	}
	return Value{}, false
}

// limitsIn are the limits that must all have room for a send of a scope.
func (t *Table) LimitsIn(key, scope string, names []string) (all []Value) {
	for _, name := range names {
		from := []string{name}
		switch {
		case name == sidecar.DefaultScope && scope != sidecar.DefaultScope:
			continue
		case sidecar.IsDomain(name):
			from = append(from, sidecar.DefaultScope)
		}
		if v, set := t.Decisive(key, from); set {
			v.Of = name
			all = append(all, v)
		}
	}
	return all
}

// full is the limit that a subject has used up, if it has.
func (t *Table) Full(standing ratelimit.Standing) (ratelimit.Use, bool) {
	for _, limit := range t.LimitsOf(standing.Name) {
		u := ratelimit.Use{Subject: standing.Name, Limit: limit, Epoch: standing.Epoch,
			Used: standing.Sent(limit.Window), Refused: standing.Refused}
		if AtLimit(u) {
			return u, true
		}
	}
	return ratelimit.Use{}, false
}

func AtLimit(u ratelimit.Use) bool { return u.Limit.Max > 0 && u.Used >= u.Limit.Max }

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
func (s *scoped) Live() (all []*Setting) {
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
