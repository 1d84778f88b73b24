package sidecar

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// A Survey is what the files hold that a configuration names, as they are now:
// what `sluice doctor` compares with the host.
type Survey struct {
	Locals    int      // names in exim.local_domains and in its files
	Owned     int      // domains in the owner map
	Malformed []string // lines of the owner map that name no owner, in its order

	local *domainSet
}

// SurveyOf reads the files that the configuration names. A file that is not there
// is empty.
func SurveyOf(c *Config) (Survey, error) {
	s, err := newSettings(sources{config: c}, "", "", nil)
	if err != nil {
		return Survey{}, fmt.Errorf("read the files that the configuration names: %w", err)
	}
	text, err := os.ReadFile(c.Identity.Owners)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Survey{}, fmt.Errorf("read the owner map: %w", err)
	}
	local := s.localDomains.get()
	return Survey{
		Locals:    len(local.domains) + len(local.parents),
		Owned:     len(s.owners.get().account),
		Malformed: malformedOwners(text),
		local:     local,
	}, nil
}

// Local tells whether mail to a domain is left out.
func (s Survey) Local(domain string) bool { return s.local.has(foldDomain(domain)) }

// malformedOwners are the lines that ownerLines passes over without meaning to.
func malformedOwners(text []byte) (bad []string) {
	for line := range bytes.Lines(text) {
		l := strings.TrimSpace(string(line))
		if l == "" || l[0] == '#' || strings.HasPrefix(l, "*:") {
			continue
		}
		domain, account, _ := strings.Cut(l, ":")
		if strings.TrimSpace(domain) == "" || strings.TrimSpace(account) == "" {
			bad = append(bad, l)
		}
	}
	return bad
}
