package lockfile

import (
	"strings"

	"sluice/sidecar"
)

// StopFile reports whether a stopped author has a file in the directory "stopped" of the lock
// directory, by which Exim refuses it while nobody answers. Its name is the key: that of a
// mailbox or login, which is all that Exim knows of an author, in bytes that no rule of
// Exim's and no shell takes for something else.
func StopFile(key string) bool {
	name, login := strings.CutPrefix(key, sidecar.LoginPrefix)
	local, domain, mailbox := strings.Cut(name, "@")
	switch {
	case len(key) >= sidecar.MaxAuthorKey, name == "", name[0] == '.', !onlyBytes(name, stopBytes):
		return false // a long key is cut, and Exim would look for all of it
	case login:
		return !mailbox
	case (sidecar.Author{Key: key}).Kind() != "mailbox", strings.HasPrefix(key, sidecar.AccountPrefix):
		return false // Exim does not know such an author, whoever logs in with its name
	}
	return mailbox && local != "" && onlyBytes(domain, domainBytes) && strings.Contains(domain, ".") && !strings.Contains(domain, "..")
}

// Bytes of the names of stop files. macros.conf has the same as SLUICE_STOP_NAME.
const (
	domainBytes = "abcdefghijklmnopqrstuvwxyz0123456789.-"
	stopBytes   = domainBytes + "!#$%&'*+=?^_{|}~:@"
)

func onlyBytes(s, set string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune(set, r) }) < 0
}
