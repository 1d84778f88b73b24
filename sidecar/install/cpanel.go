package install

import (
	"context"
	"regexp"
)

// Files of cPanel's.
const (
	cpanelLocal = "/etc/exim.conf.local"
	cpanelBuild = "/usr/local/cpanel/scripts/buildeximconf"
)

// cpanel: everything goes into /etc/exim.conf.local, which buildeximconf merges into each new
// /etc/exim.conf. Nothing is included: users in a jail have their own /etc, with exim.conf in it
// and nothing of ours.
type cpanel struct{}

func (cpanel) name() string       { return "cpanel" }
func (cpanel) manifest() string   { return "/etc/sluice/exim.installed" }
func (cpanel) macrosFile() string { return "" }
func (cpanel) macrosAre() string {
	return cpanelLocal + ", section @BEGINACL@; set them in @CONFIG@"
}
func (cpanel) reload() string { return "/usr/local/cpanel/scripts/restartsrv_exim" }

func (cpanel) ready(context.Context, *run) (string, error) {
	if !exists(cpanelBuild) {
		return "", problemf("this is no cPanel: there is no %s", cpanelBuild)
	}
	return "", nil
}

func (c cpanel) stage(r *run) error {
	if err := r.wholePerl(); err != nil {
		return err
	}
	c.section(r, "CONFIG", c.main(r))
	c.section(r, "BEGINACL", r.macros()+r.text("acl.conf"))
	c.section(r, "ROUTERSTART", r.text("routers.conf"))
	c.section(r, "RETRYSTART", r.text("retry.conf"))
	return nil
}

// main: an option in @CONFIG@ takes the place of cPanel's own. In a jail there is no sluice.pl,
// and nobody answers.
func (cpanel) main(r *run) (text string) {
	for _, a := range asked {
		text += a.option + " = " + a.acl + "\n"
	}
	if startup := r.startup(); startup != "" {
		if site := r.site["perl_startup"]; site != "" {
			startup = site + "; " + startup
		}
		text += "perl_startup = " + startup + "\n"
	}
	return text
}

func (cpanel) siteACL(r *run, option string) string { return r.site[option] }

// section puts a block first into a section of exim.conf.local.
func (cpanel) section(r *run, name, text string) {
	if !r.block(cpanelLocal, after, regexp.MustCompile(`(?m)^@`+name+`@`), text) {
		r.block(cpanelLocal, atBottom, nil, "@"+name+"@\n"+text)
	}
}

// generate: only cPanel can make its configuration. It checks it before it installs it.
func (cpanel) generate(context.Context, *run) ([]byte, error) { return nil, nil }

func (cpanel) goLive(ctx context.Context) error { return runScript(ctx, cpanelBuild) }

func (cpanel) hintSiteACL(string, string) string { return "Remove that line from " + cpanelLocal + "." }
func (cpanel) hintRouters() string {
	return "See to it that nothing stands before ours in @ROUTERSTART@ of " + cpanelLocal + "."
}
