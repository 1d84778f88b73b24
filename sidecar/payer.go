package sidecar

import "strings"

// A Class is whether a message is charged, or why it is not.
type Class int

// The classes.
const (
	Charged      Class = iota
	Nobody             // bounces that Exim made itself, null senders from elsewhere
	Inbound            // from elsewhere, and not redirected by an alias or list of ours
	Exempt             // list software, or exempt by the settings
	Unidentified       // somebody should be charged, but no domain is known
)

// A Payer is who is charged for a message.
type Payer struct {
	Class   Class
	Domain  string // never empty if Class is Charged
	Mailbox string // empty if unknown
	Account string // empty if unknown
}

// Clone copies the strings, so that the request they are parts of can be freed.
func (who Payer) Clone() Payer {
	who.Domain, who.Mailbox, who.Account = strings.Clone(who.Domain), strings.Clone(who.Mailbox), strings.Clone(who.Account)
	return who
}

// WithAccount sets the account if none is known.
func (who Payer) WithAccount(account string) Payer {
	if who.Account == "" {
		who.Account = account
	}
	return who
}

// Scopes lists the scopes whose settings apply, from the most specific to the default.
func (who Payer) Scopes() []string {
	names := make([]string, 0, 4)
	if who.Mailbox != "" {
		names = append(names, who.Mailbox)
	}
	if who.Domain != "" {
		names = append(names, who.Domain)
	}
	if who.Account != "" {
		names = append(names, AccountPrefix+who.Account)
	}
	return append(names, DefaultScope)
}

// DefaultScope is the scope whose settings apply where no other one has them.
const DefaultScope = "default"

// AccountPrefix begins the name of an account's subject or scope. That of a domain is
// the domain, and that of a mailbox its address.
const AccountPrefix = "account:"

// IsDomain reports whether a subject is a domain.
func IsDomain(subject string) bool {
	return !strings.Contains(subject, "@") && !IsAccount(subject)
}

// IsAccount reports whether a subject is an account.
func IsAccount(subject string) bool { return strings.HasPrefix(subject, AccountPrefix) }

// TitleOf names a subject in the text of a refusal.
func TitleOf(subject string) string {
	switch account, ok := strings.CutPrefix(subject, AccountPrefix); {
	case ok:
		return "Account " + account
	case IsDomain(subject):
		return "Domain " + subject
	}
	return "Mailbox " + subject
}
