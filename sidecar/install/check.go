package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sluice/sidecar/exim"
)

// installed is Exim with the configuration in place.
func (r *run) installed() exim.Exim { return r.Exim }

// checked is Exim with the configuration that was made for a check, else with the one in place.
func (r *run) checked() exim.Exim {
	e := r.Exim
	e.Config = r.config
	return e
}

func (r *run) hasPerl(ctx context.Context) bool {
	text, _ := r.Exim.Run(ctx, "", "-bV") // which it prints before it loads its configuration
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "Support for:"); ok {
			return slices.Contains(strings.Fields(rest), "Perl")
		}
	}
	return false
}

// loads reports what Exim finds wrong with the configuration that the stage would give.
func (r *run) loads(ctx context.Context) error {
	r.config = ""
	if err := r.stage.write(filepath.Join(r.work, "root")); err != nil {
		return err
	}
	text, err := r.layout.generate(ctx, r)
	if err != nil {
		return err
	}
	if text != nil {
		r.config = filepath.Join(r.work, "config")
		if err := os.WriteFile(r.config, r.retarget(text), 0o644); err != nil {
			return err
		}
	}
	return r.load(ctx, r.checked())
}

// load reports what an Exim finds wrong with its configuration.
func (r *run) load(ctx context.Context, e exim.Exim) error {
	_, err := e.Run(ctx, "", "-bV")
	return err
}

// retarget has a configuration name the files on the stage instead of those in place. One that
// is to go is not on the stage, and may be there no more.
func (r *run) retarget(config []byte) []byte {
	for _, path := range r.stage.paths {
		names := regexp.MustCompile(`(include_if_exists +|do ')` + regexp.QuoteMeta(path))
		config = names.ReplaceAll(config, []byte("${1}"+filepath.Join(r.work, "root")+path))
	}
	return config
}

// asked are the options by which Exim asks Sluice, with the ACL that asks, and the macro that
// names the ACL of the site.
var asked = []struct{ option, acl, macro string }{
	{"acl_smtp_rcpt", "acl_sluice_rcpt", "SLUICE_SITE_RCPT"},
	{"acl_smtp_data", "acl_sluice_data", "SLUICE_SITE_DATA"},
	{"acl_not_smtp", "acl_sluice_not_smtp", "SLUICE_SITE_NOT_SMTP"},
}

// wouldAsk reports why Exim would not ask Sluice, as far as a check can see that. Where the
// site's Perl loads our client, it does so from its place, and cannot be checked before.
func (r *run) wouldAsk(ctx context.Context) error {
	e := r.checked()
	if err := r.asks(ctx, e); err != nil || r.way != "perl" {
		return err
	}
	if r.config == "" || strings.Contains(e.Option(ctx, "perl_startup"), "/sluice.pl'") {
		return r.perlAsks(ctx, e)
	}
	return nil
}

func (r *run) asks(ctx context.Context, e exim.Exim) error {
	config, err := e.Run(ctx, "", "-bP", "config")
	if err != nil {
		return err
	}
	for _, a := range asked {
		is, asks := e.AsksFirst(ctx, config, a.option, a.acl)
		if asks {
			continue
		}
		named := is
		if named == "" {
			named = "your_acl"
		}
		return problemf("%s is %q, not %s: a file of yours sets it.\n%s", a.option, is, a.acl, r.layout.hintSiteACL(a.option, a.macro+" = "+named))
	}
	routers, err := e.Run(ctx, "", "-bP", "router_list")
	first := strings.Fields(routers)
	if first = first[:min(2, len(first))]; err != nil || !slices.Equal(first, []string{"sluice", "sluice_hold"}) {
		return problemf("the first routers are \"%s \", but sluice and sluice_hold must come first.\n%s", strings.Join(first, " "), r.layout.hintRouters())
	}
	if _, err := e.Run(ctx, "", "-bP", "+local_domains"); err != nil {
		return problem("Exim's configuration has no domainlist local_domains. Name there what Exim delivers\n" +
			"itself, or say in it what your list is called:  domainlist local_domains = +your_list")
	}
	return nil
}

// perlAsks reports why Exim's Perl does not have our client.
func (r *run) perlAsks(ctx context.Context, e exim.Exim) error {
	if loaded, err := e.Expand(ctx, "", "${perl{Sluice::loaded}}"); err != nil || loaded != "yes" {
		return problemf("Exim's Perl did not load %[1]s. perl_startup is: %[2]s\nIf that is yours, add this line to the file that it loads:\n    do '%[1]s';",
			r.perl(), e.Option(ctx, "perl_startup"))
	}
	return nil
}

// answers reports whether Sluice answers a question that charges nobody.
func (r *run) answers(ctx context.Context) bool {
	answer, err := r.installed().Expand(ctx, "", "${acl{acl_sluice_ask}{rcpt}}")
	return err == nil && strings.HasPrefix(answer, "action=")
}

var setTwice = regexp.MustCompile(`"(perl_startup|acl_not_smtp)" option set for the second time`)

var definedTwice = regexp.MustCompile(`macro "MAIN_ACL_CHECK_[A-Z]*" is already defined`)

// explain says what to do about errors that a site can expect.
func (r *run) explain(why error) string {
	text := why.Error()
	set := setTwice.FindStringSubmatch(text)
	switch file := r.layout.macrosFile(); {
	case set != nil && set[1] == "perl_startup":
		if file == "" {
			file = "your file"
		}
		return fmt.Sprintf("%s\nThere can be one perl_startup, and this site has its own. Put into %s:\n    SLUICE_SITE_PERL = yes\n"+
			"and add this line to the Perl file that your perl_startup loads:\n    do '%s';", text, file, r.perl())
	case set != nil:
		return text + "\nThis site has an acl_not_smtp.\n" + r.layout.hintSiteACL("acl_not_smtp", "SLUICE_SITE_NOT_SMTP = its value")
	case definedTwice.MatchString(text):
		return text + "\nMove your MAIN_ACL_CHECK_RCPT and MAIN_ACL_CHECK_DATA to " + file + "."
	}
	return text
}
