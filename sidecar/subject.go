package sidecar

import (
	"net/netip"
	"strings"
)

// A subject is what sends are counted under. The name of a domain's is the domain in
// lower-case A-labels, and that of a mailbox its address, with an @. All others have names
// that are neither: special subjects, which are charged in place of a domain, and accounts.
const (
	System        = "system"   // root, and the logins in identity.system
	Loopback      = "loopback" // clients at an address of this host whose user is not known, as in a container
	ServicePrefix = "service:" // a login that is no account's, as of a web server
	RelayPrefix   = "relay:"   // a client for which Exim relays: its address, or network for IPv6
	ForwardPrefix = "forward:" // what aliases and lists of a domain redirect
	WebPrefix     = "web:"     // mail of a web server that claims to be of an account
	AccountPrefix = "account:" // charged beside its domains, once a limit names it
)

// DefaultScope is the scope whose settings apply where no other one has them.
const DefaultScope = "default"

// IsDomain reports whether a subject is a domain. Only domains have lock files.
func IsDomain(subject string) bool {
	return subject != System && subject != Loopback && !IsMailbox(subject) && strings.IndexByte(subject, ':') < 0
}

// IsAccount reports whether a subject is an account.
func IsAccount(subject string) bool {
	return strings.HasPrefix(subject, AccountPrefix) && !IsMailbox(subject)
}

// IsMailbox reports whether a subject is a mailbox.
func IsMailbox(subject string) bool { return strings.IndexByte(subject, '@') >= 0 }

// IsSpecial reports whether a subject is charged in place of a domain.
func IsSpecial(subject string) bool {
	return !IsDomain(subject) && !IsAccount(subject) && !IsMailbox(subject)
}

// AlwaysCounted reports whether sends of a subject are counted even where no limit names
// it: domains and special subjects, but not mailboxes and accounts.
func AlwaysCounted(subject string) bool { return IsDomain(subject) || IsSpecial(subject) }

// Unlimited reports whether a subject has no limit until one names it.
func Unlimited(subject string) bool {
	return subject == System || strings.HasPrefix(subject, RelayPrefix)
}

// RelayOf names the subject of a client for which Exim relays.
func RelayOf(client netip.Addr) string { return RelayPrefix + NetworkOf(client) }

// titles begin the names of subjects and authors in the text of a refusal.
var titles = [...]struct{ prefix, title string }{
	{AccountPrefix, "Account "},
	{ServicePrefix, "Service "},
	{RelayPrefix, "Relay "},
	{ForwardPrefix, "Forwarder "},
	{WebPrefix, "Website "},
	{LoginPrefix, "Login "},
	{ScriptPrefix, "Script "},
	{ClientPrefix, "Client "},
}

// TitleOf names a subject in the text of a refusal.
func TitleOf(subject string) string {
	if IsMailbox(subject) {
		return "Mailbox " + subject
	}
	return titled(subject, "Domain ")
}

// TitleOfAuthor names an author, or an account, in the text of a refusal.
func TitleOfAuthor(key string) string { return titled(key, "Mailbox ") }

// titled is a name with its title; all that have no other have the last one.
func titled(name, last string) string {
	switch name {
	case System:
		return "System mail"
	case Loopback:
		return "Loopback mail"
	}
	for _, t := range &titles {
		if rest, ok := strings.CutPrefix(name, t.prefix); ok {
			return t.title + rest
		}
	}
	return last + name
}
