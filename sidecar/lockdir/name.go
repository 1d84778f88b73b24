package lockdir

import (
	"fmt"
	"os"
	"strings"

	"sluice/sidecar/lockfile"
)

// StoppedName is the name of the directory of the stopped, in the lock directory. Exim's macros
// have it too.
const StoppedName = "stopped"

// nameMax is the longest name of a file on every Linux file system, in bytes
// (NAME_MAX).
const nameMax = 255

// A dirKind is which files a directory has, and how they are kept.
type dirKind struct {
	notes     string      // prefix of the keys of its notes
	dir, file os.FileMode // of what is made
	below     bool        // it is in another Dir's directory, which that makes
	parse     func(name string) (lockfile.Lock, bool)
	like      func(name string) bool // whether a file that is no lock may have been meant as one
	why       func(name string) string
}

var (
	lockFiles = dirKind{notes: "lock", dir: 0o755, file: 0o644, parse: parseName, like: likeLock, why: whyIgnored}
	// Exim only looks whether a file exists: it has to get into the directory, and no more.
	stopFiles = dirKind{notes: "stopped", dir: 0o711, file: 0o600, below: true, parse: parseStop, like: likeStop, why: whyStopIgnored}
)

// fileName is the name of a lock's file. It fails unless that is a single path component
// of the form that Exim looks for (`${lc:...}` of an A-label), so that nothing hostile
// reaches the disk.
func fileName(l lockfile.Lock) (string, error) {
	if l.Kind == lockfile.Stopped {
		if !lockfile.StopFile(l.Domain) {
			return "", fmt.Errorf("stop of %.80q: it cannot be the name of a file", l.Domain)
		}
		return l.Domain, nil
	}
	if l.Kind != lockfile.Hourly && l.Kind != lockfile.DeferFail {
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
func parseName(name string) (lockfile.Lock, bool) {
	for _, kind := range []lockfile.Kind{lockfile.Hourly, lockfile.DeferFail} {
		if domain, ok := strings.CutPrefix(name, string(kind)+"_"); ok {
			l := lockfile.Lock{Kind: kind, Domain: domain}
			_, err := fileName(l)
			return l, err == nil
		}
	}
	return lockfile.Lock{}, false
}

// parseStop returns the stop that a file of this name is.
func parseStop(name string) (lockfile.Lock, bool) {
	return lockfile.Lock{Kind: lockfile.Stopped, Domain: name}, lockfile.StopFile(name)
}
