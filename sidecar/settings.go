package sidecar

import (
	"path"
	"sluice/ratelimit"
	"strings"
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

// identify finds who is charged, with thresholds that exempt.
func (s *Settings) identify(r *Request) identity {
	who := s.Rules.payerOf(r)
	if who.class == charged && s.exemptScope(who) {
		who.class = exempt
	}
	return who
}

// enforces tells whether limits refuse a domain, and not only watch it.
func (s *Settings) enforces(domain string) bool {
	who := s.owned(domain)
	return !(s.watches && s.watched(who, domain)) && !s.exemptScope(who)
}

// token names the n-th send of a message of this node to one recipient.
func (s *Settings) token(id string, to address, n int) ratelimit.Token {
	return tokenOf(s.Node, id, to, n)
}

// appendTokens appends the tokens of all recipients of a message of this node.
func (s *Settings) appendTokens(ts []ratelimit.Token, id string, to []address) []ratelimit.Token {
	return appendTokens(ts, s.Node, id, to)
}

// remoteTransport tells whether a transport is remote; a line without one tells
// nothing against it.
func (s *Settings) remoteTransport(name string) bool {
	if name == "" {
		return true
	}
	for _, glob := range s.remoteTransports {
		if matches(glob, name) {
			return true
		}
	}
	return false
}

// matches is path.Match, which takes its time, for most globs done at once: they
// are like *smtp*, and are asked about at every line.
func matches(glob, name string) bool {
	if n := len(glob); n > 2 && glob[0] == '*' && glob[n-1] == '*' && !strings.ContainsAny(glob[1:n-1], `*?[\`) {
		return strings.Contains(name, glob[1:n-1])
	}
	match, _ := path.Match(glob, name)
	return match
}

// stopOf is what the panel has stopped of somebody, and how refusals call it:
// suspended before on hold, and of those the most specific.
func (s *Settings) stopOf(who identity) (whose string, by Stop) {
	if len(s.stops) == 0 {
		return "", Stop{}
	}
	names := [...]string{who.mailbox, who.domain, ""}
	if who.account != "" {
		names[2] = accountPrefix + who.account
	}
	for _, name := range names {
		if st, stopped := s.stops[name]; name != "" && stopped && (whose == "" || st.Suspended && !by.Suspended) {
			whose, by = titleOf(name), st
		}
	}
	return whose, by
}

// verb is what a panel does to whom it stops.
func (s Stop) verb() string {
	if s.Suspended {
		return "suspends"
	}
	return "holds"
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
