package eximconfig_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
)

// The installer, on Debian's configuration:
//
//	install ─→ conf.d, sluice.pl ─→ update-exim4.conf -o FILE ─→ exim4 -C FILE -bV
//	   ├─ it loads:       update-exim4.conf, live
//	   └─ it does not:    everything back

// etc is each file of the host's configuration with its content, without what each
// host has of its own.
func (h *host) etc(t testing.TB) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, own := range configFolders {
		err := filepath.Walk(filepath.Join(h.dir, own), func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				files[strings.TrimPrefix(path, h.dir)] = readFile(t, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	delete(files, "/etc/exim4/host_macros")
	delete(files, "/etc/exim4/sinks")
	return files
}

func (h *host) install(t testing.TB, wantCode int, args ...string) string {
	t.Helper()
	verb := "install"
	if len(args) > 0 && args[0] == "remove" {
		verb, args = "remove", args[1:]
	}
	program := h.sluice(t)[0] // without the configuration that tests have: an operator's comes later, too
	out, code := h.try(t, append([]string{program, "exim", verb}, args...)...)
	if code != wantCode {
		t.Fatalf("install %v: exit %d, want %d\n%s", args, code, wantCode, out)
	}
	return out
}

func wantSays(t *testing.T, out string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("does not say %q:\n%s", text, out)
		}
	}
}

// What an operator changed in our files is saved, not lost, and put in again; all else is up
// to date.
func TestInstallSavesChanges(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	file := "/etc/exim4/conf.d/acl/10_sluice"
	want := h.etc(t)
	mine := h.read(file) + "# mine\n"
	h.write(t, file, mine)
	out := h.install(t, 0)
	wantSays(t, out, file+" was changed by hand; your version is now "+file+".changed", file+" put in", "sluice.pl is up to date")
	if n := strings.Count(out, "put in"); n != 1 {
		t.Errorf("a second run puts in %d files, want the changed one:\n%s", n, out)
	}
	want[file+".changed"] = mine
	if diff := cmp.Diff(want, h.etc(t)); diff != "" {
		t.Errorf("a second run saves what was changed, and changes nothing else (-want +got):\n%s", diff)
	}
}

// A site that cannot be served as it is learns what to do, and nothing changes. One
// site has all that after each other, and mends it; in the end Exim asks.
func TestInstallExplains(t *testing.T) {
	t.Parallel()
	h := newBareHost(t)
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, h *host)
		says    []string
		newer   []string // where Exim says nothing of options that are set twice, if another
		mend    func(t *testing.T, h *host)
	}{
		{"another perl_startup", func(t *testing.T, h *host) {
			h.write(t, "/etc/exim4/conf.d/main/50_site", "perl_startup = do '/etc/exim4/site.pl'\n")
			h.write(t, "/etc/exim4/site.pl", "sub site { 'site' } 1;\n")
		}, []string{"SLUICE_SITE_PERL = yes", "do '/etc/exim4/sluice.pl';"}, []string{
			"Exim's Perl did not load /etc/exim4/sluice.pl. perl_startup is: do '/etc/exim4/site.pl'", "do '/etc/exim4/sluice.pl';",
		}, func(t *testing.T, h *host) {
			h.addMacros(t, "SLUICE_SITE_PERL = yes")
			wantSays(t, h.install(t, 1), "Exim's Perl did not load /etc/exim4/sluice.pl", "do '/etc/exim4/sluice.pl';")
			h.write(t, "/etc/exim4/site.pl", "sub site { 'site' } do '/etc/exim4/sluice.pl';\n")
		}},
		{"another acl_not_smtp", func(t *testing.T, h *host) {
			h.write(t, "/etc/exim4/conf.d/main/51_site", "acl_not_smtp = site_not_smtp\n")
			h.write(t, "/etc/exim4/conf.d/acl/50_site", "site_not_smtp:\n  accept\n")
		}, []string{"SLUICE_SITE_NOT_SMTP = its value"}, []string{
			`acl_not_smtp is "site_not_smtp"`, "SLUICE_SITE_NOT_SMTP = site_not_smtp",
		}, func(t *testing.T, h *host) {
			h.run(t, "rm", "/etc/exim4/conf.d/main/51_site")
			h.addMacros(t, "SLUICE_SITE_NOT_SMTP = site_not_smtp")
		}},
		{"a macro set too late", func(t *testing.T, h *host) {
			h.write(t, "/etc/exim4/conf.d/main/01_a_site", "MAIN_ACL_CHECK_DATA = acl_check_data\n")
		}, []string{"Move your MAIN_ACL_CHECK_RCPT and MAIN_ACL_CHECK_DATA to"}, nil, func(t *testing.T, h *host) {
			h.run(t, "mv", "/etc/exim4/conf.d/main/01_a_site", "/etc/exim4/conf.d/main/000_site")
		}},
		{"a router before ours", func(t *testing.T, h *host) {
			h.write(t, "/etc/exim4/conf.d/router/010_site", "site_first:\n  driver = accept\n  domains = nowhere.example\n  transport = remote_smtp\n")
		}, []string{`the first routers are "site_first sluice "`, "Rename the file"}, nil, func(t *testing.T, h *host) {
			h.run(t, "mv", "/etc/exim4/conf.d/router/010_site", "/etc/exim4/conf.d/router/110_site")
		}},
		{"an ACL that is set elsewhere", func(t *testing.T, h *host) {
			h.run(t, "sed", "-i", "s/^acl_smtp_data = .*/acl_smtp_data = acl_check_data/", "/etc/exim4/conf.d/main/02_exim4-config_options")
		}, []string{`acl_smtp_data is "acl_check_data"`, "SLUICE_SITE_DATA = acl_check_data"}, nil, func(t *testing.T, h *host) {
			h.run(t, "sed", "-i", "s/^acl_smtp_data = .*/acl_smtp_data = MAIN_ACL_CHECK_DATA/", "/etc/exim4/conf.d/main/02_exim4-config_options")
		}},
		{"a broken configuration", func(t *testing.T, h *host) {
			h.write(t, "/etc/exim4/conf.d/main/52_site", "no_such_option = 1\n")
		}, []string{"does not load as it is; mend that first", "no_such_option"}, nil, func(t *testing.T, h *host) {
			h.run(t, "rm", "/etc/exim4/conf.d/main/52_site")
		}},
		{"a foreign file of our name", func(t *testing.T, h *host) {
			h.write(t, "/etc/exim4/sluice.pl", "# foreign\n")
		}, []string{"/etc/exim4/sluice.pl exists, and it is not from Sluice"}, nil, func(t *testing.T, h *host) {
			h.run(t, "rm", "/etc/exim4/sluice.pl")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.prepare(t, h)
			if c.newer != nil && h.takesOptionsTwice(t) {
				c.says = c.newer
				h.run(t, "update-exim4.conf") // as the installer will have done when it finds that out
			}
			before := h.etc(t)
			out := h.install(t, 1)
			wantSays(t, out, c.says...)
			if n := strings.Count(out, "\n"); c.name == "a broken configuration" && n > 4 { // what Exim finds wrong, and not which libraries it has
				t.Errorf("it takes %d lines to say so:\n%s", n, out)
			}
			if diff := cmp.Diff(before, h.etc(t)); diff != "" {
				t.Errorf("a failed run changes something (-before +after):\n%s", diff)
			}
			c.mend(t, h)
		})
	}
	h.install(t, 0)
	r := h.respond(t, pass("100"))
	h.sendmail(t, alice, "", hosttest.Letter("x"), "x@far.example")
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 1 })
	if len(r.asked("local")) != 1 || len(r.asked("route")) != 1 {
		t.Errorf("asked %v", r.asked(""))
	}
}

// takesOptionsTwice tells whether Exim, as 4.100 does and 4.98 did not,
// says nothing of an option that is set twice.
func (h *host) takesOptionsTwice(t *testing.T) bool {
	t.Helper()
	h.write(t, "/run/twice.conf", "primary_hostname = a.example\nprimary_hostname = b.example\n")
	_, code := h.try(t, "exim4", "-bV", "-C", "/run/twice.conf")
	return code == 0
}

func TestInstallUsage(t *testing.T) {
	t.Parallel()
	h := newBareHost(t)
	wantSays(t, h.install(t, 0, "--help"), "Usage: sluice exim install", "Examples:")
	wantSays(t, h.install(t, 2, "--nonsense"), "unknown flag --nonsense")
	wantSays(t, h.install(t, 2, "--layout", "plesk"), `there is no layout "plesk", there are: debian single`)
	wantSays(t, h.install(t, 2, "--way", "milter"), `there is no way "milter", there are: perl tcp run`)
	wantSays(t, h.install(t, 1, "--layout", "single"), "Debian's configuration is split here. Use sluice exim install --layout debian.")
	wantSays(t, h.install(t, 2, "--file", "/etc/exim.conf"), "--file is of the layout single; here it is debian")
	if out, code := h.as(t, alice, "").try(t, "", h.sluice(t)[0], "exim", "install"); code != 1 || !strings.Contains(out, "only root") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// An update says nothing, and keeps what was said before.
func TestInstallRemembers(t *testing.T) {
	t.Parallel()
	h := newBareHostOf(t, "single", "tcp")
	out := h.install(t, 0, "--layout", "single", "--way", "tcp", "--file", "/etc/exim4/exim4.conf")
	wantSays(t, out, fmt.Sprintf("Sluice does not answer at 127.0.0.1:%d yet", h.tcpPort),
		fmt.Sprintf(`"tcp:127.0.0.1:%d"]`, h.tcpPort), "systemctl restart sluice")
	after := h.etc(t)
	p := h.startSluice(t, unlimited)
	if out := h.install(t, 0); strings.Contains(out, "put in") || strings.Contains(out, "does not answer") {
		t.Errorf("an update changes something:\n%s", out)
	}
	if diff := cmp.Diff(after, h.etc(t)); diff != "" {
		t.Errorf("an update changes something (-before +after):\n%s", diff)
	}
	p.stop(t, "TERM")
	wantSays(t, h.install(t, 0), "Sluice does not answer")
	wantSays(t, h.install(t, 2, "--layout", "debian"), "Sluice is here in the layout single; take it out first: sluice exim remove")
	wantSays(t, h.install(t, 2, "--file", "/etc/other.conf"), "Sluice is in /etc/exim4/exim4.conf; take it out first: sluice exim remove")
	h.install(t, 0, "--way", "run")
	wantSays(t, h.read("/etc/exim4/exim4.conf"), "SLUICE_RUN")
	if out := h.install(t, 0); strings.Contains(out, "put in") {
		t.Errorf("the way that was said last is not kept:\n%s", out)
	}
	h.install(t, 0, "remove")
}

// Each layout: in, again, out, and all is as it was. There and back to another way is
// tried where our files are whole ones and where they are blocks, and a run that
// fails where only the panel can tell; in `make soak` everything is tried everywhere.
// A second run on Debian's configuration is in TestInstallSavesChanges, and one that fails
// where Exim checks a stage in TestInstallExplains.
func TestInstallLayouts(t *testing.T) {
	t.Parallel()
	for layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			first := firstInstallation(t, layout, "perl")
			h := newHostOf(t, layout, "perl")
			out := first.out
			wantSays(t, out, "put in", "Exim's configuration now asks Sluice")
			if layout == "debian" {
				wantSays(t, out, "/etc/exim4/conf.d/main/00_sluice_macros put in", "/etc/exim4/sluice.pl put in", "systemctl reload exim4")
			}
			if got := h.run(t, "exim4", "-bP", "acl_not_smtp"); layout != "directadmin" && layout != "single" && got != "acl_not_smtp = acl_sluice_not_smtp\n" {
				t.Errorf("live configuration: %s", got)
			}
			debians := layout == "debian" || layout == "unsplit" // made by Debian's script, which takes its time
			if !debians || hosttest.Soak() {
				h.again(t)
			}
			if layout == "debian" || layout == "directadmin" || hosttest.Soak() {
				h.thereAndBack(t)
			}
			if layout == "cpanel" || hosttest.Soak() {
				h.breakSite(t, func(broken map[string]string) {
					h.install(t, 1)
					if diff := cmp.Diff(broken, h.etc(t)); diff != "" {
						t.Errorf("a failed run changes something (-before +after):\n%s", diff)
					}
				})
			}
			wantSays(t, h.install(t, 0, "remove"), "sluice.pl removed", "Sluice is out of Exim's configuration")
			if diff := cmp.Diff(first.before, h.etc(t)); diff != "" {
				t.Errorf("remove does not restore what was (-before +after):\n%s", diff)
			}
			wantSays(t, h.install(t, 0, "remove"), "nothing to remove")
		})
	}
}

// again has the installer run once more.
func (h *host) again(t *testing.T) {
	t.Helper()
	before := h.etc(t)
	out := h.install(t, 0)
	wantSays(t, out, "sluice.pl is up to date")
	if strings.Contains(out, "put in") {
		t.Errorf("a second run puts in again:\n%s", out)
	}
	if diff := cmp.Diff(before, h.etc(t)); diff != "" {
		t.Errorf("a second run changes something (-first +second):\n%s", diff)
	}
}

// thereAndBack changes the way to ask, and changes it back.
func (h *host) thereAndBack(t *testing.T) {
	t.Helper()
	before := h.etc(t)
	wantSays(t, h.install(t, 0, "--way", "tcp"), "/etc/sluice/token made", "sluice.pl removed")
	if out := h.run(t, "exim4", "-bP", "macros"); !strings.Contains(out, "${readsocket{inet:") {
		t.Errorf("Exim does not ask over TCP:\n%s", out)
	}
	h.run(t, "rm", "/etc/sluice/token")
	wantSays(t, h.install(t, 0, "--way", "perl"), "sluice.pl put in")
	if diff := cmp.Diff(before, h.etc(t)); diff != "" {
		t.Errorf("there and back changes something (-before +after):\n%s", diff)
	}
}

// breakSite breaks a configuration in a way that Exim notices only with us in
// it, and mends it after a test.
func (h *host) breakSite(t *testing.T, test func(broken map[string]string)) {
	t.Helper()
	macros := h.read("/etc/exim4/host_macros")
	h.write(t, "/etc/exim4/host_macros", macros+"SLUICE_ASK = x\nSLUICE_HOLD_RETRY = nonsense\n")
	test(h.etc(t))
	h.write(t, "/etc/exim4/host_macros", macros)
}

// An update whose questions the running sluice does not answer, because it is older, is
// taken back. (It answers those of before; here, the first of all.)
func TestUpdateComesAfterTheProgram(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	before := h.etc(t)
	var asked atomic.Int32
	h.serve(t, func(c net.Conn) {
		q, err := readQuestion(bufio.NewReader(c))
		if err != nil {
			return
		}
		reply := "action=DUNNO\nroom=1\n\n"
		if asked.Add(1) == 1 {
			reply = numberedAs(q, reply)
		}
		io.WriteString(c, reply)
	})
	wantSays(t, h.install(t, 1), "it is older", "Update it first", "everything is as it was before")
	if diff := cmp.Diff(before, h.etc(t)); diff != "" {
		t.Errorf("it has changed something (-before +after):\n%s", diff)
	}
}
