package eximconfig_test

import (
	"fmt"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// A host with a panel, set up by the commands of its page, with no file edited by hand:
//
//	/etc/sluice/sluice.toml of the package, in which nothing of Exim is said
//	   └─ serve, sluice exim install ─→ the panel's log, local domains, owners, a lock directory of our own ─→ doctor

// panelHost is a host with a panel's files below /run/panel, and Exim in the panel's layout.
func panelHost(t *testing.T, layout string, files map[string]string) *host {
	t.Helper()
	h := newBareHostOf(t, layout, "perl")
	for name, text := range files {
		h.write(t, "/run/panel"+name, text)
	}
	// Paths of the tests' host only: no lock directory, and the panel's files are not in /.
	h.write(t, "/etc/exim4/host_macros", strings.Replace(h.read("/etc/exim4/host_macros"), "SLUICE_LOCKS = "+lockDir+"\n", "", 1))
	h.write(t, "/run/sluice.toml", nobodyIsTold("")+"\n[store]\ndir = \"/run/sluice-store\"\n[panel]\nroot = \"/run/panel\"\n[exim]\nspool_directory = \"/var/spool/exim4\"\n")
	return h
}

// types types the first block of a page, as an operator does: but for what the machine of the tests
// has no package and no systemd for, which the test does itself, and doctor, which is asked until it is content.
func (h *host) types(t *testing.T, page string) (out string) {
	t.Helper()
	_, block, _ := strings.Cut(readFile(t, "../docs/"+page), "```\n")
	block, _, _ = strings.Cut(block, "```")
	h.script755(t, "/run/bin/sluice", "#!/bin/sh\nexec "+strings.Join(h.sluice(t), " ")+" \"$@\"\n")
	typed := 0
	for line := range strings.Lines(block) {
		switch line = strings.TrimSpace(line); line {
		case "rpm -i sluice-*.x86_64.rpm", "/usr/local/cpanel/scripts/restartsrv_exim", "systemctl restart exim", "sluice doctor":
		default:
			out += h.run(t, "sh", "-ec", "PATH=/run/bin:$PATH\n"+line)
			typed++
		}
	}
	if typed < 2 {
		t.Errorf("docs/%s has only %d commands to type", page, typed)
	}
	return out
}

// isSetUp starts sluice, has it put itself into Exim's configuration as the page says, and wants doctor
// to find nothing wrong.
func (h *host) isSetUp(t *testing.T, page, logsTo string) {
	t.Helper()
	h.run(t, "mkdir", "-p", "/run/panel"+strings.TrimSuffix(logsTo, logsTo[strings.LastIndex(logsTo, "/"):]), "/run/sluice")
	h.run(t, "ln", "-s", "/var/log/exim4/mainlog", "/run/panel"+logsTo) // where Debian's Exim logs
	h.start(t, h.sluice(t, "serve")...)
	hosttest.Eventually(t, "sluice answers", func() bool { _, code := h.try(t, h.sluice(t, "status")...); return code == 0 })
	wantSays(t, h.types(t, page), "Limits are watched: nobody is refused", "To enforce them: sluice unset default mode")
	h.startExim(t)
	c := h.dial(t).Login("news@here.example")
	c.Want(c.Send("news@here.example", hosttest.Letter("x"), "customer@far.example"), 250)
	var found []finding // sluice looks every second whether there is a log now
	hosttest.EventuallyOr(t, func() string { return fmt.Sprintf("doctor finds nothing wrong; it finds %+v", found) }, func() bool {
		var code int
		found, code = h.doctor(t)
		return code == 0
	})
}

func TestCPanelIsSetUpWithoutAnEdit(t *testing.T) {
	t.Parallel()
	h := panelHost(t, "cpanel", map[string]string{
		"/var/cpanel/cpanel.config": "maxemailsperhour=500\nemail_send_limits_max_defer_fail_percentage=25\n",
		"/etc/userdomains":          "here.example: alice\nalso.example: bob\n",
		"/etc/trueuserdomains":      "here.example: alice\nalso.example: bob\n",
		"/etc/localdomains":         "here.example\nalso.example\n",
	})
	h.run(t, "install", "-d", "-m", "755", "/run/panel/var/cpanel/sluice", "/run/panel/var/cpanel/sluice/email_send_limits")
	h.isSetUp(t, "cpanel.md", "/var/log/exim_mainlog")
}

func TestDirectAdminIsSetUpWithoutAnEdit(t *testing.T) {
	t.Parallel()
	h := panelHost(t, "directadmin", map[string]string{
		"/usr/local/directadmin/conf/directadmin.conf": "",
		"/etc/virtual/domainowners":                    "here.example: alice\nalso.example: bob\n",
		"/etc/virtual/domains":                         "here.example\nalso.example\n",
	})
	h.write(t, "/run/sluice.toml", h.read("/run/sluice.toml")+"[locks]\ndir = \""+lockDir+"\"\n") // that of the package is the machine's
	h.isSetUp(t, "directadmin.md", "/var/log/exim/mainlog")
}
