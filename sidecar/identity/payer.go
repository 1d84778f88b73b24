package identity

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
)

// An origin is how a message has come to the mail server.
type origin int

// The origins.
const (
	outside      origin = iota // another host, which nobody here answers for
	byAuth                     // a client that has logged in
	byLogin                    // a program on this host, by sendmail or by a connection of its own
	byLoopback                 // this host, and nobody can say whose program it is, as in a container
	byRelay                    // a host that may send without AUTH
	byMailServer               // the mail server itself: its bounces and warnings
)

// A source is the origin of a message, with what is known of its sender.
type source struct {
	origin
	id     string     // authenticated id, or login name
	client netip.Addr // of byRelay, and of outside if known
	relay  *Relay     // of byRelay; nil if the host is not listed
}

// sourceOf finds the origin of a message: the first row of the table in docs/flow.md that
// matches.
func (s *Rules) sourceOf(r *sidecar.Request) source {
	owners := s.OwnerMap.Get()
	uid, hasUID := strings.CutPrefix(r.Socket, sidecar.SocketUID)
	switch {
	case r.Auth != "" && !s.onlySaid(r):
		return source{origin: byAuth, id: r.Auth}
	case r.ClientAddress == "":
		login := owners.Caller(r)
		// A milter is not told who called sendmail, and not asked about bounces of Postfix's own.
		milter := r.Stage == sidecar.StageMilterRcpt || r.Stage == sidecar.StageMilterEnd
		if r.Sender == "" && (login == "" && !milter || login == s.EximUser) {
			return source{origin: byMailServer}
		}
		return source{origin: byLogin, id: login}
	case hasUID && slices.Contains(s.Reinject, owners.Login(uid)):
		return source{origin: outside}
	case hasUID && !s.Believes(r):
		return source{origin: byLogin, id: owners.Login(uid)}
	}
	return s.sourceOfClient(r)
}

// onlySaid reports whether an authenticated id is just the word of a program on this host that
// submits mail by itself: users whom Exim trusts can say -oMai. It is believed of root and of
// Exim's own user, and of a login that owns its domain.
func (s *Rules) onlySaid(r *sidecar.Request) bool {
	owners := s.OwnerMap.Get()
	if r.ClientAddress != "" || !owners.Known() {
		return false
	}
	switch login := owners.Caller(r); login {
	case "", "root", owners.Login("0"), s.EximUser:
		return false
	default:
		mailbox, is := s.mailboxOf(r.Auth)
		return !is || owners.Account[mailbox.Domain] != login
	}
}

// Believes reports whether the address of a client is the word of a proxy on this host that
// is believed.
func (s *Rules) Believes(r *sidecar.Request) bool {
	uid, hasUID := strings.CutPrefix(r.Socket, sidecar.SocketUID)
	return hasUID && r.ProxyAddress != "" && slices.Contains(s.Proxies, s.OwnerMap.Get().Login(uid))
}

// sourceOfClient is the origin of a message from an SMTP client of which only the address
// is known.
func (s *Rules) sourceOfClient(r *sidecar.Request) source {
	ip, err := netip.ParseAddr(r.ClientAddress)
	if err != nil {
		return source{origin: outside}
	}
	ip = sidecar.PlainAddress(ip)
	unknown := r.Socket == sidecar.SocketLoopback || r.Socket == sidecar.SocketGone
	if unknown && (r.ProxyAddress != "" || !s.isOwn(ip)) { // of a proxy, which may say what it likes
		return source{origin: byLoopback}
	}
	for i := range s.Relay {
		if s.Relay[i].Hosts.Contains(ip) && !(s.Relay[i].ByExim && s.isOwn(ip)) {
			return source{origin: byRelay, client: ip, relay: &s.Relay[i]}
		}
	}
	switch {
	case s.isOwn(ip):
		return source{origin: byLoopback}
	case s.passesOn(r):
		return source{origin: byRelay, client: ip}
	}
	return source{origin: outside, client: ip}
}

// isOwn reports whether an address is one of this host.
func (s *Rules) isOwn(ip netip.Addr) bool { return ip.IsLoopback() || s.Own != nil && s.Own(ip) }

// passesOn reports whether Exim relays for the client of a message, which no AUTH and no
// list of ours allows: the recipients are remote, no alias has made them so, and this host
// is not their MX either. Postfix asks before it has decided that.
func (s *Rules) passesOn(r *sidecar.Request) bool {
	switch r.Stage {
	case sidecar.StageRcpt, sidecar.StageData, sidecar.StageRoute:
		_, redirected := redirectedFrom(r)
		return !redirected && (r.Recipient == "" || !s.RelayDomains.Get().Has(envelope.DomainOf(r.Recipient)))
	}
	return false
}

// Identify finds who is charged for a message: the first row that matches of the second table
// in docs/flow.md; and who of them sends it. Who is exempt is named too: blocks hold for them
// all the same.
func (s *Rules) Identify(r *sidecar.Request) (sidecar.Payer, sidecar.Author) {
	from := s.sourceOf(r)
	who := s.payerOf(from, r)
	by := s.authorOf(from, who, r)
	who = s.redirected(who, Redirected(r))
	if s.isNotice(r) {
		who.Class = sidecar.Notice
	}
	if who.Class == sidecar.Charged && s.exempt(from, r) {
		who.Class = sidecar.Exempt
	}
	return who, by
}

// isNotice reports whether a message is a notice of Sluice's own: root has it sent by a program
// of this host, in exactly the notices' sender. Only root can do that; a tenant who writes that
// sender has another uid, a client's address or an authenticated id. The log has no uid, but
// root's login.
func (s *Rules) isNotice(r *sidecar.Request) bool {
	if r.ClientAddress != "" || r.Auth != "" || r.Sender != s.NoticeSender || s.NoticeSender == "" {
		return false
	}
	return r.UID == "0" || r.UID == "" && r.Login == s.OwnerMap.Get().Login("0")
}

// payerOf is who pays for a message from a source, if nobody redirects it.
func (s *Rules) payerOf(from source, r *sidecar.Request) sidecar.Payer {
	switch from.origin {
	case byAuth:
		return s.payerOfAuth(from.id, r)
	case byLogin:
		return s.payerOfLogin(from.id, r)
	case byLoopback:
		return sidecar.Payer{Special: sidecar.Loopback}
	case byRelay:
		return s.payerOfRelay(from, r)
	case byMailServer:
		return sidecar.Payer{Class: sidecar.Nobody}
	}
	return sidecar.Payer{Class: sidecar.Inbound}
}

// payerOfAuth is who pays for a client that has logged in: the mailbox that the id names,
// else the login. An id whose domain is none names neither, and pays by itself.
func (s *Rules) payerOfAuth(id string, r *sidecar.Request) sidecar.Payer {
	mailbox, is := s.mailboxOf(id)
	if !is {
		return s.payerOfLogin(id, r)
	}
	domain := domainOf(mailbox.Domain)
	if domain == "" {
		return sidecar.Payer{Special: sidecar.ServicePrefix + cmp.Or(strings.ReplaceAll(mailbox.Local, "@", "%"), unknownLogin)}
	}
	who := s.PayerOfDomain(domain)
	who.Mailbox = mailbox.Fold(id)
	return who
}

// unknownLogin stands for a login that has no name.
const unknownLogin = "unknown"

// mailboxOf is the mailbox that an authenticated id names: info@example.com, and where the
// owner map has its domain also info+example.com, info%example.com and info:example.com,
// which the panels take. false if it names none.
func (s *Rules) mailboxOf(id string) (envelope.Address, bool) {
	if strings.IndexByte(id, '@') >= 0 {
		return envelope.Fold(id), true
	}
	i := strings.LastIndexAny(id, "+%:")
	if i <= 0 {
		return envelope.Address{}, false
	}
	domain := envelope.FoldDomain(id[i+1:])
	known := s.OwnerMap.Get().Account[domain] != ""
	if !known && !(s.PanelLogins && !s.OwnerMap.Get().Known() && strings.Contains(domain, ".") && domainOf(domain) != "") {
		return envelope.Address{}, false
	}
	return envelope.Address{Local: envelope.Fold(id[:i]).Local, Domain: domain}, true
}

// payerOfLogin is who pays for a login without a domain. With an owner map that is never a
// domain that is not the login's own, whatever the sender says.
func (s *Rules) payerOfLogin(login string, r *sidecar.Request) sidecar.Payer {
	owners, sender := s.OwnerMap.Get(), domainOf(envelope.DomainOf(r.Sender))
	login = cmp.Or(owners.FoldLogin(login), unknownLogin)
	switch {
	case s.isSystem(login, sender):
		return sidecar.Payer{Special: sidecar.System}
	case owners.IsAccount(login):
		if owners.Account[sender] != login {
			sender = owners.Main[login]
		}
		return s.PayerOfDomain(sender)
	case owners.Known():
		return s.payerOfService(login, sender, r)
	case sender != "":
		return s.PayerOfDomain(sender).WithAccount(login)
	}
	return sidecar.Payer{Special: sidecar.ServicePrefix + login}
}

// isSystem reports whether mail of a login is the host's own, so that an alarm is never
// refused because others have used up a limit: root's, or that of identity.system, if the
// sender is no tenant's. Without an owner map that is certain only of the host's own name.
func (s *Rules) isSystem(login, sender string) bool {
	owners := s.OwnerMap.Get()
	switch {
	case login != owners.Login("0") && login != "root" && !slices.Contains(s.System, login):
		return false
	case sender == "":
		return true
	case owners.Known():
		return owners.Account[sender] == ""
	}
	return sender == s.Node || !strings.Contains(s.Node, ".") && strings.HasPrefix(sender, s.Node+".")
}

// payerOfService is who pays for a login that owns nothing, like that of a web server. It
// sends for all sites: the directory of the script says for which. But that, the script's
// owner in PHP's header and the sender are only what the script says: another's budget is
// not spent on its word, and if they contradict each other none is believed.
func (s *Rules) payerOfService(login, sender string, r *sidecar.Request) sidecar.Payer {
	owners := s.OwnerMap.Get()
	account := owners.AccountAt(r.CWD)
	scriptUID, _, _ := strings.Cut(r.Script, ":")
	script, senders := owners.User(scriptUID), owners.Account[sender]
	if account == "" || owners.IsAccount(script) && script != account || senders != "" && senders != account {
		return sidecar.Payer{Special: sidecar.ServicePrefix + login}
	}
	return sidecar.Payer{Special: sidecar.WebPrefix + account, Domain: owners.Main[account], Account: account}
}

// payerOfRelay is who pays for a host that may send without AUTH: the domain of the sender,
// if the host may name it, else the host by itself.
func (s *Rules) payerOfRelay(from source, r *sidecar.Request) sidecar.Payer {
	if from.relay != nil {
		domain := domainOf(envelope.DomainOf(r.Sender))
		if domain != "" && (from.relay.AnyName || s.OwnerMap.Get().Account[domain] == "") {
			return s.PayerOfDomain(domain)
		}
	}
	if s.isOwn(from.client) { // listed, and without a name that it may have
		return sidecar.Payer{Special: sidecar.Loopback}
	}
	return sidecar.Payer{Special: sidecar.RelayOf(from.client)}
}

// domainOf is a folded domain if it can be charged: it is a domain name, and is not named
// like something else that is charged. Else it is empty.
func domainOf(folded string) string {
	if !envelope.IsDomain(folded) || !sidecar.IsDomain(folded) || folded == sidecar.DefaultScope {
		return ""
	}
	return folded
}
