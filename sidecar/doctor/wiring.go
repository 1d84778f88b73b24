package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"sluice/sidecar/domains"
	"sluice/sidecar/envelope"
	"sluice/sidecar/printable"
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
	missed := slices.DeleteFunc(slices.Clone(names), d.config.RemoteTransport)
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
	if d.lists == nil {
		return // checkWiring has said so
	}
	if len(d.lists.LocalDomains.Names) == 0 {
		d.wrong(check, reinstall, "Exim has no domain list local_domains")
		return
	}
	var missing []string
	for _, item := range d.lists.LocalDomains.Items {
		if !isListed(d.config.Exim.LocalDomains, item) && !allIn(item, local) {
			missing = append(missing, domainText(item))
		}
	}
	unknown := d.lists.LocalDomains.Unknown
	switch {
	case len(missing) > 0:
		slices.Sort(missing)
		d.wrong(check, "Add them to exim.local_domains; a file by its path.", "Exim delivers these itself, and exim.local_domains does not have them, so that mail to them is counted: %s", strings.Join(slices.Compact(missing), ", "))
	case len(unknown) > 0 && !d.config.Sets("exim.local_domains"):
		d.note(check, "Set exim.local_domains to all that Exim delivers itself.", "only Exim can look up what these of its local_domains mean, so that mail to it is counted: %s", strings.Join(unknown, ", "))
	default:
		d.ok(check, "%s, and all that Exim names are among them", printable.Count(int64(len(local.Domains)+len(local.Parents)), "domain", "domains"))
	}
}

// domainText is an item of Exim's lists as findings name it.
func domainText(item string) string {
	if path, _ := domains.FileOf(item); path != "" {
		return "the domains in " + path
	}
	return item
}

// isListed reports whether an item of Exim's lists is in a key's list, a lookup also by its file alone.
func isListed(list []string, item string) bool {
	path, _ := domains.FileOf(item)
	return slices.Contains(list, item) || item[0] != '!' && path != "" && slices.Contains(list, path)
}

// allIn reports whether all domains that an item of Exim's lists means are in a set: a name, all
// below one, an exception, or a file with one a line.
func allIn(item string, set *domains.Set) bool {
	if item[0] == '!' {
		return true
	}
	if parent, all := strings.CutPrefix(item, "*"); all {
		return set.Parents[envelope.FoldDomain(parent)]
	}
	path, _ := domains.FileOf(item)
	if path == "" {
		return set.Has(envelope.FoldDomain(item))
	}
	_, missing := os.Stat(path)
	listed, err := domains.Read(item)
	for name := range listed.Domains {
		if !set.Has(name) {
			return false
		}
	}
	return err == nil && missing == nil
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
