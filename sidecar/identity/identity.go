package identity

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/domains"
	"sluice/sidecar/envelope"
	"sluice/sidecar/follow"
)

// Rules find who is charged for a message.
type Rules struct {
	Options
	Locals       *follow.Value[domains.Set]
	RelayDomains *follow.Value[domains.Set]
	OwnerMap     *follow.Value[domains.Owners]
}

// Options are the configuration of Rules, validated and in canonical form.
type Options struct {
	Node         string                // name of this host, as a domain
	EximUser     string                // login name under which Exim sends its own bounces
	Own          func(netip.Addr) bool // whether an address is one of this host; nil: only the loopback's are
	LocalDomains []string              // domains, and paths of files that list some
	MXDomains    []string              // likewise: domains for which this host takes mail from elsewhere and passes it on
	Owners       string                // file with the account of each domain
	MainDomains  string                // file with the main domain of each account
	Relay        []Relay
	Proxies      []string // logins whose PROXY header is believed
	Reinject     []string // logins of content filters, which send again what has come in before
	System       []string // logins beside root whose mail is the host's own
	Exempt       []Exemption
	ExemptLogins []string // logins of list software that are exempt whatever they send
	PanelLogins  bool     // there is no owner map, of another host's log: info+example.com is a mailbox all the same
	NoticeSender string   // envelope sender of Sluice's own notices; empty: there are none
}

// A Relay is a host or network that may send without AUTH.
type Relay struct {
	Hosts   netip.Prefix
	AnyName bool // in the names of domains in the owner map too
	// ByExim: nobody but Exim's list has it, which may mean this host's own addresses too. What
	// comes from those is a program's, as in a container, and had a new limit with each domain.
	ByExim bool
}

// New makes rules. Where o names the same files as the rules before, it takes over what
// was read of them; before may be nil. If a file cannot be read, New returns an error and
// also rules that work, without what is in that file.
func New(o Options, before *Rules) (*Rules, error) {
	r := &Rules{Options: o}
	return r, r.follow(before)
}

// follow begins to follow the files of local domains and of owners, or takes over those
// of the rules before, so that they are not read again.
func (r *Rules) follow(before *Rules) error {
	if before == nil {
		before = &Rules{}
	}
	r.Locals, r.RelayDomains, r.OwnerMap = before.Locals, before.RelayDomains, before.OwnerMap
	var errs []error
	if r.Locals == nil || !slices.Equal(before.LocalDomains, r.LocalDomains) {
		r.Locals = domains.Follow(r.LocalDomains)
		errs = append(errs, r.Locals.Refresh())
	}
	if r.RelayDomains == nil || !slices.Equal(before.MXDomains, r.MXDomains) {
		r.RelayDomains = domains.Follow(r.MXDomains)
		errs = append(errs, r.RelayDomains.Refresh())
	}
	if r.OwnerMap == nil || before.Owners != r.Owners || before.MainDomains != r.MainDomains {
		r.OwnerMap = domains.FollowOwners(domains.OwnerFiles{Owners: r.Owners, Main: r.MainDomains, Passwd: "/etc/passwd", SubUID: "/etc/subuid"})
		errs = append(errs, r.OwnerMap.Refresh())
	}
	return errors.Join(errs...)
}

// Refresh reads the files again that have changed.
func (r *Rules) Refresh() error {
	return errors.Join(r.Locals.Refresh(), r.RelayDomains.Refresh(), r.OwnerMap.Refresh())
}

// PayerOfDomain is the payer of a domain: with the account that owns it.
func (r *Rules) PayerOfDomain(domain string) sidecar.Payer {
	return sidecar.Payer{Domain: domain, Account: r.OwnerMap.Get().Account[domain]}
}

// PayerOfScope is the payer whose settings are those of a scope.
func (r *Rules) PayerOfScope(subject string) sidecar.Payer {
	if subject == sidecar.DefaultScope {
		return sidecar.Payer{}
	}
	if account, ok := strings.CutPrefix(subject, sidecar.AccountPrefix); ok {
		return sidecar.Payer{Account: account}
	}
	if sidecar.IsSpecial(subject) {
		return r.payerOfSpecial(subject)
	}
	domain := envelope.DomainOf(subject)
	if domain == "" {
		return r.PayerOfDomain(subject)
	}
	who := r.PayerOfDomain(domain)
	who.Mailbox = subject
	return who
}

// payerOfSpecial is the payer of a special subject: that of a domain or of an account has
// their settings where it has none of its own.
func (r *Rules) payerOfSpecial(subject string) (who sidecar.Payer) {
	if domain, ok := strings.CutPrefix(subject, sidecar.ForwardPrefix); ok {
		who = r.PayerOfDomain(domain)
	} else if account, ok := strings.CutPrefix(subject, sidecar.WebPrefix); ok {
		who = sidecar.Payer{Account: account, Domain: r.OwnerMap.Get().Main[account]}
	}
	who.Special = subject
	return who
}
