package panel

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"sluice/sidecar/limit"
	"sluice/sidecar/settings"
	"sluice/sidecar/typed"
)

// A text is the content of a file.
type text struct {
	path string
	body []byte
}

// base is the file's name without its directories.
func (t text) base() string { return filepath.Base(t.path) }

// lines yields each line with its place, FILE:LINE, except empty lines and comments.
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

// A parser collects what the files say.
type parser struct {
	settings.Panel
	owners map[string][]string // domains by account
}

// warn notes that a line cannot be parsed, and why.
func (r *parser) warn(place, format string, args ...any) {
	text := place + ": " + fmt.Sprintf(format, args...)
	if !slices.Contains(r.Trouble[max(0, len(r.Trouble)-1):], text) { // a line that applies to many domains fails for each
		r.Trouble = append(r.Trouble, text)
	}
}

// set adds a setting, or warns why it is not valid.
func (r *parser) set(place, scope, key, value string) {
	s, err := typed.Setting(scope, key, value, limit.Origin{Layer: limit.LayerPanel, Place: place})
	if err != nil {
		r.warn(place, "%v", err)
		return
	}
	r.Settings = append(r.Settings, s)
}

// block adds a suspension or a hold. A suspension wins over a hold.
func (r *parser) block(place, scope string, suspended bool) {
	if !r.Blocks[scope].Suspended {
		r.Blocks[scope] = settings.PanelBlock{Suspended: suspended, Place: place}
	}
}

func account(name string) string { return "account:" + name }

// domain returns a domain in its canonical form, or warns.
func (r *parser) domain(place, name string) (string, bool) {
	d, err := typed.Domain(name)
	if err != nil {
		r.warn(place, "%v", err)
	}
	return d, err == nil
}

// readOwners reads a map of domains to accounts, with a line "domain: account" for each:
// cPanel's userdomains, DirectAdmin's domainowners.
func (r *parser) readOwners(t text) {
	for place, line := range t.lines {
		name, owner, found := strings.Cut(line, ":")
		owner, _, _ = strings.Cut(strings.TrimSpace(owner), "==") // userdatadomains has more
		switch d, err := typed.Domain(strings.TrimSpace(name)); {
		case name == "*":
		case !found || owner == "":
			r.warn(place, "%q is not \"domain: account\"", line)
		case err != nil:
			r.warn(place, "%v", err)
		default:
			r.owners[owner] = append(r.owners[owner], d)
		}
	}
}
