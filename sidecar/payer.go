package sidecar

import "strings"

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

// of names the account, where the domain does not.
func (who identity) of(account string) identity {
	if who.account == "" {
		who.account = account
	}
	return who
}

// names are the scopes of somebody, from the most specific to the default.
func (who identity) names() (names []string) {
	if who.mailbox != "" {
		names = append(names, who.mailbox)
	}
	if who.domain != "" {
		names = append(names, who.domain)
	}
	if who.account != "" {
		names = append(names, accountPrefix+who.account)
	}
	return append(names, defaultScope)
}
