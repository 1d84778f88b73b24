package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// The package, on a machine that systemd has booted:
//
//	dpkg -i ─→ serve runs ─→ sluice exim install ─→ a limit trips ─→ reboot ─→ a newer package ─→ remove, purge
//	                                                                           all counts and the operator's file are kept
//	in the end Exim's files are as they were, byte for byte, and nothing is left
//
// An older "make install" was there before.

// makePackage builds the .deb of a version, where the machine sees it.
func makePackage(t *testing.T, version string) (onMachine string) {
	t.Helper()
	buildPackage(t, version, "deb")
	return "/root/sluice/bin/packages/sluice_" + version + "-1_amd64.deb"
}

// buildPackage builds a package of a version in bin/packages.
func buildPackage(t *testing.T, version, packager string) {
	t.Helper()
	cmd := exec.Command("packaging/build", version, "bin/packages")
	cmd.Env = append(os.Environ(), "ARCHS=amd64", "PACKAGERS="+packager, "SOURCE_DATE_EPOCH=1796000000", "MAINTAINER=Sluice <sluice@far.example>")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the package: %v\n%s", err, out)
	}
}

const eximsFiles = "find /etc/exim4 -type f | sort | xargs sha256sum"

func TestPackage(t *testing.T) {
	t.Parallel()
	hosttest.Program(t, "dpkg-deb")
	older, newer := makePackage(t, "1.0.0"), makePackage(t, "1.1.0")
	o := &newcomer{bootMachine(t), nil}
	o.run(t, site)
	o.run(t, "apt-get install exim4-daemon-heavy")
	o.run(t, relay)
	o.run(t, "install -D -m 0644 cmd/sluice/systemd/sluice.service /etc/systemd/system/sluice.service") // of an earlier make install
	before := o.run(t, eximsFiles)

	said := o.run(t, "dpkg -i "+older+" </dev/null")
	for _, text := range []string{"/etc/systemd/system/sluice.service is now in /var/lib/sluice/units-of-make-install", "sluice exim install"} {
		if !strings.Contains(said, text) {
			t.Errorf("the package does not say %q:\n%s", text, said)
		}
	}
	if diff := o.run(t, eximsFiles); diff != before {
		t.Error("the package touches Exim's files by itself")
	}
	o.run(t, "systemctl is-enabled sluice && man -w sluice sluice.toml >/dev/null || test ! -e /usr/bin/man")
	o.trips(t)
	o.reboot(t)
	o.listens(t, "2525")
	o.refused(t, "Domain example.com has exceeded")

	o.run(t, "echo '# the operator was here' >>/etc/sluice/sluice.toml")
	sent := o.status(t, "example.com").Sent
	o.run(t, "dpkg --force-confold -i "+newer+" </dev/null")
	if out := o.run(t, "sluice version --running"); !strings.Contains(out, "sluice 1.1.0") {
		t.Errorf("after the update runs %s", out)
	}
	if after := o.status(t, "example.com").Sent; after != sent || sent == 0 {
		t.Errorf("%d were counted before the update, %d after it", sent, after)
	}
	o.run(t, "grep -q 'the operator was here' /etc/sluice/sluice.toml")
	o.run(t, "sluice config --running | grep -q '# exim: domainlist local_domains'") // asked from its confined unit
	o.refused(t, "Domain example.com has exceeded")
	o.goes(t, before)
}

// trips has Exim ask, and a domain reach its limit.
func (o *newcomer) trips(t *testing.T) {
	t.Helper()
	o.run(t, "sluice set default mode=watch")
	if out := o.run(t, "sluice exim install && systemctl reload exim4"); !strings.Contains(out, "To enforce them: sluice unset default mode") {
		t.Errorf("it does not say what happens now:\n%s", out)
	}
	o.run(t, "sluice unset default mode && sluice set example.com hourly=2 over_limit=defer")
	hosttest.Eventually(t, "Exim asks", func() bool {
		return o.mail(t, "secret", "news@example.com", "customer@far.example") != nil
	})
	o.refused(t, "Domain example.com has exceeded")
}

// goes takes the package out again.
func (o *newcomer) goes(t *testing.T, before string) {
	t.Helper()
	o.run(t, "cp -p /etc/sluice/sluice.toml /root/good && echo = >>/etc/sluice/sluice.toml") // also where no command of sluice works
	if out, code := o.try(t, "dpkg -r sluice </dev/null"); code == 0 || !strings.Contains(out, "sluice exim remove") {
		t.Errorf("it goes while Exim still has it, exit %d:\n%s", code, out)
	}
	o.run(t, "mv /root/good /etc/sluice/sluice.toml")
	o.run(t, "sluice exim remove && systemctl reload exim4 && dpkg -r sluice </dev/null && dpkg --purge sluice </dev/null")
	if diff := o.run(t, eximsFiles); diff != before {
		t.Errorf("Exim's files are not as before:\n%s\nbefore:\n%s", diff, before)
	}
	o.passes(t)
	o.run(t, "test ! -e /var/cpanel")
	left := "find /usr /etc /run /var -iname '*sluice*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/var/cache/*' -not -path '/usr/local/go*'\nsystemctl list-unit-files --no-legend 'sluice*' || true"
	if out := o.run(t, left); out != "" {
		t.Errorf("left is\n%s", out)
	}
}

// The same tree gives the same package, to the byte.
func TestPackagesAreReproducible(t *testing.T) {
	t.Parallel()
	if !hosttest.Soak() {
		t.Skip("builds a package twice: in make soak")
	}
	file := filepath.Join("../..", strings.TrimPrefix(makePackage(t, "1.2.3"), "/root/sluice/"))
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	makePackage(t, "1.2.3")
	if second, err := os.ReadFile(file); err != nil || string(first) != string(second) {
		t.Errorf("the second package is another one: %v", err)
	}
}
