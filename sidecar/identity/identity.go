package identity

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/follow"
)

// Rules find who is charged for a message.
type Rules struct {
	Options
	relay    []netip.Prefix
	Locals   *follow.Value[DomainSet]
	OwnerMap *follow.Value[Owners]
}

// Options are the configuration of Rules, validated and in canonical form.
type Options struct {
	Node          string   // the domain charged for mail of this host that belongs to no other
	EximUser      string   // login name under which Exim sends its own bounces
	LocalDomains  []string // domains, and paths of files that list some
	Owners        string   // file with the account of each domain
	MainDomains   string   // file with the main domain of each account
	Relay         []string // addresses and networks that may send without AUTH in the sender's name
	ExemptSenders []string // addresses and domains
	ExemptLogins  []string // local users that run list software
}

// New makes rules. Where o names the same files as the rules before, it takes over what
// was read of them; before may be nil. If a file cannot be read, New returns an error and
// also rules that work, without what is in that file.
func New(o Options, before *Rules) (*Rules, error) {
	r := &Rules{Options: o}
	for _, relay := range o.Relay {
		r.relay = append(r.relay, prefixOf(relay))
	}
	return r, r.follow(before)
}

// follow begins to follow the files of local domains and of owners, or takes over those
// of the rules before, so that they are not read again.
func (r *Rules) follow(before *Rules) error {
	var errs []error
	if before != nil && slices.Equal(before.LocalDomains, r.LocalDomains) {
		r.Locals = before.Locals
	} else {
		r.Locals = followDomains(r.LocalDomains)
		errs = append(errs, r.Locals.Refresh())
	}
	if before != nil && before.Owners == r.Owners && before.MainDomains == r.MainDomains {
		r.OwnerMap = before.OwnerMap
	} else {
		r.OwnerMap = FollowOwners(r.Owners, r.MainDomains, passwdFile)
		errs = append(errs, r.OwnerMap.Refresh())
	}
	return errors.Join(errs...)
}

// passwdFile has the home directories of the accounts.
const passwdFile = "/etc/passwd"

// Refresh reads the files again that have changed.
func (r *Rules) Refresh() error {
	return errors.Join(r.Locals.Refresh(), r.OwnerMap.Refresh())
}

// prefixOf parses a network, or an address as a network of one.
func prefixOf(s string) netip.Prefix {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())
	}
	p, _ := netip.ParsePrefix(s) // the configuration was validated
	return p
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

// Payer finds who is charged: by the first rule that matches of the table in
// docs/flow.md.
func (s *Rules) Payer(r *sidecar.Request) sidecar.Payer {
	who := s.sender(r)
	if r.Original != "" {
		who = s.redirected(who, Redirected(r))
	}
	return who
}

// sender finds who is charged for a message that nothing has redirected.
func (s *Rules) sender(r *sidecar.Request) sidecar.Payer {
	local := r.ClientAddress == ""
	if s.exemptSender(r.Sender) || local && slices.Contains(s.ExemptLogins, r.Login) {
		return sidecar.Payer{Class: sidecar.Exempt}
	}
	// Null senders are bounces, which charge nobody; but not of somebody who logged
	// in or ran sendmail: anybody could send uncharged that way.
	null := r.Sender == ""
	switch {
	case r.Auth != "":
		return s.identifyLogin(r.Auth, r)
	case local && !(null && (r.Login == "" || r.Login == s.EximUser)):
		return s.identifyLogin(r.Login, r)
	case null:
		return sidecar.Payer{Class: sidecar.Nobody}
	case s.relays(r.ClientAddress):
		return s.payer(envelope.DomainOf(r.Sender))
	case loopback(r.ClientAddress):
		return s.payer(s.Node)
	}
	return sidecar.Payer{Class: sidecar.Inbound}
}

// identifyLogin finds the payer by an authenticated id, or by the login name of a local
// user. An id without a domain is taken for an account: with an owner map, it can charge
// only a domain that the account owns, or the node's. A null sender counts as one of the
// node's domain.
func (s *Rules) identifyLogin(id string, r *sidecar.Request) sidecar.Payer {
	if mailbox := envelope.Fold(id); mailbox.Domain != "" {
		who := s.payer(mailbox.Domain)
		who.Mailbox = mailbox.Fold(id)
		return who
	}
	senderDomain := s.Node
	if r.Sender != "" {
		senderDomain = envelope.DomainOf(r.Sender)
	}
	owners := s.OwnerMap.Get()
	if !owners.Known() {
		// Without an owner map the sender's domain is charged. That is right on a host
		// with one tenant; the start warns where local users could choose any sender.
		return s.payer(senderDomain).WithAccount(id)
	}
	account := id
	if !owners.IsAccount(account) {
		// A web server's user sends for all sites: the script's directory shows for
		// which.
		account = owners.of(r.CWD)
	}
	switch {
	case account == "":
		// Root, cron, a web server outside of all homes. If the sender's domain were
		// charged, each domain that somebody makes up would have a limit of its own.
		return s.payer(s.Node).WithAccount(id)
	case owners.Account[senderDomain] == account:
		return s.payer(senderDomain)
	}
	return s.payer(owners.Main[account])
}

// payer is PayerOfDomain, or Unidentified for an empty domain. Otherwise all mail without
// a domain would share the limit of "", and one sender could use up all of it.
func (s *Rules) payer(domain string) sidecar.Payer {
	if domain == "" {
		return sidecar.Payer{Class: sidecar.Unidentified}
	}
	return s.PayerOfDomain(domain)
}

// exemptSender reports whether a sender is in identity.exempt_senders: an address, or
// a domain with all of its addresses.
func (s *Rules) exemptSender(from string) bool {
	if len(s.ExemptSenders) == 0 {
		return false
	}
	sender := envelope.Fold(from)
	return slices.ContainsFunc(s.ExemptSenders, func(e string) bool {
		return e == sender.String() || e == sender.Domain && !strings.Contains(e, "@")
	})
}

// relays reports whether a client is in identity.relay.
func (s *Rules) relays(client string) bool {
	if len(s.relay) == 0 {
		return false
	}
	ip, err := netip.ParseAddr(client)
	return err == nil && slices.ContainsFunc(s.relay, func(p netip.Prefix) bool { return p.Contains(ip.Unmap()) })
}

// loopback reports whether an IP address is one of this host's loopback.
func loopback(client string) bool {
	if !strings.HasPrefix(client, "127.") && strings.IndexByte(client, ':') < 0 {
		return false // nearly always; parsing an address takes longer
	}
	ip, err := netip.ParseAddr(client)
	return err == nil && ip.Unmap().IsLoopback()
}
