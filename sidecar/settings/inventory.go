package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"sluice/sidecar/config"
	"sluice/sidecar/envelope"
	"sluice/sidecar/identity"
)

// A Survey is what the files hold that a configuration names, as they are now:
// what `sluice doctor` compares with the host.
type Inventory struct {
	Locals    int      // names in exim.local_domains and in its files
	Owned     int      // domains in the owner map
	Malformed []string // lines of the owner map that name no owner, in its order

	local *identity.DomainSet
}

// SurveyOf reads the files that the configuration names. A file that is not there
// is empty.
func InventoryOf(c *config.Config) (Inventory, error) {
	s, err := New(Sources{Config: c}, "", "", nil)
	if err != nil {
		return Inventory{}, fmt.Errorf("read the files that the configuration names: %w", err)
	}
	text, err := os.ReadFile(c.Identity.Owners)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Inventory{}, fmt.Errorf("read the owner map: %w", err)
	}
	local := s.Locals.Get()
	return Inventory{
		Locals:    len(local.Domains) + len(local.Parents),
		Owned:     len(s.OwnerMap.Get().Account),
		Malformed: malformedOwners(text),
		local:     local,
	}, nil
}

// Local tells whether mail to a domain is left out.
func (s Inventory) Local(domain string) bool { return s.local.Has(envelope.FoldDomain(domain)) }

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
