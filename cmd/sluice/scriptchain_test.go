package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// What a scan finds is disabled by the command that it prints, as it stands there, and is taken back
// by the one that this prints, whatever the tenant has called the file:
//
//	sluice script scan ─→ "to disable it: ..." ─→ sh ─→ "to take it back: ..." ─→ sh
//	php-fpm, opcache: runs it ───────────────────→ no more ─────────────────────→ runs it again
func TestFromTheFindingToItsUndo(t *testing.T) {
	t.Parallel()
	hosttest.Program(t, "clamscan")
	h := newTenantHome(t)
	php := hosttest.StartPHP(t, tenantUID)
	db := t.TempDir()
	writeFile(t, db+"/own.ndb", fmt.Sprintf("Php.Mailer:0:*:%x\n", "it sends"))
	if err := os.Chmod(db, 0o755); err != nil {
		t.Fatal(err)
	}
	bad := h.file("wp/-rf it's $(touch pwned) \"a+b\".php", `<?php echo opcache_is_script_cached(__FILE__) ? "it sends from the cache" : "it sends";`)
	hosttest.EventuallyOr(t, func() string { return "PHP caches it: " + php.Run(bad) }, func() bool { return strings.Contains(php.Run(bad), "it sends from the cache") })

	out := h.wants(exitNo, "Php.Mailer.UNOFFICIAL", "scan", h.home+"/wp", "--database", db, "--clamd", h.dir+"/missing")
	disable := typedIn(t, out, "to disable it: ")
	out, code := h.act(t, append(disable, "--watch", "0", "--passwd", h.dir+"/passwd")...)
	if code != exitDone {
		t.Fatalf("%q: exit %d\n%s", disable, code, out)
	}
	h.hasMode(bad, 0)
	hosttest.EventuallyOr(t, func() string { return "PHP runs it still: " + php.Run(bad) }, func() bool { return !strings.Contains(php.Run(bad), "it sends") })

	undo := typedIn(t, out, "to take it back: ")
	h.wantUndo(t, exitDone, "has its mode 0644 again", undo[1:]...)
	h.hasMode(bad, 0o644)
	hosttest.EventuallyOr(t, func() string { return "PHP runs it again: " + php.Run(bad) }, func() bool { return strings.Contains(php.Run(bad), "it sends") })
}

// typedIn is what sluice is called with by the command behind a text, as a shell understands it.
func typedIn(t *testing.T, out, text string) []string {
	t.Helper()
	found := regexp.MustCompile(regexp.QuoteMeta(text) + "sluice (.*)").FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("%q is not in\n%s", text, out)
	}
	typed, err := exec.Command("sh", "-c", `sluice() { printf '%s\0' "$@"; }; sluice `+found[1]).Output()
	if err != nil {
		t.Fatalf("sh: %v: %s", err, found[1])
	}
	return strings.Split(strings.TrimSuffix(string(typed), "\x00"), "\x00")
}
