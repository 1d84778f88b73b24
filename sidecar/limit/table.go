package limit

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/overlay"
)

// A Table is the thresholds in force: those of all layers together, compiled for each
// scope. It does not change.
type Table struct {
	Window time.Duration // that of hourly limits

	scopes      overlay.Map[scoped] // what each scope sets; the default scope sets every key
	fallback    []ratelimit.Limit   // limits of any domain without a scope of its own
	unlimited   []ratelimit.Limit   // limits of special subjects that have none
	HasAccounts bool                // some scope is an account
	HasWatched  bool                // some scope is watched

	accounts, watched, exempted int   // how many scopes are that
	sharers                     int   // how many but the default scope say something of leaving room for others
	share                       int64 // what the default scope says of it: percent
}

// scoped is what all layers together set for one scope.
type scoped struct {
	Thresholds
	from   []*Setting        // the origin of each of them, one for each key
	below  *scoped           // what the layers below the live one set; nil: this is without that
	limits []ratelimit.Limit // of the domain, account or mailbox that the scope names
}

// Scope is what is set for a scope by itself; nil: nothing is.
func (t *Table) Scope(name string) *scoped { return t.scopes.Get(name) }

// Scopes yields the scopes for which something is set, in no order.
func (t *Table) Scopes() iter.Seq2[string, *scoped] { return t.scopes.All() }

// limitsOf are the limits of a scope; false if nothing is set for it.
func (t *Table) limitsOf(name string) ([]ratelimit.Limit, bool) {
	if scope := t.scopes.Get(name); scope != nil && name != sidecar.DefaultScope {
		return scope.limits, true
	}
	return nil, false
}

// OwnLimits are the limits of a domain, account or mailbox for which something is set by itself.
func (t *Table) OwnLimits(name string) []ratelimit.Limit {
	limits, _ := t.limitsOf(name)
	return limits
}

// Set returns the setting of a key in this scope; nil if it does not set the key.
func (s *scoped) Set(key string) *Setting {
	if s != nil {
		for _, setting := range s.from {
			if setting.Key == key {
				return setting
			}
		}
	}
	return nil
}

// put replaces the setting of a lower layer. Settings were validated when they were
// made: one that is not valid all the same has no effect.
func (s *scoped) put(setting *Setting) {
	if field := s.Field(setting.Key); field == nil || field.Set(setting.Value) != nil {
		return
	}
	i := slices.IndexFunc(s.from, func(o *Setting) bool { return o.Key == setting.Key })
	if i < 0 {
		i, s.from = len(s.from), append(s.from, nil)
	}
	s.from[i] = setting
}

// NewTable compiles layers of settings, of which a later one overrides an earlier one.
// The first one sets every key of the default scope.
func NewTable(window time.Duration, layers ...[]Setting) *Table {
	t, all := &Table{Window: window}, map[string]*scoped{sidecar.DefaultScope: {}}
	for _, layer := range layers {
		for i := range layer {
			scope := all[layer[i].Scope]
			if layer[i].Layer == LayerLive && (scope == nil || scope.below == nil) {
				scope = scope.above()
				all[layer[i].Scope] = scope
			}
			if scope == nil {
				scope = &scoped{}
				all[layer[i].Scope] = scope
			}
			scope.put(&layer[i])
		}
	}
	t.scopes = overlay.New(all)
	t.compile()
	return t
}

// above is a scope for the live layer, above the others; nil is an empty one.
func (s *scoped) above() *scoped {
	if s == nil {
		s = &scoped{}
	}
	return &scoped{Thresholds: s.Thresholds, from: slices.Clone(s.from), below: s}
}

// With returns the table with other live settings in some scopes, instead of those that
// it has there. Except for the default scope, only these are compiled.
func (t *Table) With(live map[string][]Setting) *Table {
	after, others := *t, map[string]*scoped{}
	for name, settings := range live {
		scope := t.scopes.Get(name)
		after.count(name, scope, -1)
		if scope != nil && scope.below != nil {
			scope = scope.below
		}
		if len(settings) > 0 {
			scope = scope.above()
			for i := range settings {
				scope.put(&settings[i])
			}
		}
		if scope != nil && len(scope.from) == 0 && name != sidecar.DefaultScope {
			scope = nil
		}
		others[name] = scope
		after.count(name, scope, 1)
	}
	after.scopes = t.scopes.With(others)
	if _, all := live[sidecar.DefaultScope]; all {
		after.compile()
		return &after
	}
	for name, scope := range others {
		if scope != nil {
			others[name] = after.compiled(name, scope)
		}
	}
	after.scopes = t.scopes.With(others)
	return &after
}

// compile finds the limits of all scopes.
func (t *Table) compile() {
	t.fallback, t.unlimited = t.compileLimits("", []string{sidecar.DefaultScope}), t.compileLimits("", nil)
	all := map[string]*scoped{}
	for name, scope := range t.scopes.All() {
		all[name] = t.compiled(name, scope)
	}
	t.scopes = overlay.New(all)
	t.accounts, t.watched, t.exempted, t.sharers = 0, 0, 0, 0
	for name, scope := range all {
		t.count(name, scope, 1)
	}
	t.share = t.percentForOthers(sidecar.Payer{})
}

// compiled is a scope with its limits.
func (t *Table) compiled(name string, scope *scoped) *scoped {
	with := *scope
	with.limits = t.compileLimits(name, scopesOfLimits(name))
	return &with
}

// count adds a scope that comes, or with -1 goes. What no scope has, nobody has to look for.
func (t *Table) count(name string, scope *scoped, by int) {
	if scope == nil {
		return
	}
	if scope.Mode != nil && *scope.Mode == Watch {
		t.watched += by
	}
	if scope.Exempt != nil && *scope.Exempt {
		t.exempted += by
	}
	if sidecar.IsAccount(name) {
		t.accounts += by
	}
	if name != sidecar.DefaultScope && (scope.Culprit != nil || scope.OthersShare != nil) {
		t.sharers += by
	}
	t.HasWatched, t.HasAccounts = t.watched > 0, t.accounts > 0
}

// scopesOfLimits lists the scopes of which the first that sets a limit says how much a
// subject may send. A limit is for its own subject only, but those of the default scope
// are for each domain by itself.
func scopesOfLimits(name string) []string {
	if sidecar.AlwaysCounted(name) && !sidecar.Unlimited(name) {
		return []string{name, sidecar.DefaultScope}
	}
	return []string{name}
}

// compileLimits finds the limits of a subject in the scopes that may set them, of which
// the first that does decides. A mailbox or account without any is not counted.
func (t *Table) compileLimits(name string, scopes []string) []ratelimit.Limit {
	var hourly, daily int64
	for _, scope := range slices.Backward(scopes) {
		if set := t.scopes.Get(scope); set != nil {
			hourly, daily = *cmp.Or(set.Hourly, &hourly), *cmp.Or(set.Daily, &daily)
		}
	}
	var limits []ratelimit.Limit
	if hourly > 0 || sidecar.AlwaysCounted(name) {
		limits = append(limits, ratelimit.Limit{Window: t.Window, Max: hourly})
	}
	if daily > 0 && t.Window != Day {
		limits = append(limits, ratelimit.Limit{Window: Day, Max: daily})
	}
	return limits
}

// LongestWindow is the longest window of any limit: how long sends must be remembered.
func (t *Table) LongestWindow() time.Duration {
	longest := t.Window
	for _, limit := range t.fallback {
		longest = max(longest, limit.Window)
	}
	for _, scope := range t.scopes.All() {
		for _, limit := range scope.limits {
			longest = max(longest, limit.Window)
		}
	}
	return longest
}

// AppendSubjects appends to an empty slice the subjects that are charged for a message:
// its domain in any case, its mailbox and account if they have limits of their own. A
// special subject is charged alone.
func (t *Table) AppendSubjects(subjects []ratelimit.Subject, who sidecar.Payer) []ratelimit.Subject {
	if limits := t.OwnLimits(who.Mailbox); len(limits) > 0 {
		subjects = append(subjects, ratelimit.Subject{Name: who.Mailbox, Limits: limits})
	}
	subjects = append(subjects, ratelimit.Subject{Name: who.Subject(), Limits: t.LimitsOf(who)})
	if who.Account != "" && who.Special == "" && t.HasAccounts {
		name := sidecar.AccountPrefix + who.Account
		if limits := t.OwnLimits(name); len(limits) > 0 {
			subjects = append(subjects, ratelimit.Subject{Name: name, Limits: limits})
		}
	}
	if t.HasWatched {
		for i := range subjects {
			subjects[i].Watched = t.Watched(who, subjects[i].Name)
		}
	}
	return subjects
}

// LimitsOf are the limits of who's Subject.
func (t *Table) LimitsOf(who sidecar.Payer) []ratelimit.Limit {
	if who.Special != "" {
		switch own, ok := t.limitsOf(who.Special); {
		case ok && who.Domain != "": // its domain may have changed: an account's other main domain
			return t.compileLimits(who.Special, who.LimitScopes(who.Special))
		case ok:
			return own
		case sidecar.Unlimited(who.Special):
			return t.unlimited
		}
	}
	if own, ok := t.limitsOf(who.Domain); ok {
		return own
	}
	return t.fallback
}

// Mode is how a subject is limited, as status shows it.
func (t *Table) Mode(who sidecar.Payer, subject string) Mode {
	switch {
	case t.ExemptScope(who):
		return Exempt
	case t.Watched(who, subject):
		return Watch
	}
	return Enforce
}

// Watched reports whether the limits of a subject, one of those charged for a message of
// who, are only watched.
func (t *Table) Watched(who sidecar.Payer, subject string) bool {
	switch {
	case sidecar.IsAccount(subject):
		who.Domain, who.Mailbox = "", ""
	case sidecar.IsDomain(subject):
		who.Mailbox = ""
	}
	return InForce(t, who, func(t *Thresholds) *Mode { return t.Mode }) == Watch
}

// ExemptScope reports whether thresholds exempt somebody from being charged.
func (t *Table) ExemptScope(who sidecar.Payer) bool {
	return t.exempted > 0 && InForce(t, who, func(t *Thresholds) *bool { return t.Exempt })
}

// LimitOrigin says who set the limit of a subject in a window, one of those charged for a
// message of who.
func (t *Table) LimitOrigin(who sidecar.Payer, subject string, window time.Duration) Origin {
	key := "hourly"
	if window != t.Window {
		key = "daily"
	}
	return t.originOf(key, who.LimitScopes(subject))
}

// InForce is the value of a threshold for somebody: that of the most specific scope which
// sets it, of mailbox, domain, account and default.
func InForce[T any](t *Table, who sidecar.Payer, value func(*Thresholds) *T) (v T) {
	if !t.HasAccounts {
		who.Account = ""
	}
	for _, name := range who.Scopes() {
		if scope := t.scopes.Get(name); scope != nil {
			if v := value(&scope.Thresholds); v != nil {
				return *v
			}
		}
	}
	return v
}

// Expected is how many sends in an hour of an author are fine, at the expense of who, and who has
// said so; 0 if nobody has.
func (t *Table) Expected(who sidecar.Payer, author string) (n int64, by Origin) {
	if own := t.Scope(author); own != nil && own.Expected != nil {
		return *own.Expected, own.Set("expected").Origin
	}
	n = InForce(t, who, func(t *Thresholds) *int64 { return t.Expected })
	return n, t.originOf("expected", who.Scopes())
}

// DeferfailLimits are the number of bad sends, and their share of all in percent, that
// block somebody's domain.
func (t *Table) DeferfailLimits(who sidecar.Payer) (least, percent int64) {
	least = InForce(t, who, func(t *Thresholds) *int64 { return t.DeferfailMin })
	percent = InForce(t, who, func(t *Thresholds) *int64 { return t.DeferfailPercent })
	return least, percent
}

// DeferfailOrigin says who set the percentage for somebody.
func (t *Table) DeferfailOrigin(who sidecar.Payer) Origin {
	return t.originOf("deferfail_percent", who.Scopes())
}

// IgnoredCauses are the causes by which defers and failures are not bad for somebody.
func (t *Table) IgnoredCauses(who sidecar.Payer) []sidecar.Cause {
	return InForce(t, who, func(t *Thresholds) *[]sidecar.Cause { return t.DeferfailIgnore })
}

// Decisive is the setting of a key in the first of the named scopes that sets it; nil if
// none does.
func (t *Table) Decisive(key string, names []string) *Setting {
	for _, name := range names {
		if set := t.scopes.Get(name).Set(key); set != nil {
			return set
		}
	}
	return nil
}

// originOf says who set a key in the first of the named scopes that sets it.
func (t *Table) originOf(key string, names []string) Origin {
	if set := t.Decisive(key, names); set != nil {
		return set.Origin
	}
	return Origin{}
}

// UsedUp reports whether a limit is used up.
func UsedUp(u ratelimit.Use) bool { return u.Limit.Max > 0 && u.Used >= u.Limit.Max }
