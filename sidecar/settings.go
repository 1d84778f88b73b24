package sidecar

import (
	"slices"
	"time"
)

// Settings are what decisions go by: one immutable value, swapped whole.
type Settings struct {
	*Table // who may send how much
	*Rules // who is charged

	config           *Config
	stops            map[string]Stop // whom the panel has stopped, by scope
	remoteTransports []string        // globs
	chargeAtEnd      bool            // postfix.charge
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
	var known *Rules
	if before != nil {
		known = before.Rules
	}
	rules, err := newRules(RuleOptions{
		Node: node, EximUser: eximUser, LocalDomains: c.localDomains(), Owners: c.Identity.Owners, MainDomains: c.Identity.MainDomains,
		Relay: c.Identity.Relay, ExemptSenders: c.Identity.ExemptSenders, ExemptLogins: from.panel.ExemptLogins,
	}, known)
	return &Settings{
		Table: newTable(c.Limits.Window, c.settings(), from.panel.Settings, from.live), Rules: rules,
		config: c, stops: from.panel.Stops, remoteTransports: c.Exim.RemoteTransports, chargeAtEnd: c.Postfix.Charge == ChargeAtEnd,
	}, err
}

// localDomains are those of whichever mail server there is.
func (c *Config) localDomains() []string {
	return slices.Concat(c.Exim.LocalDomains, c.Postfix.LocalDomains)
}

// identify finds who is charged, with thresholds that exempt.
func (s *Settings) identify(r *Request) identity {
	who := s.Rules.payerOf(r)
	if who.class == charged && s.exemptScope(who) {
		who.class = exempt
	}
	return who
}

// Keep is the longest window that is limited for anybody.
func (p *Policy) Keep() time.Duration { return p.settings.Load().keep() }

// Keep is the longest window that the file limits for anybody.
func (c *Config) Keep() time.Duration { return newTable(c.Limits.Window, c.settings()).keep() }

// enforces tells whether limits refuse a domain, and not only watch it.
func (s *Settings) enforces(domain string) bool {
	who := s.owned(domain)
	return !(s.watches && s.watched(who, domain)) && !s.exemptScope(who)
}
