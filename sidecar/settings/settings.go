package settings

import (
	"path"
	"strings"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/envelope"
	"sluice/sidecar/identity"
	"sluice/sidecar/limit"
)

// Settings are what decisions go by: one immutable value, swapped whole.
type Settings struct {
	*limit.Table    // who may send how much
	*identity.Rules // who is charged

	Config           *config.Config
	PanelBlocks      map[string]PanelBlock // whom the panel has stopped, by scope
	remoteTransports []string              // globs
	ChargeAtEnd      bool                  // postfix.charge
}

// sources are what Settings are made of.
type Sources struct {
	Config *config.Config
	Panel  Panel
	Live   []limit.Setting
}

// A Panel is what the files of a hosting panel say.
type Panel struct {
	Settings     []limit.Setting
	Blocks       map[string]PanelBlock // by scope: account:bob, news@example.com, example.com
	ExemptLogins []string              // local users that run list software
	Trouble      []string              // lines that were skipped, as "FILE:LINE: why"
}

// A Stop is that a panel lets somebody send nothing.
type PanelBlock struct {
	Suspended bool   // refused for good; otherwise on hold, and sent later
	Place     string // FILE:LINE that says so
}

// newSettings works out what is in force, once and not for each question. Of
// before, which may be nil, it takes over the files that are followed. It
// returns settings also with an error: those of the files that cannot be read
// are missing.
func New(from Sources, node, eximUser string, before *Settings) (*Settings, error) {
	c := from.Config
	var known *identity.Rules
	if before != nil {
		known = before.Rules
	}
	rules, err := identity.New(identity.Options{
		Node: node, EximUser: eximUser, LocalDomains: c.LocalDomains(), Owners: c.Identity.Owners, MainDomains: c.Identity.MainDomains,
		Relay: c.Identity.Relay, ExemptSenders: c.Identity.ExemptSenders, ExemptLogins: from.Panel.ExemptLogins,
	}, known)
	return &Settings{
		Table: limit.NewTable(c.Limits.Window, c.Settings(), from.Panel.Settings, from.Live), Rules: rules,
		Config: c, PanelBlocks: from.Panel.Blocks, remoteTransports: c.Exim.RemoteTransports, ChargeAtEnd: c.Postfix.Charge == config.ChargeAtEnd,
	}, err
}

// identify finds who is charged, with thresholds that exempt.
func (s *Settings) Payer(r *sidecar.Request) sidecar.Payer {
	who := s.Rules.Payer(r)
	if who.Class == sidecar.Charged && s.ExemptScope(who) {
		who.Class = sidecar.Exempt
	}
	return who
}

// enforces tells whether limits refuse a domain, and not only watch it.
func (s *Settings) Enforces(domain string) bool {
	who := s.PayerOfDomain(domain)
	return !(s.Watches && s.Watched(who, domain)) && !s.ExemptScope(who)
}

// token names the n-th send of a message of this node to one recipient.
func (s *Settings) Token(id string, to envelope.Address, n int) ratelimit.Token {
	return envelope.Token(s.Node, id, to, n)
}

// appendTokens appends the tokens of all recipients of a message of this node.
func (s *Settings) AppendTokens(ts []ratelimit.Token, id string, to []envelope.Address) []ratelimit.Token {
	return envelope.AppendTokens(ts, s.Node, id, to)
}

// remoteTransport tells whether a transport is remote; a line without one tells
// nothing against it.
func (s *Settings) RemoteTransport(name string) bool {
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
func (s *Settings) PanelBlockOf(who sidecar.Payer) (whose string, by PanelBlock) {
	if len(s.PanelBlocks) == 0 {
		return "", PanelBlock{}
	}
	names := [...]string{who.Mailbox, who.Domain, ""}
	if who.Account != "" {
		names[2] = sidecar.AccountPrefix + who.Account
	}
	for _, name := range names {
		if st, stopped := s.PanelBlocks[name]; name != "" && stopped && (whose == "" || st.Suspended && !by.Suspended) {
			whose, by = sidecar.TitleOf(name), st
		}
	}
	return whose, by
}

// verb is what a panel does to whom it stops.
func (s PanelBlock) Verb() string {
	if s.Suspended {
		return "suspends"
	}
	return "holds"
}

// valueOf is the value of a key that is in force for a scope; nil if none is.
func (s *Settings) valueOf(key, scope string) any {
	if limit.IsLimit(key) {
		for _, v := range s.LimitsIn(key, scope, []string{scope}) {
			return v.Value
		}
		return nil
	}
	v, _ := s.Decisive(key, s.PayerOfScope(scope).Scopes())
	return v.Value
}
