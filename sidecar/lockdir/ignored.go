package lockdir

import (
	"fmt"
	"slices"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/limit"
)

// maxIgnored is how many names are told at a time.
const maxIgnored = 10

// likeLock tells whether whoever made a file that is none of ours may have
// meant a lock: `touch max_hourly_Example.COM` has no effect, for Exim asks for
// the name in lower case. What an editor leaves beside a lock is not meant.
func likeLock(name string) bool {
	lower := strings.ToLower(name)
	return !strings.HasSuffix(name, "~") && (strings.HasPrefix(lower, string(sidecar.LockHourly)) || strings.HasPrefix(lower, string(sidecar.LockDeferFail)))
}

// tellIgnored tells, once while they stand, of files that were perhaps meant as
// locks.
func (d *Dir) tellIgnored(names []string) {
	var reasons []string
	for _, name := range names {
		if !slices.Contains(d.ignored, name) {
			reasons = append(reasons, whyIgnored(name))
		}
	}
	d.ignored = names
	if n := len(reasons); n > maxIgnored {
		reasons = append(reasons[:maxIgnored], fmt.Sprintf("and %d more", n-maxIgnored))
	}
	if len(reasons) > 0 {
		err := fmt.Errorf("lock directory %s: %s", d.path, strings.Join(reasons, "; "))
		d.pending = append(d.pending, sidecar.LockEvent{Kind: sidecar.LockIgnored, Err: err})
	}
}

// whyIgnored says what the file would have to be called, if that can be told.
func whyIgnored(name string) string {
	lower := strings.ToLower(name)
	for _, kind := range []sidecar.LockKind{sidecar.LockHourly, sidecar.LockDeferFail} {
		suffix, _ := strings.CutPrefix(lower, string(kind)+"_")
		domain, err := limit.CanonicalDomain(suffix)
		if err != nil {
			continue
		}
		if want, err := fileName(sidecar.Lock{Kind: kind, Domain: domain}); err == nil && want != name {
			return fmt.Sprintf("%.80q has no effect, it would have to be %s", name, want)
		}
	}
	return fmt.Sprintf("%.80q has no effect, it names no domain", name)
}
