package sidecar

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
)

// Settings are what decisions go by: one immutable value, swapped whole.
type Settings struct {
	Node     string // the domain charged for mail of this host that is nobody's
	EximUser string // who Exim's own bounces come from
	config   *Config
	window   time.Duration // that of hourly limits

	scopes   map[string]*scoped           // what is in force, by scope; that of defaultScope is complete
	byName   map[string][]ratelimit.Limit // what a domain, an account or a mailbox of its own has
	fallback []ratelimit.Limit            // what any other domain has
	accounts bool                         // byName has one of an account
	watches  bool                         // some scope is watched
	exempts  bool                         // some scope is exempt
	stops    map[string]Stop              // whom the panel has stopped, by scope

	relay            []netip.Prefix
	exemptSenders    []string
	exemptLogins     []string
	remoteTransports []string // globs
	localDomains     *followed[domainSet]
	chargeAtEnd      bool // postfix.charge
	owners           *followed[owners]
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

// sources are what Settings are made of.
type sources struct {
	config *Config
	panel  Panel
	live   []Setting
}

// A Panel is what the files of a hosting panel say.
type Panel struct {
	Settings     []Setting
	Stops        map[string]Stop // by scope: account:bob, news@example.com, example.com
	ExemptLogins []string        // local users that run list software
	Trouble      []string        // lines that were skipped, as "FILE:LINE: why"
}

// A Stop is that a panel lets somebody send nothing.
type Stop struct {
	Suspended bool   // refused for good; otherwise on hold, and sent later
	Place     string // FILE:LINE that says so
}

// newSettings works out what is in force, once and not for each question. Of
// before, which may be nil, it takes over the files that are followed. It
// returns settings also with an error: those of the files that cannot be read
// are missing.
func newSettings(from sources, node, eximUser string, before *Settings) (*Settings, error) {
	c := from.config
	s := &Settings{Node: node, EximUser: eximUser, config: c, window: c.Limits.Window,
		stops: from.panel.Stops, exemptLogins: from.panel.ExemptLogins,
		remoteTransports: c.Exim.RemoteTransports, chargeAtEnd: c.Postfix.Charge == ChargeAtEnd}
	for _, relay := range c.Identity.Relay {
		s.relay = append(s.relay, prefixOf(relay))
	}
	for _, sender := range c.Identity.ExemptSenders {
		if a := foldAddress(sender); a.domain != "" {
			sender = a.String()
		} else {
			sender = foldDomain(sender)
		}
		s.exemptSenders = append(s.exemptSenders, sender)
	}
	s.compile(c.settings(), from.panel.Settings, from.live)
	return s, s.follow(before)
}

// localDomains are those of whichever mail server there is.
func (c *Config) localDomains() []string {
	return slices.Concat(c.Exim.LocalDomains, c.Postfix.LocalDomains)
}

// follow begins to follow the files of local domains and owners, or goes on.
func (s *Settings) follow(before *Settings) error {
	var errs []error
	local := s.config.localDomains()
	if before != nil && slices.Equal(before.config.localDomains(), local) {
		s.localDomains = before.localDomains
	} else {
		s.localDomains = followDomains(local)
		errs = append(errs, s.localDomains.refresh())
	}
	owners, main := s.config.Identity.Owners, s.config.Identity.MainDomains
	if before != nil && before.config.Identity.Owners == owners && before.config.Identity.MainDomains == main {
		s.owners = before.owners
	} else {
		s.owners = followOwners(owners, main, passwdFile)
		errs = append(errs, s.owners.refresh())
	}
	return errors.Join(errs...)
}

// passwdFile has the home directories of the accounts.
const passwdFile = "/etc/passwd"

// refresh reads again what files hold that have changed.
func (s *Settings) refresh() error {
	return errors.Join(s.localDomains.refresh(), s.owners.refresh())
}

// compile lays the layers on each other, the lowest first, and works out the
// limits of every subject that has its own.
func (s *Settings) compile(layers ...[]Setting) {
	s.scopes = map[string]*scoped{defaultScope: {}}
	for _, layer := range layers {
		for i := range layer {
			scope := s.scopes[layer[i].Scope]
			if scope == nil {
				scope = &scoped{}
				s.scopes[layer[i].Scope] = scope
			}
			scope.put(&layer[i])
		}
	}
	s.fallback = s.compileLimits("", s.scopes[defaultScope])
	s.byName = map[string][]ratelimit.Limit{}
	for name, scope := range s.scopes {
		s.watches = s.watches || scope.Mode != nil && *scope.Mode == Watch
		s.exempts = s.exempts || scope.Exempt != nil && *scope.Exempt
		if name == defaultScope {
			continue
		}
		s.byName[name] = s.compileLimits(name, scope)
		s.accounts = s.accounts || isAccount(name)
	}
}

// compileLimits finds the limits by which a subject is charged; none if it is not.
// A limit is for its own subject only, but those of the default scope are each
// domain's.
func (s *Settings) compileLimits(name string, own *scoped) []ratelimit.Limit {
	var fallback Thresholds
	if isDomain(name) {
		fallback = s.scopes[defaultScope].Thresholds
	}
	var limits []ratelimit.Limit
	if hourly := cmp.Or(own.Hourly, fallback.Hourly, new(int64)); *hourly > 0 || isDomain(name) {
		limits = append(limits, ratelimit.Limit{Window: s.window, Max: *hourly})
	}
	if daily := cmp.Or(own.Daily, fallback.Daily, new(int64)); *daily > 0 && s.window != day {
		limits = append(limits, ratelimit.Limit{Window: day, Max: *daily})
	}
	return limits
}

// prefixOf is a network, or an address as a network of one.
func prefixOf(s string) netip.Prefix {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked()
	}
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())
}

// day is the window of a daily limit.
const day = 24 * time.Hour

// Keep is the longest window that the file limits for anybody.
func (c *Config) Keep() time.Duration {
	s := &Settings{window: c.Limits.Window}
	s.compile(c.settings())
	return s.keep()
}

// Keep is the longest window that is limited for anybody.
func (p *Policy) Keep() time.Duration { return p.settings.Load().keep() }

func (s *Settings) keep() time.Duration {
	longest := s.window
	for _, limits := range s.byName {
		for _, limit := range limits {
			longest = max(longest, limit.Window)
		}
	}
	for _, limit := range s.fallback {
		longest = max(longest, limit.Window)
	}
	return longest
}

// appendSubjects appends, to none, those who are charged for a message: its domain
// in any case, its mailbox and account where a limit names them.
func (s *Settings) appendSubjects(subjects []ratelimit.Subject, who identity) []ratelimit.Subject {
	if limits := s.byName[who.mailbox]; len(limits) > 0 {
		subjects = append(subjects, ratelimit.Subject{Name: who.mailbox, Limits: limits})
	}
	subjects = append(subjects, ratelimit.Subject{Name: who.domain, Limits: s.limitsOf(who.domain)})
	if who.account != "" && s.accounts {
		name := accountPrefix + who.account
		if limits := s.byName[name]; len(limits) > 0 {
			subjects = append(subjects, ratelimit.Subject{Name: name, Limits: limits})
		}
	}
	if s.watches {
		for i := range subjects {
			subjects[i].Watched = s.watched(who, subjects[i].Name)
		}
	}
	return subjects
}

// limitsOf are the limits of a subject.
func (s *Settings) limitsOf(subject string) []ratelimit.Limit {
	if own, ok := s.byName[subject]; ok || !isDomain(subject) {
		return own
	}
	return s.fallback
}

// owned is a domain as it is looked at without a message: with its owner.
func (s *Settings) owned(domain string) identity {
	return identity{domain: domain, account: s.owners.get().account[domain]}
}

// named is somebody as they are looked at by a subject's name.
func (s *Settings) named(subject string) identity {
	if subject == defaultScope {
		return identity{}
	}
	if account, ok := strings.CutPrefix(subject, accountPrefix); ok {
		return identity{account: account}
	}
	if domain := domainOf(subject); domain != "" {
		who := s.owned(domain)
		who.mailbox = subject
		return who
	}
	return s.owned(subject)
}

// mode is how a subject is limited, as status shows it.
func (s *Settings) mode(who identity, subject string) Mode {
	switch {
	case s.exemptScope(who):
		return Exempt
	case s.watched(who, subject):
		return Watch
	}
	return Enforce
}

// watched tells whether the limits of one of the subjects of a message are.
func (s *Settings) watched(who identity, subject string) bool {
	switch {
	case isAccount(subject):
		who.domain, who.mailbox = "", ""
	case isDomain(subject):
		who.mailbox = ""
	}
	mode, _ := inForce(s, who, "mode", func(t *Thresholds) *Mode { return t.Mode })
	return mode == Watch
}

// exemptScope tells whether nobody is charged for somebody, by thresholds.
func (s *Settings) exemptScope(who identity) bool {
	if !s.exempts {
		return false
	}
	exempt, _ := inForce(s, who, "exempt", func(t *Thresholds) *bool { return t.Exempt })
	return exempt
}

// inForce is the value of a key that cascades from the default over account
// and domain to mailbox, and who set it.
func inForce[T any](s *Settings, who identity, key string, value func(*Thresholds) *T) (T, Origin) {
	names := [...]string{who.mailbox, who.domain, "", defaultScope}
	if who.account != "" {
		names[2] = accountPrefix + who.account
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		if scope := s.scopes[name]; scope != nil {
			if v := value(&scope.Thresholds); v != nil {
				return *v, scope.origin(key)
			}
		}
	}
	var none T
	return none, Origin{}
}

// limitOrigin is who set the limit of a subject in a window.
func (s *Settings) limitOrigin(subject string, window time.Duration) Origin {
	key := "hourly"
	if window != s.window {
		key = "daily"
	}
	for _, name := range [...]string{subject, defaultScope} {
		if scope := s.scopes[name]; scope != nil && scope.set(key) != nil {
			return scope.origin(key)
		}
	}
	return Origin{}
}
