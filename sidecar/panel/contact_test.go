package panel

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/config"
)

// On a cPanel host its contacts are told of incidents, unless the file names somebody.
func TestContactsOfCPanelAreTold(t *testing.T) {
	for text, want := range map[string][]string{
		"ADDR 192.0.2.1\nCONTACTEMAIL ops@host.example\nCONTACTPAGER 1234\n":     {"ops@host.example"},
		"CONTACTEMAIL\tops@host.example\n":                                       {"ops@host.example"},
		"CONTACTEMAIL  ops@host.example, night@host.example\nHOST mx1.example\n": {"ops@host.example", "night@host.example"},
		"CONTACTEMAIL \n":                              {"root"},
		"CONTACTEMAIL |/bin/sh\n":                      {"root"},
		"CONTACTEMAIL a@host.example a@host.example\n": {"root"}, // one target twice is a mistake
		"": {"root"},
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+cpanelContacts, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c := config.Default()
		Assume(c, root)
		var got []string
		for _, to := range c.Alert.To {
			got = append(got, to.Target)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
		if file, err := config.Parse("f.toml", "[[alert.to]]\nmail = \"me\"\n"); err != nil {
			t.Fatal(err)
		} else if Assume(file, root); file.Alert.To[0].Target != "me" {
			t.Errorf("%q: told is %v, and the file says me", text, file.Alert.To)
		}
	}
}
