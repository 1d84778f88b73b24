// Package panel reads what hosting panels write about mail limits, so that the
// panel an operator has is the user interface of Sluice's thresholds: cPanel
// with WHM, DirectAdmin, and CloudLinux's ve.cfg. It writes nothing.
//
// What it understands becomes a sidecar.Panel. A line that cannot be understood
// is named in its Trouble, and skipped; all others stay in force.
package panel

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"sluice/sidecar/limit"
	"sluice/sidecar/settings"
)

// A text is a file with its path, as it was read.
type text struct {
	path string
	body []byte
}

// base is the file's name without its directories.
func (t text) base() string { return filepath.Base(t.path) }

// lines yields each line with its place, FILE:LINE, but for empty ones and
// comments.
func (t text) lines(yield func(place, line string) bool) {
	n := 0
	for line := range bytes.Lines(t.body) {
		n++
		l := strings.TrimSpace(string(line))
		if l == "" || l[0] == '#' {
			continue
		}
		if !yield(fmt.Sprintf("%s:%d", t.path, n), l) {
			return
		}
	}
}

// A reading is what is understood so far.
type reading struct {
	settings.Panel
	owners map[string][]string // domains by account
}

func (r *reading) trouble(place, format string, args ...any) {
	text := place + ": " + fmt.Sprintf(format, args...)
	if !slices.Contains(r.Trouble[max(0, len(r.Trouble)-1):], text) { // a line may be for many domains
		r.Trouble = append(r.Trouble, text)
	}
}

// set takes in a threshold; of one that is not good it says why.
func (r *reading) set(place, scope, key, value string) {
	s, err := limit.NewSetting(scope, key, value, limit.Origin{Layer: limit.LayerPanel, Place: place})
	if err != nil {
		r.trouble(place, "%v", err)
		return
	}
	r.Settings = append(r.Settings, s)
}

// stop takes in a suspension, which wins over a hold, or a hold.
func (r *reading) stop(place, scope string, suspended bool) {
	if !r.Blocks[scope].Suspended {
		r.Blocks[scope] = settings.PanelBlock{Suspended: suspended, Place: place}
	}
}

func account(name string) string { return "account:" + name }

// domain is a domain in its canonical form, or trouble.
func (r *reading) domain(place, name string) (string, bool) {
	d, err := limit.CanonicalDomain(name)
	if err != nil {
		r.trouble(place, "%v", err)
	}
	return d, err == nil
}

// readOwners takes in a map of domains with their accounts, a line "domain:
// account" each: cPanel's userdomains, DirectAdmin's domainowners.
func (r *reading) readOwners(t text) {
	for place, line := range t.lines {
		name, owner, found := strings.Cut(line, ":")
		owner, _, _ = strings.Cut(strings.TrimSpace(owner), "==") // userdatadomains has more
		switch d, err := limit.CanonicalDomain(strings.TrimSpace(name)); {
		case name == "*":
		case !found || owner == "":
			r.trouble(place, "%q is not \"domain: account\"", line)
		case err != nil:
			r.trouble(place, "%v", err)
		default:
			r.owners[owner] = append(r.owners[owner], d)
		}
	}
}
