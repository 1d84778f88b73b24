package sidecar

import "strings"

// A Class is whether a message is charged, or why it is not.
type Class int

// The classes.
const (
	Charged Class = iota
	Nobody        // bounces and warnings that the mail server made itself
	Inbound       // from elsewhere, and not redirected by an alias or list of ours
	Exempt        // list software, or exempt by the settings
	Notice        // Sluice's own to operators, which no limit and no block may stop
)

// A Payer is who is charged for a message.
type Payer struct {
	Class   Class
	Domain  string // whose settings apply; empty only if there is a Special
	Special string // the subject that is charged in place of Domain; empty: Domain is
	Mailbox string // empty if unknown
	Account string // empty if unknown
}

// Subject is what is charged in any case: the domain, or what stands in its place. It is
// never empty if Class is Charged.
func (who Payer) Subject() string {
	if who.Special != "" {
		return who.Special
	}
	return who.Domain
}

// Clone copies the strings, so that the request they are parts of can be freed.
func (who Payer) Clone() Payer {
	who.Domain, who.Special = strings.Clone(who.Domain), strings.Clone(who.Special)
	who.Mailbox, who.Account = strings.Clone(who.Mailbox), strings.Clone(who.Account)
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
	return who.appendScopes(make([]string, 0, 5)) // inlined, so it is on the stack unless the caller keeps it
}

func (who Payer) appendScopes(names []string) []string {
	if who.Mailbox != "" {
		names = append(names, who.Mailbox)
	}
	if who.Special != "" {
		names = append(names, who.Special)
	}
	if who.Domain != "" {
		names = append(names, who.Domain)
	}
	if who.Account != "" {
		names = append(names, AccountPrefix+who.Account)
	}
	return append(names, DefaultScope)
}

// LimitScopes lists the scopes of which the first that sets a limit says how much a subject,
// one of those that are charged, may send. Only Subject has the limits of other scopes.
func (who Payer) LimitScopes(subject string) []string {
	if subject != who.Subject() {
		return []string{subject}
	}
	names := make([]string, 0, 3)
	if who.Special != "" {
		names = append(names, who.Special)
	}
	if who.Domain != "" {
		names = append(names, who.Domain)
	}
	if Unlimited(who.Special) {
		return names
	}
	return append(names, DefaultScope)
}
