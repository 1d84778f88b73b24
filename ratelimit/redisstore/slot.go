package redisstore

import "strings"

// slotOf is the slot in which a subject is counted: for a mailbox its domain, so that
// one script call charges both, also on a Redis Cluster; any other subject, such as a
// domain or account:bob, has one of its own.
func slotOf(subject string) string {
	if isAccount(subject) {
		return subject
	}
	if i := strings.LastIndexByte(subject, '@'); i >= 0 && i < len(subject)-1 {
		return subject[i+1:]
	}
	return subject
}

// isAccount reports whether a subject is an account, not a domain or a mailbox.
func isAccount(subject string) bool { return strings.HasPrefix(subject, "account:") }

// inKey escapes a name for a key: in a Cluster, what is in the first braces of a key
// decides where it is.
var inKey = strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D", "#", "%23")

// rootKey is the key of what is common to the subjects of a slot.
func rootKey(slot string) string { return "sluice:{" + inKey.Replace(slot) + "}" }

// subjectKey is the key of a subject.
func subjectKey(subject string) string {
	slot := slotOf(subject)
	if slot == subject {
		return rootKey(slot)
	}
	return rootKey(slot) + ":" + inKey.Replace(subject)
}
