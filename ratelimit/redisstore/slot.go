package redisstore

import "strings"

// slotOf is the slot in which a subject is counted: a mailbox's is that of its
// domain, so that both are charged by one script also on a Redis Cluster; all
// else, such as a domain or account:bob, has one of its own.
func slotOf(subject string) string {
	if isAccount(subject) {
		return subject
	}
	if i := strings.LastIndexByte(subject, '@'); i >= 0 && i < len(subject)-1 {
		return subject[i+1:]
	}
	return subject
}

// isAccount tells an account from a domain.
func isAccount(subject string) bool { return strings.HasPrefix(subject, "account:") }

// inKey writes a name so that it can stand in a key: Redis takes what is in
// the first pair of braces for what decides about the place of a key.
var inKey = strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D", "#", "%23")

// rootKey is the key of the root of a slot.
func rootKey(slot string) string { return "sluice:{" + inKey.Replace(slot) + "}" }

// subjectKey is the key of a subject.
func subjectKey(subject string) string {
	slot := slotOf(subject)
	if slot == subject {
		return rootKey(slot)
	}
	return rootKey(slot) + ":" + inKey.Replace(subject)
}
