package panel

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"sluice/sidecar/config"
)

// What a package of RHEL's kind has as sluice.toml leaves to cPanel where Exim logs, what is local, and
// which lock directory is not cPanel's own.
func TestThePackagesConfigurationOnCPanel(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{"/var/cpanel/cpanel.config", "/etc/userdomains"} {
		if err := os.MkdirAll(filepath.Dir(root+file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("../../docs/sluice.toml")
	if err != nil {
		t.Fatal(err)
	}
	// As packaging/build makes it of that.
	text = regexp.MustCompile(`(?m)^(local_domains|mainlog) = `).ReplaceAll(text, []byte("# $0"))
	file := filepath.Join(t.TempDir(), "sluice.toml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	Assume(c, root)
	if c.Locks.Dir != root+cpanelLocks || c.Exim.Mainlog != root+"/var/log/exim_mainlog" || !slices.Equal(c.Exim.LocalDomains, []string{root + "/etc/localdomains"}) {
		t.Errorf("locks in %s, log %s, local %q", c.Locks.Dir, c.Exim.Mainlog, c.Exim.LocalDomains)
	}
}
