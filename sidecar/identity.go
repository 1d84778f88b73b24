package sidecar

import (
	"net/netip"
	"slices"
	"strings"
)

// A class is by which rule a message is charged, or why it is not.
type class int

const (
	charged      class = iota
	nobody             // bounces that Exim made itself, null senders from elsewhere
	inbound            // from elsewhere: not ours until it is redirected
	exempt             // list software, or whom thresholds exempt
	unidentified       // somebody should be charged, and nobody can be found
)

// An identity is who is charged for a message.
type identity struct {
	class   class
	domain  string // of a charged message never empty
	mailbox string // empty if unknown
	account string // empty if unknown
}

// clone keeps nothing of the request in memory.
func (who identity) clone() identity {
	who.domain, who.mailbox, who.account = strings.Clone(who.domain), strings.Clone(who.mailbox), strings.Clone(who.account)
	return who
}

// identify finds who is charged. The rules are those of the table in
// docs/flow.md, in its order; the first that matches decides.
func (s *Settings) identify(r *Request) identity {
	who := s.sender(r)
	if who.class == charged && s.exemptScope(who) {
		who.class = exempt
	}
	return who
}

// sender finds who sends a message, exempt or not.
func (s *Settings) sender(r *Request) identity {
	local := r.ClientAddress == ""
	if s.exemptSender(r.Sender) || local && slices.Contains(s.exemptLogins, r.Login) {
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
func (s *Settings) identifyNullSender(r *Request, local bool) identity {
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
func (s *Settings) identifyLogin(id string, r *Request) identity {
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
func (s *Settings) payer(domain string) identity {
	if domain == "" {
		return identity{class: unidentified}
	}
	return identity{domain: domain, account: s.owners.get().account[domain]}
}

// of names the account, where the domain does not.
func (who identity) of(account string) identity {
	if who.account == "" {
		who.account = account
	}
	return who
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
func (s *Settings) exemptSender(from string) bool {
	if len(s.exemptSenders) == 0 {
		return false
	}
	sender := foldAddress(from)
	return slices.ContainsFunc(s.exemptSenders, func(e string) bool {
		return e == sender.String() || e == sender.domain && !strings.Contains(e, "@")
	})
}

func (s *Settings) relays(client string) bool {
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
