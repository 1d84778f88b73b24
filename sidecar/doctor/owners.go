package doctor

import (
	"bytes"
	"cmp"
	"os"
	"strings"

	"sluice/sidecar"
)

// checkOwners looks at the owner map, which tells whose a sender's domain is.
func (d *doctor) checkOwners() {
	const check = "owner map"
	name := d.config.Identity.Owners
	text, _ := os.ReadFile(name) // not there, or settings.New would have failed
	owned := len(d.settings.OwnerMap.Get().Account)
	switch bad := malformedOwners(text); {
	case len(bad) > 0:
		d.wrong(check, "Each line is \"domain: account\".", "%s has %s without an owner, the first is %.60q", name, sidecar.Count(int64(len(bad)), "line", "lines"), bad[0])
	case owned > 0:
		d.ok(check, "%s in %s", sidecar.Count(int64(owned), "domain", "domains"), name)
	case d.exim.AnySender:
		d.note(check, "On a shared host set identity.owners, or take untrusted_set_sender out of Exim's configuration.",
			"there is none (%s), and Exim lets every local user send in any name: one could spend another's budget", cmp.Or(name, "identity.owners is empty"))
	default:
		d.note(check, "", "there is none (%s): mail of local users is charged to their sender's domain", cmp.Or(name, "identity.owners is empty"))
	}
}

// malformedOwners are the lines of an owner map that name no owner. Comments and
// cPanel's last line, "*: nobody", need none.
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
