package sidecar

import "strings"

// isDomain tells the subject of a domain from those of mailboxes and accounts.
func IsDomain(subject string) bool {
	return !strings.Contains(subject, "@") && !IsAccount(subject)
}

// accountPrefix begins the name of an account's subject.
const AccountPrefix = "account:"

func IsAccount(subject string) bool { return strings.HasPrefix(subject, AccountPrefix) }

// titleOf names a subject as refusals do.
func TitleOf(subject string) string {
	switch account, ok := strings.CutPrefix(subject, AccountPrefix); {
	case ok:
		return "Account " + account
	case IsDomain(subject):
		return "Domain " + subject
	}
	return "Mailbox " + subject
}

// defaultScope is the scope whose values are everybody's.
const DefaultScope = "default"
