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

// Rules tell who is charged for a message.
type Rules struct {
	Options
	relay         []netip.Prefix
	exemptSenders []string // folded
	Locals        *follow.Value[DomainSet]
	OwnerMap      *follow.Value[Owners]
}

// RuleOptions are what Rules are made of.
type Options struct {
	Node          string   // the domain charged for mail of this host that is nobody's
	EximUser      string   // who Exim's own bounces come from
	LocalDomains  []string // names and files; see followDomains
	Owners        string   // file with whose the domains are
	MainDomains   string   // file with the main domain of each account
	Relay         []string // addresses and networks that may send without AUTH in the sender's name
	ExemptSenders []string // addresses and domains
	ExemptLogins  []string // local users that run list software
}

// newRules makes rules. Of before, which may be nil, it takes over the files that
// are followed. It returns rules also with an error: what the files hold that cannot
// be read is missing.
func New(o Options, before *Rules) (*Rules, error) {
	r := &Rules{Options: o}
	for _, relay := range o.Relay {
		r.relay = append(r.relay, prefixOf(relay))
	}
	for _, sender := range o.ExemptSenders {
		if a := envelope.Fold(sender); a.Domain != "" {
			sender = a.String()
		} else {
			sender = envelope.FoldDomain(sender)
		}
		r.exemptSenders = append(r.exemptSenders, sender)
	}
	return r, r.follow(before)
}

// follow begins to follow the files of local domains and owners, or goes on.
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

// refresh reads again what files hold that have changed.
func (r *Rules) Refresh() error {
	return errors.Join(r.Locals.Refresh(), r.OwnerMap.Refresh())
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

// owned is a domain as it is looked at without a message: with its owner.
func (r *Rules) PayerOfDomain(domain string) sidecar.Payer {
	return sidecar.Payer{Domain: domain, Account: r.OwnerMap.Get().Account[domain]}
}

// named is somebody as they are looked at by a subject's name.
func (r *Rules) PayerOfScope(subject string) sidecar.Payer {
	if subject == sidecar.DefaultScope {
		return sidecar.Payer{}
	}
	if account, ok := strings.CutPrefix(subject, sidecar.AccountPrefix); ok {
		return sidecar.Payer{Account: account}
	}
	if domain := envelope.DomainOf(subject); domain != "" {
		who := r.PayerOfDomain(domain)
		who.Mailbox = subject
		return who
	}
	return r.PayerOfDomain(subject)
}

// payerOf finds who is charged. The rules are those of the table in
// docs/flow.md, in its order; the first that matches decides.
func (s *Rules) Payer(r *sidecar.Request) sidecar.Payer {
	local := r.ClientAddress == ""
	if s.exemptSender(r.Sender) || local && slices.Contains(s.ExemptLogins, r.Login) {
		return sidecar.Payer{Class: sidecar.Exempt}
	}
	if r.Sender == "" {
		return s.identifyNullSender(r, local)
	}
	original := Redirected(r)
	switch {
	case r.Auth != "":
		return s.identifyLogin(r.Auth, r)
	case local:
		return s.identifyLogin(r.Login, r)
	case original != "":
		return s.payer(original)
	case s.relays(r.ClientAddress):
		return s.payer(envelope.DomainOf(r.Sender))
	case loopback(r.ClientAddress):
		return s.payer(s.Node)
	}
	return sidecar.Payer{Class: sidecar.Inbound}
}

// identifyNullSender: Exim's own bounces are nobody's, but a null sender from
// somebody who logged in, or who ran sendmail, would be a loophole.
func (s *Rules) identifyNullSender(r *sidecar.Request, local bool) sidecar.Payer {
	own := local && (r.Login == "" || r.Login == s.EximUser)
	switch {
	case r.Auth != "":
		return s.identifyLogin(r.Auth, r)
	case local && !own:
		return s.identifyLogin(r.Login, r)
	}
	return sidecar.Payer{Class: sidecar.Nobody}
}

// identifyLogin is for an id that was authenticated, or the login name of a
// local user. One without a domain is an account, and may charge only domains
// that are its own; with a null sender the node's.
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
		// Nobody can tell whose a domain is. On a host with one tenant the
		// sender's is right; the log warns where others could lie.
		return s.payer(senderDomain).WithAccount(id)
	}
	account := id
	if !owners.IsAccount(account) {
		// A web server's user sends for all sites: the script's directory
		// tells them apart.
		account = owners.of(r.CWD)
	}
	switch {
	case account == "":
		// Root, cron, a web server outside of all homes. The sender's word
		// would give each domain that somebody makes up a budget of its own.
		return s.payer(s.Node).WithAccount(id)
	case owners.Account[senderDomain] == account:
		return s.payer(senderDomain)
	}
	return s.payer(owners.Main[account])
}

// payer never pools those of whom no domain is known: they would share one
// budget, and each could spend all of it.
func (s *Rules) payer(domain string) sidecar.Payer {
	if domain == "" {
		return sidecar.Payer{Class: sidecar.Unidentified}
	}
	return sidecar.Payer{Domain: domain, Account: s.OwnerMap.Get().Account[domain]}
}

// redirected is the domain of the address that an alias or list redirected.
// One that only changes case or quotes is no redirect.
func Redirected(r *sidecar.Request) string {
	if r.Original == "" {
		return ""
	}
	recipient, original := envelope.FoldRouted(r.Recipient), envelope.FoldRouted(r.Original)
	if original == recipient || envelope.Fold(r.Original) == recipient {
		return ""
	}
	return original.Domain
}

// exemptSender tells whether a sender is in identity.exempt_senders: an address, or
// a domain with all of its addresses.
func (s *Rules) exemptSender(from string) bool {
	if len(s.exemptSenders) == 0 {
		return false
	}
	sender := envelope.Fold(from)
	return slices.ContainsFunc(s.exemptSenders, func(e string) bool {
		return e == sender.String() || e == sender.Domain && !strings.Contains(e, "@")
	})
}

func (s *Rules) relays(client string) bool {
	if len(s.relay) == 0 {
		return false
	}
	ip, err := netip.ParseAddr(client)
	return err == nil && slices.ContainsFunc(s.relay, func(p netip.Prefix) bool { return p.Contains(ip.Unmap()) })
}

func loopback(client string) bool {
	if !strings.HasPrefix(client, "127.") && strings.IndexByte(client, ':') < 0 {
		return false // nearly always; to take an address apart takes longer
	}
	ip, err := netip.ParseAddr(client)
	return err == nil && ip.Unmap().IsLoopback()
}
