package eximconfig_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// layouts are the shapes that Exim's configuration has, and how a host gets it.
// In each here.example is local, with the aliases of siteAliases; anybody may
// log in with the password "secret"; and the file sinks routes remote mail.
var layouts = map[string]func(*host, testing.TB){
	"debian":      (*host).configureSite,
	"unsplit":     (*host).configureUnsplit,
	"single":      (*host).configureSingle,
	"cpanel":      (*host).configureCPanel,
	"directadmin": (*host).configureDirectAdmin,
}

// configureUnsplit makes Debian's other configuration that of a site.
func (h *host) configureUnsplit(t testing.TB) {
	h.configureDebian(t, "false")
	h.write(t, "/etc/exim4/exim4.conf.localmacros", siteMacros)
	h.write(t, "/etc/exim4/site_data_acl", siteDataACL)
	template := "/etc/exim4/exim4.conf.template"
	text := strings.Replace(h.read(template), "\nbegin routers\n", "\nbegin routers\n"+siteRouter, 1)
	text = strings.Replace(text, "\nbegin authenticators\n", "\nbegin authenticators\n"+siteAuth, 1)
	h.write(t, template, text)
	h.run(t, "update-exim4.conf")
}

func (h *host) configureSingle(t testing.TB) {
	h.write(t, "/etc/exim4/exim4.conf", testdata(t, "exim-single/exim.conf"))
	h.listServer(t)
}

func (h *host) configureCPanel(t testing.TB) {
	h.write(t, "/etc/exim4/exim4.conf", ".include /etc/exim.conf\n")
	h.write(t, "/usr/local/cpanel/etc/exim/distconfig/exim.conf.dist", testdata(t, "exim-cpanel/exim.conf.dist"))
	build := "/usr/local/cpanel/scripts/buildeximconf"
	h.script755(t, build, testdata(t, "exim-cpanel/buildeximconf"))
	h.write(t, "/etc/exim.pl.local", testdata(t, "exim-cpanel/exim.pl.local"))
	h.write(t, "/etc/exim.conf.local", "@AUTH@\n\n@BEGINACL@\n\n@CONFIG@\nmessage_logs = false\n\n@ROUTERSTART@\n\n@RETRYSTART@\n")
	h.write(t, "/etc/localdomains", "here.example\nalso.example\n")
	h.write(t, "/etc/valiases/here.example", qualified(siteAliases))
	h.listServer(t)
	h.run(t, build)
}

func (h *host) configureDirectAdmin(t testing.TB) {
	h.write(t, "/etc/exim4/exim4.conf", ".include /etc/exim.conf\n")
	h.write(t, "/etc/exim.conf", testdata(t, "exim-directadmin/exim.conf"))
	h.write(t, "/etc/exim.pl", testdata(t, "exim-directadmin/exim.pl"))
	h.write(t, "/etc/exim.acl_check_recipient.pre.conf", "  deny  recipients = nobody@far.example\n        message    = the site does not like this\n")
	h.write(t, "/etc/virtual/domains", "here.example\nalso.example\n")
	h.write(t, "/etc/virtual/here.example/aliases", siteAliases)
	h.listServer(t)
	h.run(t, "mkdir", "-p", "/usr/local/directadmin")
}

// listServer is list software: it sends what it gets to each subscriber, with
// a sender of its own.
func (h *host) listServer(t testing.TB) {
	h.script755(t, "/etc/exim4/listserv",
		"#!/bin/sh\nexec /usr/sbin/sendmail -oi -f list-bounces@here.example s1@far.example s2@far.example\n")
}

func (h *host) script755(t testing.TB, path, text string) {
	t.Helper()
	h.write(t, path, text)
	if err := os.Chmod(h.path(path), 0o755); err != nil {
		t.Fatal(err)
	}
}

// qualified are aliases with the domain in each name.
func qualified(aliases string) string {
	var b strings.Builder
	for line := range strings.Lines(aliases) {
		if name, to, ok := strings.Cut(line, ":"); ok {
			fmt.Fprintf(&b, "%s@here.example:%s", name, to)
		}
	}
	return b.String()
}

// testdata is the content of a file of the repository's testdata.
func testdata(t testing.TB, name string) string {
	t.Helper()
	return readFile(t, filepath.Join("..", "testdata", name))
}
