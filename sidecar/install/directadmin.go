package install

import (
	"bytes"
	"context"
	"os"
	"regexp"
)

// directadminConf is DirectAdmin's configuration of Exim.
const directadminConf = "/etc/exim.conf"

// directadmin goes by the files that DirectAdmin's exim.conf includes. The retry rule alone has
// no such file: it goes into exim.conf, and has to be put in again after "build exim_conf". Until
// then held mail has the site's own rule.
type directadmin struct{}

func (directadmin) name() string       { return "directadmin" }
func (directadmin) manifest() string   { return "/etc/sluice/exim.installed" }
func (directadmin) macrosFile() string { return "/etc/exim.variables.conf.custom" }
func (d directadmin) macrosAre() string {
	return "/etc/exim.acl_check_recipient.pre.conf; set them in " + d.macrosFile()
}
func (directadmin) reload() string { return "systemctl restart exim" }

func (directadmin) ready(context.Context, *run) (string, error) {
	text, err := os.ReadFile(directadminConf)
	switch {
	case err != nil:
		return "", problemf("there is no %s", directadminConf)
	case !bytes.Contains(text, []byte("/etc/exim.routers.pre.conf")):
		return "", problemf("%s does not include /etc/exim.routers.pre.conf: it is not DirectAdmin's", directadminConf)
	}
	return "", nil
}

// stage: the macros come with the first ACL, for nothing that is included comes before it but
// what is the site's. Macros may stand between ACLs, not within one.
func (directadmin) stage(r *run) error {
	if err := r.wholePerl(); err != nil {
		return err
	}
	if r.way == "perl" {
		r.block("/etc/exim.custom.pl", atTop, nil, r.startup()+";\n")
	}
	r.block("/etc/exim.acl_check_recipient.pre.conf", atTop, nil, firstIn("acl_sluice_rcpt", r.macros()+r.text("acl.conf")))
	r.block("/etc/exim.acl_check_message.pre.conf", atTop, nil, firstIn("acl_sluice_data", ""))
	r.block("/etc/exim.acl_script.pre.conf", atTop, nil, firstIn("acl_sluice_not_smtp", ""))
	r.block("/etc/exim.routers.pre.conf", atTop, nil, r.text("routers.conf"))
	if !r.block(directadminConf, after, regexp.MustCompile(`(?m)^[ \t]*begin[ \t]+retry`), r.text("retry.conf")) {
		return problemf("%s has no line that starts with \"begin retry\".", directadminConf)
	}
	return nil
}

func (directadmin) siteACL(_ *run, option string) string { return siteRest(oursFor(option)) }

func (directadmin) generate(_ context.Context, r *run) ([]byte, error) {
	return stagedOrThere(r, directadminConf)
}

func (directadmin) goLive(context.Context) error { return nil }

func (directadmin) hintSiteACL(string, string) string {
	return "See to it that nothing that accepts stands before ours in that ACL."
}
func (directadmin) hintRouters() string {
	return "See to it that nothing stands before ours in /etc/exim.routers.pre.conf."
}
