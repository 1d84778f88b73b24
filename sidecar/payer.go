package sidecar

import "strings"

// A class is by which rule a message is charged, or why it is not.
type Class int

const (
	Charged      Class = iota
	Nobody             // bounces that Exim made itself, null senders from elsewhere
	Inbound            // from elsewhere: not ours until it is redirected
	Exempt             // list software, or whom thresholds exempt
	Unidentified       // somebody should be charged, and nobody can be found
)

// An identity is who is charged for a message.
type Payer struct {
	Class   Class
	Domain  string // of a charged message never empty
	Mailbox string // empty if unknown
	Account string // empty if unknown
}

// clone keeps nothing of the request in memory.
func (who Payer) Clone() Payer {
	who.Domain, who.Mailbox, who.Account = strings.Clone(who.Domain), strings.Clone(who.Mailbox), strings.Clone(who.Account)
	return who
}

// of names the account, where the domain does not.
func (who Payer) WithAccount(account string) Payer {
	if who.Account == "" {
		who.Account = account
	}
	return who
}

// names are the scopes of somebody, from the most specific to the default.
func (who Payer) Scopes() (names []string) {
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
