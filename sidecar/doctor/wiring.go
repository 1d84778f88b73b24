package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/identity"
)

// eximUses are options of Exim, and which ACL of Sluice each has to ask first.
var eximUses = []struct{ option, ours string }{
	{"acl_smtp_rcpt", "acl_sluice_rcpt"},
	{"acl_smtp_data", "acl_sluice_data"},
	{"acl_not_smtp", "acl_sluice_not_smtp"},
}

const reinstall = "Run: sluice exim install, and have Exim reload; it names the line of yours that is in the way."

// lateSenders is the file of exim-config/retry.conf, which package quarantine writes.
const lateSenders = "/etc/sluice/late"

// checkExim reports whether there is an Exim that loads its configuration.
func (d *doctor) checkExim() bool {
	if _, err := os.Stat(d.exim.Binary); err != nil {
		if _, none := exec.LookPath("postconf"); none == nil {
			d.note("Exim", "", "%s is not installed; Postfix is, and its configuration is not looked at", d.exim.Binary)
		} else {
			d.wrong("Exim", "Install Exim, or set exim.binary.", "%v", err)
		}
		return false
	}
	version, err := d.exim.Run(d.ctx, "", "-bV")
	if err != nil {
		d.wrong("Exim", "Mend Exim's configuration.", "%s does not load its configuration: %v", d.exim.Binary, err)
		return false
	}
	version, _, _ = strings.Cut(version, " #")
	d.ok("Exim", "%s, %s, its user is %s", d.exim.Binary, version, d.exim.User)
	return true
}

// checkWiring looks whether Exim's ACLs ask Sluice, and whether its routers come first.
func (d *doctor) checkWiring() {
	text, err := d.exim.Run(d.ctx, "", "-bP", "config")
	if err != nil {
		d.wrong("ACLs", "", "Exim does not show its configuration: %v", err)
		return
	}
	var missing []string
	for _, use := range eximUses {
		if acl, asks := d.exim.AsksFirst(d.ctx, text, use.option, use.ours); !asks {
			missing = append(missing, fmt.Sprintf("%s is %q, which does not ask %s first", use.option, acl, use.ours))
		}
	}
	if len(missing) > 0 {
		d.wrong("ACLs", reinstall, "%s", strings.Join(missing, "; "))
	} else {
		d.ok("ACLs", "acl_smtp_rcpt, acl_smtp_data and acl_not_smtp ask Sluice first")
	}
	if !strings.Contains(text, "lsearch;"+lateSenders) {
		d.note("retry rules", reinstall, "none looks for senders in %s: what `sluice queue restore` brings back after Exim's retry rule has ended bounces at its first 4xx", lateSenders)
	}
	routers, err := d.exim.Run(d.ctx, "", "-bP", "router_list")
	first := strings.Fields(routers)
	first = first[:min(2, len(first))]
	if err != nil || !slices.Equal(first, []string{"sluice", "sluice_hold"}) {
		d.wrong("routers", reinstall, "the first routers are %q, but sluice and sluice_hold must come first: what others route is not charged or held", first)
	} else {
		d.ok("routers", "sluice and sluice_hold come first")
	}
}

// checkTransports looks whether the transports that speak SMTP count as remote.
func (d *doctor) checkTransports() {
	names, err := d.exim.SMTPTransports(d.ctx)
	missed := slices.DeleteFunc(slices.Clone(names), d.settings.RemoteTransport)
	switch {
	case err != nil:
		d.wrong("transports", "", "Exim does not list its transports: %v", err)
	case len(missed) > 0:
		d.wrong("transports", "Add them to exim.remote_transports, unless they deliver to this host's own mailboxes.",
			"what becomes of mail sent by %s is not counted: exim.remote_transports is %q", strings.Join(missed, ", "), d.config.Exim.RemoteTransports)
	default:
		d.ok("transports", "all %d that speak SMTP count as remote", len(names))
	}
}

// checkLocalDomains looks whether mail that Exim delivers itself is left out of the counts.
func (d *doctor) checkLocalDomains() {
	const check = "local domains"
	local := d.settings.Locals.Get()
	if local.Empty() {
		d.wrong(check, "List in exim.local_domains what Exim delivers itself.", "exim.local_domains (%s) has none: local mail is counted", strings.Join(d.config.Exim.LocalDomains, ", "))
		return
	}
	domains, err := d.exim.LocalDomains(d.ctx)
	if err != nil {
		d.wrong(check, reinstall, "Exim has no domain list local_domains: %v", err)
		return
	}
	var missing []string
	for _, item := range domains {
		file := filepath.IsAbs(item)
		switch {
		case slices.Contains(d.config.Exim.LocalDomains, item):
		case file && allIn(item, local):
		case file:
			missing = append(missing, "the domains in "+item)
		case !local.Has(envelope.FoldDomain(item)):
			missing = append(missing, item)
		}
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	if len(missing) > 0 {
		d.wrong(check, "Add them to exim.local_domains; a file by its path.", "Exim delivers these itself, and exim.local_domains does not have them, so that mail to them is counted: %s", strings.Join(missing, ", "))
		return
	}
	d.ok(check, "%s, and all that Exim names are among them", sidecar.Count(int64(len(local.Domains)+len(local.Parents)), "domain", "domains"))
}

// allIn reports whether all domains that a file of Exim's lists, one a line, are in a set.
func allIn(file string, set *identity.DomainSet) bool {
	text, err := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		name := strings.FieldsFunc(line, func(r rune) bool { return r == ':' || unicode.IsSpace(r) }) // what follows is for lsearch
		if len(name) > 0 && name[0][0] != '#' && !set.Has(envelope.FoldDomain(name[0])) {
			return false
		}
	}
	return err == nil
}

// checkForgery looks whether local users can write lines of their own into the
// main log. With +arguments Exim (4.96 to 4.100) logs the name of the directory in
// which it was run unescaped, and that name may have line breaks.
func (d *doctor) checkForgery() {
	if d.exim.LogsArguments(d.ctx) {
		d.note("log selector", "Where you do not trust all local users, put -arguments behind it, unless lfd or `sluice simulate` needs it.",
			"log_selector has +arguments: a local user can name a directory like a line of the log, and so charge and lock others")
	}
}
