package sidecar

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"sluice/ratelimit"
)

// Settings are what decisions go by: one immutable value, swapped whole.
type Settings struct {
	Node     string // the domain charged for mail of this host that is nobody's
	EximUser string // who Exim's own bounces come from
	limits   Limits
	origin   func(key string) string

	byName           map[string][]ratelimit.Limit // what a domain, an account or a mailbox of its own has
	fallback         []ratelimit.Limit            // what any other domain has
	relay            []netip.Prefix
	exemptSenders    []string
	remoteTransports []string // globs
	localDomains     *followed[domainSet]
	chargeAtEnd      bool // postfix.charge
	owners           *followed[owners]
}

// newSettings makes settings of a configuration, which is valid.
func newSettings(c *Config, node, eximUser string) *Settings {
	s := &Settings{Node: node, EximUser: eximUser, limits: c.Limits, origin: c.Origin}
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
	s.remoteTransports = c.Exim.RemoteTransports
	s.localDomains = followDomains(slices.Concat(c.Exim.LocalDomains, c.Postfix.LocalDomains))
	s.chargeAtEnd = c.Postfix.Charge == ChargeAtEnd
	s.owners = followOwners(c.Identity.Owners, c.Identity.MainDomains, passwdFile)
	s.compile()
	return s
}

// passwdFile has the home directories of the accounts.
const passwdFile = "/etc/passwd"

// refresh reads again what files hold that have changed.
func (s *Settings) refresh() error {
	return errors.Join(s.localDomains.refresh(), s.owners.refresh())
}

// compile works out the limits of every subject that has its own, once and not
// for each question.
func (s *Settings) compile() {
	s.fallback = s.limitsOf(domainScope("", Thresholds{}))
	s.byName = map[string][]ratelimit.Limit{}
	for name, t := range s.limits.Domain {
		s.byName[name] = s.limitsOf(domainScope(name, t))
	}
	for name, t := range s.limits.Mailbox {
		s.byName[name] = s.limitsOf(mailboxScope(name, t))
	}
	for name, t := range s.limits.Account {
		s.byName[accountPrefix+name] = s.limitsOf(accountScope(name, t))
	}
}

// limitsOf are the limits by which a subject is charged; none if it is not.
func (s *Settings) limitsOf(c scope) []ratelimit.Limit {
	var limits []ratelimit.Limit
	if hourly, _ := s.hourly(c); hourly > 0 || c.domain {
		limits = append(limits, ratelimit.Limit{Window: s.limits.Window, Max: hourly})
	}
	if daily, _ := s.daily(c); daily > 0 && s.limits.Window != day {
		limits = append(limits, ratelimit.Limit{Window: day, Max: daily})
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

// Keep is the longest window that is limited for anybody.
func (c *Config) Keep() time.Duration {
	keep := c.Limits.Window
	all := []map[string]Thresholds{{"": c.Limits.Default}, c.Limits.Domain, c.Limits.Account, c.Limits.Mailbox}
	for _, scopes := range all {
		for _, t := range scopes {
			if t.Daily != nil && *t.Daily > 0 {
				keep = max(keep, day)
			}
		}
	}
	return keep
}

// A scope is one of the subjects of a message, with its thresholds.
type scope struct {
	name   string // of the subject, as commands take it: example.com, account:bob, news@example.com
	key    string // of its table in the configuration
	title  string // as the refusal names it
	domain bool
	own    Thresholds
}

// accountPrefix begins the name of an account's subject.
const accountPrefix = "account:"

func domainScope(name string, t Thresholds) scope {
	return scope{name, "limits.domain." + name, "Domain " + name, true, t}
}

func mailboxScope(name string, t Thresholds) scope {
	return scope{name, "limits.mailbox." + name, "Mailbox " + name, false, t}
}

func accountScope(name string, t Thresholds) scope {
	return scope{accountPrefix + name, "limits.account." + name, "Account " + name, false, t}
}

// scopes are the scopes of a message, from the most specific to the least.
func (s *Settings) scopes(who identity) []scope {
	var all []scope
	if who.mailbox != "" {
		all = append(all, mailboxScope(who.mailbox, s.limits.Mailbox[who.mailbox]))
	}
	all = append(all, domainScope(who.domain, s.limits.Domain[who.domain]))
	if who.account != "" {
		all = append(all, accountScope(who.account, s.limits.Account[who.account]))
	}
	return all
}

// subjects are those who are charged for a message: its domain in any case,
// its mailbox and account where a limit names them.
func (s *Settings) subjects(who identity) []ratelimit.Subject {
	subjects := make([]ratelimit.Subject, 0, 1)
	if limits := s.byName[who.mailbox]; len(limits) > 0 {
		subjects = append(subjects, ratelimit.Subject{Name: who.mailbox, Limits: limits})
	}
	limits, own := s.byName[who.domain]
	if !own {
		limits = s.fallback
	}
	subjects = append(subjects, ratelimit.Subject{Name: who.domain, Limits: limits})
	if who.account != "" && len(s.limits.Account) > 0 {
		name := accountPrefix + who.account
		if limits := s.byName[name]; len(limits) > 0 {
			subjects = append(subjects, ratelimit.Subject{Name: name, Limits: limits})
		}
	}
	return subjects
}

// hourly is a scope's limit in the window, and where it is set. A limit is
// for its own subject only; the default is each domain's.
func (s *Settings) hourly(c scope) (limit int64, origin string) {
	return s.limit(c, "hourly", c.own.Hourly, s.limits.Default.Hourly)
}

// daily is a scope's limit in 24 hours, and where it is set.
func (s *Settings) daily(c scope) (limit int64, origin string) {
	return s.limit(c, "daily", c.own.Daily, s.limits.Default.Daily)
}

func (s *Settings) limit(c scope, key string, own, fallback *int64) (int64, string) {
	switch {
	case own != nil:
		return *own, s.origin(c.key + "." + key)
	case c.domain && fallback != nil:
		return *fallback, s.origin("limits." + key)
	}
	return 0, ""
}

// cutoff is the percentage of a limit from which on 450 becomes 550. It comes
// from the most specific scope of the message that sets it.
func (s *Settings) cutoff(who identity) int64 {
	return s.cascade(who, func(t Thresholds) *int64 { return t.DeferCutoff })
}

func (s *Settings) cascade(who identity, value func(Thresholds) *int64) int64 {
	for _, scope := range s.scopes(who) {
		if v := value(scope.own); v != nil {
			return *v
		}
	}
	if v := value(s.limits.Default); v != nil {
		return *v
	}
	return 0
}
