package doctor

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"strings"

	"sluice/sidecar/domains"
	"sluice/sidecar/envelope"
	"sluice/sidecar/printable"
)

// checkOwners looks at the owner map, which tells whose a sender's domain is.
func (d *doctor) checkOwners() {
	const check = "owner map"
	name := d.config.Identity.Owners
	text, _ := os.ReadFile(name) // not there, or settings.New would have failed
	owned := len(d.settings.OwnerMap.Get().Account)
	switch bad := malformedOwners(text); {
	case len(bad) > 0:
		d.wrong(check, "Each line is \"domain: account\".", "%s has %s without an owner, the first is %.60q", name, printable.Count(int64(len(bad)), "line", "lines"), bad[0])
	case owned > 0:
		d.ok(check, "%s in %s", printable.Count(int64(owned), "domain", "domains"), name)
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

// checkCron looks whether accounts have cron mail what their jobs print to other hosts.
// Where cron sends that as root it is taken for the system's own mail.
func (d *doctor) checkCron() {
	owners := d.settings.OwnerMap.Get()
	var senders []string
	for _, dir := range d.Crontabs {
		files, _ := os.ReadDir(dir) // most hosts have only one of them
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err == nil && owners.IsAccount(f.Name()) && mailsElsewhere(text, d.settings.Locals.Get()) {
				senders = append(senders, f.Name())
			}
		}
	}
	if n := len(senders); n > 0 {
		d.note("cron", "Look at `sluice status system`. `sluice set system hourly=500` limits it; better is a cron that sends as the user.",
			"cron mails what jobs of %s print to other hosts (MAILTO), the first is %s: where it does that as root, it is counted as system, and unlimited",
			printable.Count(int64(n), "account", "accounts"), senders[0])
	}
}

// mailsElsewhere reports whether a crontab names a recipient on another host.
func mailsElsewhere(crontab []byte, local *domains.Set) bool {
	for line := range bytes.Lines(crontab) {
		name, value, _ := strings.Cut(string(line), "=")
		if strings.TrimSpace(name) != "MAILTO" {
			continue
		}
		for to := range strings.FieldsFuncSeq(value, func(r rune) bool { return strings.ContainsRune(" ,\t\n\"'", r) }) {
			if domain := envelope.DomainOf(to); domain != "" && !local.Has(domain) {
				return true
			}
		}
	}
	return false
}
