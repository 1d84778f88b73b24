package lockdir

import (
	"fmt"
	"strings"

	"sluice/sidecar"
)

// nameMax is the longest name of a file on every Linux file system, in bytes
// (NAME_MAX).
const nameMax = 255

// fileName is the name of a lock's file. It fails unless that is a single path component
// of the form that Exim looks for (`${lc:...}` of an A-label), so that nothing hostile
// reaches the disk.
func fileName(l sidecar.Lock) (string, error) {
	if l.Kind != sidecar.LockHourly && l.Kind != sidecar.LockDeferFail {
		return "", fmt.Errorf("lock of unknown kind %.40q", l.Kind)
	}
	name := string(l.Kind) + "_" + l.Domain
	switch {
	case l.Domain == "":
		return "", fmt.Errorf("lock without a domain")
	case len(name) > nameMax:
		return "", fmt.Errorf("lock for domain %.40q...: the file's name would have %d bytes, at most %d are possible",
			l.Domain, len(name), nameMax)
	case !onlyDomainBytes(l.Domain):
		return "", fmt.Errorf("lock for domain %.80q: only a-z, 0-9, - and . can be in a lock file's name; "+
			"write the domain in lower case, international ones as xn--...", l.Domain)
	case strings.HasPrefix(l.Domain, "."), strings.Contains(l.Domain, ".."):
		return "", fmt.Errorf("lock for domain %.80q: a label is empty", l.Domain)
	}
	return name, nil
}

// onlyDomainBytes reports whether s has only bytes of a lower-case A-label.
func onlyDomainBytes(s string) bool {
	for _, b := range []byte(s) {
		if !('a' <= b && b <= 'z' || '0' <= b && b <= '9' || b == '-' || b == '.') {
			return false
		}
	}
	return true
}

// parseName returns the lock that a file of this name is. It reports false for
// everything else in the directory, such as usage files and names that Exim never looks
// for.
func parseName(name string) (sidecar.Lock, bool) {
	for _, kind := range []sidecar.LockKind{sidecar.LockHourly, sidecar.LockDeferFail} {
		if domain, ok := strings.CutPrefix(name, string(kind)+"_"); ok {
			l := sidecar.Lock{Kind: kind, Domain: domain}
			_, err := fileName(l)
			return l, err == nil
		}
	}
	return sidecar.Lock{}, false
}
