package sidecar

import "strings"

// isDomain tells the subject of a domain from those of mailboxes and accounts.
func isDomain(subject string) bool {
	return !strings.Contains(subject, "@") && !isAccount(subject)
}

// accountPrefix begins the name of an account's subject.
const accountPrefix = "account:"

func isAccount(subject string) bool { return strings.HasPrefix(subject, accountPrefix) }

// titleOf names a subject as refusals do.
func titleOf(subject string) string {
	switch account, ok := strings.CutPrefix(subject, accountPrefix); {
	case ok:
		return "Account " + account
	case isDomain(subject):
		return "Domain " + subject
	}
	return "Mailbox " + subject
}

// defaultScope is the scope whose values are everybody's.
const defaultScope = "default"
