package lockdir

import (
	"fmt"
	"slices"
	"strings"

	"sluice/sidecar/lockfile"
	"sluice/sidecar/typed"
)

// maxIgnored is how many names one report has at most.
const maxIgnored = 10

// likeLock reports whether a file that is no lock may have been meant as one: `touch
// max_hourly_Example.COM` has no effect, because Exim looks for the name in lower case.
// An editor's backup of a lock file is not meant.
func likeLock(name string) bool {
	lower := strings.ToLower(name)
	return !strings.HasSuffix(name, "~") && (strings.HasPrefix(lower, string(lockfile.Hourly)) || strings.HasPrefix(lower, string(lockfile.DeferFail)))
}

// reportIgnored reports files that were perhaps meant as locks, each once for as long as
// it exists.
func (r *reports) reportIgnored(dir string, names []string, why func(string) string) {
	var reasons []string
	for _, name := range names {
		if !slices.Contains(r.ignored, name) {
			reasons = append(reasons, why(name))
		}
	}
	r.ignored = names
	if n := len(reasons); n > maxIgnored {
		reasons = append(reasons[:maxIgnored], fmt.Sprintf("and %d more", n-maxIgnored))
	}
	if len(reasons) > 0 {
		err := fmt.Errorf("lock directory %s: %s", dir, strings.Join(reasons, "; "))
		r.pending = append(r.pending, lockfile.Event{Kind: lockfile.Ignored, Err: err})
	}
}

// whyIgnored words why a file is no lock, and how it would have to be named, if it can
// be guessed.
func whyIgnored(name string) string {
	lower := strings.ToLower(name)
	for _, kind := range []lockfile.Kind{lockfile.Hourly, lockfile.DeferFail} {
		suffix, _ := strings.CutPrefix(lower, string(kind)+"_")
		domain, err := typed.Domain(suffix)
		if err != nil {
			continue
		}
		if want, err := fileName(lockfile.Lock{Kind: kind, Domain: domain}); err == nil && want != name {
			return fmt.Sprintf("%.80q has no effect, it would have to be %s", name, want)
		}
	}
	return fmt.Sprintf("%.80q has no effect, it names no domain", name)
}

// likeStop reports whether a file that stops nobody may have been meant to.
func likeStop(name string) bool { return name[0] != '.' && !strings.HasSuffix(name, "~") }

func whyStopIgnored(name string) string {
	if lower := strings.ToLower(name); lockfile.StopFile(lower) {
		return fmt.Sprintf("%.80q has no effect, it would have to be %s", name, lower)
	}
	return fmt.Sprintf("%.80q has no effect, it names no mailbox and no login", name)
}
