package eximconfig_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A new password instead of a suspended login, by the answers recorded of cPanel, or by a program of
// the operator's that can set none:
//
//	sluice clean --new-password ─→ uapi Email passwd_pop
//	                            ─→ /etc/sluice/adapters/site: exit 3 ─→ suspend-login
func TestCleanWithANewPassword(t *testing.T) {
	t.Parallel()
	h := newBareHost(t)
	for _, name := range []string{"list_pops", "passwd_pop"} {
		text, err := os.ReadFile(filepath.Join("../sidecar/login/testdata/cpanel", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		h.write(t, "/run/"+name+".json", string(text))
	}
	h.script755(t, "/usr/local/cpanel/bin/uapi", "echo \"$*\" >>/run/called\ncat /run/$4.json\n")
	h.write(t, "/etc/userdomains", "example.com: bob\n")
	config := "alert.to = []\n" + fmt.Sprintf(sluiceConfig, "") + quarantineConfig
	h.write(t, "/run/sluice.toml", config)

	out, code := h.try(t, h.sluice(t, "clean", "hacked@example.com", "--only", "login", "--new-password", "--yes")...)
	shown := regexp.MustCompile(`the new password of hacked@example.com, which is shown only now: ([A-Za-z0-9]{20})\n`).FindStringSubmatch(out)
	if code != 0 && !strings.Contains(out, "sessions in which mail is read may go on") || shown == nil || strings.Count(out, shown[1]) != 1 {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	if called := h.read("/run/called"); !strings.Contains(called, "--user=bob Email passwd_pop email=hacked@example.com password="+shown[1]+"\n") || strings.Contains(called, "suspend_login") {
		t.Errorf("called was\n%s", called)
	}
	actions := h.run(t, h.sluice(t, "actions", "--json")...)
	record := h.run(t, "sh", "-c", "cat /var/lib/sluice-actions/*")
	if strings.Contains(actions+record, shown[1]) || !strings.Contains(actions, "hacked@example.com") {
		t.Errorf("on record is\n%s\n%s", actions, record)
	}
	if out, code := h.try(t, h.sluice(t, "undo", "1")...); code != 1 || !strings.Contains(out, "cannot be taken back") {
		t.Errorf("undo: exit %d\n%s", code, out)
	}

	// Enter is not yes: it cannot be taken back.
	if out, code := h.root().try(t, "\n", h.sluice(t, "clean", "hacked@example.com", "--only", "login", "--new-password")...); code != 2 || !strings.Contains(out, "[y/N/steps]") {
		t.Errorf("Enter: exit %d\n%s", code, out)
	}

	h.script755(t, "/etc/sluice/adapters/site", `case $(cat) in
*'"set-password"'*) exit 3 ;;
*'"suspend-login"'*) echo yes >/run/suspended; echo {} ;;
*'"resume-login"'*) rm /run/suspended; echo {} ;;
*'"state"'*) if test -e /run/suspended; then echo '{"state":"suspended"}'; else echo '{"state":"active"}'; fi ;;
*) echo {} ;;
esac
`)
	h.write(t, "/run/sluice.toml", strings.Replace(config, "[panel]\n", "[clean]\nadapter = \"site\"\n[panel]\n", 1))
	out, code = h.try(t, h.sluice(t, "clean", "hacked@example.com", "--only", "login", "--new-password", "--yes")...)
	if code != 1 || !strings.Contains(out, "login: the login hacked@example.com is suspended (site)") || !strings.Contains(out, "left: a new password, which site cannot set") {
		t.Errorf("where none can be set: exit %d\n%s", code, out)
	}
	undo := regexp.MustCompile(`Undo: sluice undo (\S+)`).FindStringSubmatch(out)[1]
	if out, code = h.try(t, h.sluice(t, "undo", undo)...); code != 0 || strings.Contains(out, "stays as it is") || h.read("/run/suspended") != "" {
		t.Errorf("undo: exit %d\n%s", code, out)
	}
}
