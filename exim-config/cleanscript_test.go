package eximconfig_test

import (
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// A PHP script sends; it is found by its directory and its header, stopped, disabled, and
// taken back:
//
//	php mailer.php ─→ sendmail ─→ Exim ─→ sluice ← clean, undo
//	      └─ its permissions ← clean, undo
func TestCleanDisablesAPHPScript(t *testing.T) {
	t.Parallel()
	hosttest.Program(t, "php")
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 100")
	const dir = "/run/home/alice/public_html/wp"
	h.run(t, "install", "-d", "-o", "2001", "-g", "2001", "/run/home/alice/public_html", dir)
	h.write(t, dir+"/mailer.php", `<?php exit(mail("r@far.example", "spam", "buy", "From: news@shop.example") ? 0 : 1);`)
	h.run(t, "chown", "2001:2001", dir+"/mailer.php")
	send := func() (string, int) {
		return h.as(t, alice, "public_html/wp").try(t, "", "php", "-d", "mail.add_x_header=1", "mailer.php")
	}
	sluice := func(code int, text string, args ...string) {
		t.Helper()
		out, got := h.try(t, h.sluice(t, append(args, "--actions", "/run/actions")...)...)
		if got != code || !strings.Contains(out, text) {
			t.Fatalf("sluice %s: exit %d, want %d and %q:\n%s", args, got, code, text, out)
		}
	}
	if out, code := send(); code != 0 {
		t.Fatalf("the script: exit %d: %s", code, out)
	}
	hosttest.Eventually(t, "its mail is delivered", func() bool { return h.sink.Count() == 1 })

	const author = "script:" + dir
	sluice(0, "disable "+dir+"/mailer.php of alice", "clean", author, "--only", "stop,script", "--dry-run")
	sluice(0, dir+"/mailer.php is disabled", "clean", author, "--only", "stop,script", "--yes")
	if out, code := send(); code == 0 {
		t.Errorf("the script runs: %s", out)
	}
	sluice(0, "is disabled already", "clean", author, "--only", "stop,script", "--yes")

	sluice(0, "to take it back: sluice undo ", "undo", "1")
	if out, code := send(); code == 0 {
		t.Errorf("the undo of all of it has enabled the script: %s", out)
	}
	sluice(0, "has its mode", "undo", "3")
	if out, code := send(); code != 0 {
		t.Errorf("the script, enabled again: exit %d: %s", code, out)
	}
	hosttest.Eventually(t, "its mail is delivered again", func() bool { return h.sink.Count() == 2 })
}
