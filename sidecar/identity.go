package sidecar

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// Rules tell who is charged for a message.
type Rules struct {
	RuleOptions
	relay         []netip.Prefix
	exemptSenders []string // folded
	localDomains  *followed[domainSet]
	owners        *followed[owners]
}

// RuleOptions are what Rules are made of.
type RuleOptions struct {
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
func newRules(o RuleOptions, before *Rules) (*Rules, error) {
	r := &Rules{RuleOptions: o}
	for _, relay := range o.Relay {
		r.relay = append(r.relay, prefixOf(relay))
	}
	for _, sender := range o.ExemptSenders {
		if a := foldAddress(sender); a.domain != "" {
			sender = a.String()
		} else {
			sender = foldDomain(sender)
		}
		r.exemptSenders = append(r.exemptSenders, sender)
	}
	return r, r.follow(before)
}

// follow begins to follow the files of local domains and owners, or goes on.
func (r *Rules) follow(before *Rules) error {
	var errs []error
	if before != nil && slices.Equal(before.LocalDomains, r.LocalDomains) {
		r.localDomains = before.localDomains
	} else {
		r.localDomains = followDomains(r.LocalDomains)
		errs = append(errs, r.localDomains.refresh())
	}
	if before != nil && before.Owners == r.Owners && before.MainDomains == r.MainDomains {
		r.owners = before.owners
	} else {
		r.owners = followOwners(r.Owners, r.MainDomains, passwdFile)
		errs = append(errs, r.owners.refresh())
	}
	return errors.Join(errs...)
}

// passwdFile has the home directories of the accounts.
const passwdFile = "/etc/passwd"

// refresh reads again what files hold that have changed.
func (r *Rules) refresh() error {
	return errors.Join(r.localDomains.refresh(), r.owners.refresh())
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
func (r *Rules) owned(domain string) identity {
	return identity{domain: domain, account: r.owners.get().account[domain]}
}

// named is somebody as they are looked at by a subject's name.
func (r *Rules) named(subject string) identity {
	if subject == defaultScope {
		return identity{}
	}
	if account, ok := strings.CutPrefix(subject, accountPrefix); ok {
		return identity{account: account}
	}
	if domain := domainOf(subject); domain != "" {
		who := r.owned(domain)
		who.mailbox = subject
		return who
	}
	return r.owned(subject)
}

// payerOf finds who is charged. The rules are those of the table in
// docs/flow.md, in its order; the first that matches decides.
func (s *Rules) payerOf(r *Request) identity {
	local := r.ClientAddress == ""
	if s.exemptSender(r.Sender) || local && slices.Contains(s.ExemptLogins, r.Login) {
		return identity{class: exempt}
	}
	if r.Sender == "" {
		return s.identifyNullSender(r, local)
	}
	original := redirected(r)
	switch {
	case r.Auth != "":
		return s.identifyLogin(r.Auth, r)
	case local:
		return s.identifyLogin(r.Login, r)
	case original != "":
		return s.payer(original)
	case s.relays(r.ClientAddress):
		return s.payer(domainOf(r.Sender))
	case loopback(r.ClientAddress):
		return s.payer(s.Node)
	}
	return identity{class: inbound}
}

// identifyNullSender: Exim's own bounces are nobody's, but a null sender from
// somebody who logged in, or who ran sendmail, would be a loophole.
func (s *Rules) identifyNullSender(r *Request, local bool) identity {
	own := local && (r.Login == "" || r.Login == s.EximUser)
	switch {
	case r.Auth != "":
		return s.identifyLogin(r.Auth, r)
	case local && !own:
		return s.identifyLogin(r.Login, r)
	}
	return identity{class: nobody}
}

// identifyLogin is for an id that was authenticated, or the login name of a
// local user. One without a domain is an account, and may charge only domains
// that are its own; with a null sender the node's.
func (s *Rules) identifyLogin(id string, r *Request) identity {
	if mailbox := foldAddress(id); mailbox.domain != "" {
		who := s.payer(mailbox.domain)
		who.mailbox = mailbox.fold(id)
		return who
	}
	senderDomain := s.Node
	if r.Sender != "" {
		senderDomain = domainOf(r.Sender)
	}
	owners := s.owners.get()
	if !owners.known() {
		// Nobody can tell whose a domain is. On a host with one tenant the
		// sender's is right; the log warns where others could lie.
		return s.payer(senderDomain).of(id)
	}
	account := id
	if !owners.isAccount(account) {
		// A web server's user sends for all sites: the script's directory
		// tells them apart.
		account = owners.of(r.CWD)
	}
	switch {
	case account == "":
		// Root, cron, a web server outside of all homes. The sender's word
		// would give each domain that somebody makes up a budget of its own.
		return s.payer(s.Node).of(id)
	case owners.account[senderDomain] == account:
		return s.payer(senderDomain)
	}
	return s.payer(owners.main[account])
}

// payer never pools those of whom no domain is known: they would share one
// budget, and each could spend all of it.
func (s *Rules) payer(domain string) identity {
	if domain == "" {
		return identity{class: unidentified}
	}
	return identity{domain: domain, account: s.owners.get().account[domain]}
}

// redirected is the domain of the address that an alias or list redirected.
// One that only changes case or quotes is no redirect.
func redirected(r *Request) string {
	if r.Original == "" {
		return ""
	}
	recipient, original := foldRouted(r.Recipient), foldRouted(r.Original)
	if original == recipient || foldAddress(r.Original) == recipient {
		return ""
	}
	return original.domain
}

// exemptSender tells whether a sender is in identity.exempt_senders: an address, or
// a domain with all of its addresses.
func (s *Rules) exemptSender(from string) bool {
	if len(s.exemptSenders) == 0 {
		return false
	}
	sender := foldAddress(from)
	return slices.ContainsFunc(s.exemptSenders, func(e string) bool {
		return e == sender.String() || e == sender.domain && !strings.Contains(e, "@")
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
