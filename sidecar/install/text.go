package install

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// siteOptions are the options that a site may have set, and that ours take the place of.
var siteOptions = []string{"acl_smtp_rcpt", "acl_smtp_data", "acl_not_smtp", "perl_startup"}

// noteSite notes options as the site has them without us. Where only the panel could tell, they
// are as they were before we were put in.
func (r *run) noteSite(ctx context.Context) {
	if r.config == "" && r.before != nothing {
		r.site = r.before.site
		return
	}
	r.site = map[string]string{}
	for _, name := range siteOptions {
		r.site[name] = r.checked().Option(ctx, name)
	}
}

// locksMacro is where macros.conf has the lock directory, which is locks.dir, unless the site sets it.
const locksMacro = "SLUICE_LOCKS = /var/cpanel/email_send_limits\n"

// text is the content of one of our files.
func (r *run) text(name string) string {
	b, err := fs.ReadFile(r.Files, name)
	if err != nil {
		panic(err) // it is built in
	}
	return strings.Replace(string(b), locksMacro, "SLUICE_LOCKS = "+r.Locks+"\n", 1)
}

// perl is where our client for Exim's Perl goes.
func (r *run) perl() string { return filepath.Join(filepath.Dir(r.layout.manifest()), "sluice.pl") }

// wholePerl stages our client, where it is needed.
func (r *run) wholePerl() error {
	if r.way != "perl" {
		return nil
	}
	return r.whole(r.perl(), []byte(r.text("sluice.pl")))
}

// startup is the value of perl_startup that the way to ask needs, with our client where it is in
// this layout.
func (r *run) startup() string {
	for line := range strings.Lines(r.text("ask-" + r.way + ".conf")) {
		if value, ok := strings.CutPrefix(line, "perl_startup = "); ok {
			return strings.ReplaceAll(strings.TrimSpace(value), "/etc/exim4/sluice.pl", r.perl())
		}
	}
	return ""
}

// macros are all macros of ours, for layouts that have no folder for files of ours. What the main
// section has of them is left out: the site's perl_startup, or startup, loads the client.
func (r *run) macros() string {
	var b strings.Builder
	b.WriteString("SLUICE_SITE_PERL = yes\n")
	for _, a := range asked {
		if acl := r.layout.siteACL(r, a.option); acl != "" {
			fmt.Fprintf(&b, ".ifndef %[1]s\n%[1]s = %[2]s\n.endif\n", a.macro, acl)
		}
	}
	return b.String() + r.text("macros.conf") + r.text("ask-"+r.way+".conf")
}

// firstIn begins an ACL of the site's: ours comes first, and asks what is left of the site's,
// under a name of its own. more are ACLs of ours, which stand before the rest.
func firstIn(ours, more string) string {
	return "  accept  endpass\n          acl         = " + ours + "\n" + more + siteRest(ours) + ":\n"
}

// siteRest is the name of what is left of the site's ACL after firstIn.
func siteRest(ours string) string { return strings.Replace(ours, "acl_sluice_", "acl_sluice_site_", 1) }

// oursFor is our ACL for an option.
func oursFor(option string) string {
	for _, a := range asked {
		if a.option == option {
			return a.acl
		}
	}
	return ""
}
