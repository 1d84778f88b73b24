package settings

import (
	"net/netip"
	"strings"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/envelope"
	"sluice/sidecar/identity"
	"sluice/sidecar/limit"
)

// Settings are what decisions depend on: one immutable value, replaced as a whole.
type Settings struct {
	*limit.Table    // who may send how much
	*identity.Rules // who is charged

	Config      *config.Config
	PanelBlocks map[string]PanelBlock // whom the panel blocks, by scope
	ChargeAtEnd bool                  // whether postfix.charge is end-of-message
}

// Sources are what Settings are made of.
type Sources struct {
	Config *config.Config
	Panel  Panel
	Live   []limit.Setting
}

// A Host is what matters of the host on which mail is sent.
type Host struct {
	Node     string                // name of the node, as a domain
	EximUser string                // login name of Exim's own user
	Own      func(netip.Addr) bool // whether an address is one of the host; nil: only the loopback's are
}

// A Panel is what the files of a hosting panel say.
type Panel struct {
	Settings     []limit.Setting
	Blocks       map[string]PanelBlock // by scope: account:bob, news@example.com, example.com
	ExemptLogins []string              // local users that run list software
	Trouble      []string              // lines that were skipped, as "FILE:LINE: why"
}

// A PanelBlock says that a panel lets somebody send nothing.
type PanelBlock struct {
	Suspended bool   // refused for good; otherwise on hold, and sent later
	Place     string // FILE:LINE that says so
}

// New compiles settings once, so that this need not be done for each question. It takes
// over the files that the settings before follow; before may be nil. If a file cannot be
// read, New returns an error and also settings that work, without what is in that file.
func New(from Sources, host Host, before *Settings) (*Settings, error) {
	c := from.Config
	var rulesBefore *identity.Rules
	if before != nil {
		rulesBefore = before.Rules
	}
	rules, err := identity.New(identity.Options{
		Node: host.Node, EximUser: host.EximUser, Own: host.Own, LocalDomains: c.LocalDomains(), MXDomains: c.Identity.RelayDomains,
		Owners: c.Identity.Owners, MainDomains: c.Identity.MainDomains, Relay: c.Identity.Relay, Proxies: c.Identity.Proxies,
		Reinject: c.Identity.Reinject, System: c.Identity.System, Exempt: c.Identity.Exempt, ExemptLogins: from.Panel.ExemptLogins,
		NoticeSender: c.AlertSender(host.Node),
	}, rulesBefore)
	return &Settings{
		Table: limit.NewTable(c.Limits.Window, c.Settings(), from.Panel.Settings, from.Live), Rules: rules,
		Config: c, PanelBlocks: from.Panel.Blocks, ChargeAtEnd: c.Postfix.Charge == config.ChargeAtEnd,
	}, err
}

// With returns settings in which other values are set live in some scopes.
func (s *Settings) With(live map[string][]limit.Setting) *Settings {
	after := *s
	after.Table = s.Table.With(live)
	return &after
}

// Identify finds who is charged and who of them sends, and exempts those whom thresholds exempt.
func (s *Settings) Identify(r *sidecar.Request) (sidecar.Payer, sidecar.Author) {
	who, author := s.Rules.Identify(r)
	if who.Class == sidecar.Charged && s.ExemptScope(who) {
		who.Class = sidecar.Exempt
	}
	return who, author
}

// Enforces reports whether limits refuse mail of a subject: neither watch nor exempt.
func (s *Settings) Enforces(subject string) bool {
	who := s.PayerOfScope(subject)
	return !(s.HasWatched && s.Watched(who, subject)) && !s.ExemptScope(who)
}

// LimitsOf are the limits of a subject. A mailbox or account that no limit names has none.
func (s *Settings) LimitsOf(subject string) []ratelimit.Limit {
	if sidecar.AlwaysCounted(subject) {
		return s.Table.LimitsOf(s.PayerOfScope(subject))
	}
	return s.OwnLimits(subject)
}

// UsedUp is the first limit that a subject has used up; false if it has room.
func (s *Settings) UsedUp(standing ratelimit.Standing) (ratelimit.Use, bool) {
	for _, l := range s.LimitsOf(standing.Name) {
		u := ratelimit.Use{Subject: standing.Name, Limit: l, Epoch: standing.Epoch,
			Used: standing.Sent(l.Window), Refused: standing.Refused}
		if limit.UsedUp(u) {
			return u, true
		}
	}
	return ratelimit.Use{}, false
}

// Names reports whether operators name a subject, in the file, the panel's files, live
// values or the owner map: it is none that a sender has made up.
func (s *Settings) Names(subject string) bool {
	special := sidecar.IsSpecial(subject) && !strings.HasPrefix(subject, sidecar.RelayPrefix)
	return special || s.Scope(subject) != nil || subject == s.Node || s.PayerOfScope(subject).Account != ""
}

// Token names the n-th send of a message of this node to one recipient.
func (s *Settings) Token(id string, to envelope.Address, n int) ratelimit.Token {
	return envelope.Token(s.Node, id, to, n)
}

// AppendTokens appends the tokens of all recipients of a message of this node.
func (s *Settings) AppendTokens(ts []ratelimit.Token, id string, to []envelope.Address) []ratelimit.Token {
	return envelope.AppendTokens(ts, s.Node, id, to)
}
