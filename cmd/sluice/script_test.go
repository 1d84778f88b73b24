package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/scan"
)

// tenantUID is a uid of nobody on this host.
const tenantUID = 47130

// A tenantHome is the home of an account bob on a node that serves.
type tenantHome struct {
	*servedNode
	t    *testing.T
	home string
	node *node // where a test opens it itself
}

func newTenantHome(t *testing.T) *tenantHome {
	hosttest.Root(t)
	dir := hosttest.OpenDir(t)
	h := &tenantHome{servedNode: startServe(t, dir), t: t, home: dir + "/home/bob"}
	err := errors.Join(os.MkdirAll(h.home+"/wp", 0o755), os.Chown(h.home, tenantUID, tenantUID))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/passwd", fmt.Sprintf("bob:x:%d:%d::%s:/bin/sh\n", tenantUID, tenantUID, h.home))
	return h
}

// file writes a file of the tenant's.
func (h *tenantHome) file(rel, text string) string {
	h.t.Helper()
	path := filepath.Join(h.home, rel)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chown(path, tenantUID, tenantUID)); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// wants runs a command about scripts, and fails unless it ends with a code, and prints a text.
func (h *tenantHome) wants(code int, text string, args ...string) string {
	h.t.Helper()
	out, got := h.act(h.t, append([]string{"script", "--passwd", h.dir + "/passwd"}, args...)...)
	if got != code || !strings.Contains(out, text) {
		h.t.Errorf("script %q: exit %d, want %d and %q:\n%s", args, got, code, text, out)
	}
	return out
}

func (h *tenantHome) hasMode(path string, want os.FileMode) {
	h.t.Helper()
	if info, err := os.Stat(path); err != nil || info.Mode() != want {
		h.t.Errorf("%q has %v, %v; want %v", path, info, err, want)
	}
}

func TestAScriptIsDisabledAndTakenBack(t *testing.T) {
	t.Parallel()
	h := newTenantHome(t)
	path := h.file("wp/mailer.php", "<?php mail();")
	h.wants(exitDone, "would be disabled", "disable", path, "--dry-run")
	h.hasMode(path, 0o644)
	out := h.wants(exitDone, "0 attempts since ", "disable", path, "--watch", "1s")
	for _, text := range []string{"is disabled; its mode was 0644. PHP notices within ", "to take it back: sluice undo mx1.example:1", "by script:" + h.home + "/wp"} {
		if !strings.Contains(out, text) {
			t.Errorf("%q is not in:\n%s", text, out)
		}
	}
	h.hasMode(path, 0)
	h.wantUndo(t, exitDone, path+" has its mode 0644 again", "mx1.example:1")
	h.hasMode(path, 0o644)
	h.wants(exitNo, "not disabled by sluice", "enable", path)

	h.wants(exitDone, "", "disable", path, "--watch", "0")
	h.wants(exitDone, "as it was", "enable", path)
	h.hasMode(path, 0o644)
	h.wantUndo(t, exitNo, "already", "3")

	h.wants(exitDone, "", "disable", path, "--watch", "0")
	if err := os.WriteFile(path, []byte("<?php another();"), 0); err != nil {
		t.Fatal(err)
	}
	h.wantUndo(t, exitNo, "its content is another one", "5")
	h.hasMode(path, 0)
}

// Of a file that was enabled by others and disabled again, only the last action is taken back: also
// where the file has two names.
func TestAScriptThatIsDisabledAgain(t *testing.T) {
	t.Parallel()
	h := newTenantHome(t)
	path := h.file("x.php", "<?php mail();")
	second := h.home + "/wp/y.php"
	if err := os.Link(path, second); err != nil {
		t.Fatal(err)
	}
	h.wants(exitDone, "", "disable", path, "--watch", "0")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	h.wants(exitDone, "", "disable", second, "--watch", "0", "--why", "police")
	h.wantUndo(t, exitNo, "changed since: action 2 (disable-script "+second+") has disabled it again", "1")
	h.wants(exitNo, "has disabled it again", "enable", path)
	h.hasMode(path, 0)
	h.wantUndo(t, exitDone, second+" has its mode 0644 again", "2")
	h.hasMode(path, 0o644)
}

func TestWhatScriptDisableRefuses(t *testing.T) {
	t.Parallel()
	h := newTenantHome(t)
	h.file("index.php", "<?php")
	h.file("wp/a.php", "<?php echo 1;")
	h.wants(exitError, "--force", "disable", h.home+"/index.php")
	h.wants(exitError, "home of no account", "disable", "/etc/passwd")
	h.wants(exitError, "--watch", "disable", h.home+"/index.php", "--watch", "-1s")
	h.wants(exitNo, "0 files in it have changed", "disable", h.home)
	odd := h.file("wp/two\nlines \x1b[2J.php", "<?php mail();")
	quoted := `'"` + h.home + `/wp/two\nlines \x1b[2J.php"'`
	h.wants(exitNo, "sluice script disable "+quoted, "disable", h.home+"/wp")
	h.wants(exitDone, `two\nlines \x1b[2J.php`, "disable", strings.Trim(quoted, "'"), "--watch", "0")
	h.hasMode(odd, 0)
	h.wants(exitDone, "", "enable", odd)
	h.hasMode(odd, 0o644)
}

// An author that goes on although the script is disabled is named with how much it has tried.
func TestAScriptThatStillSends(t *testing.T) {
	t.Parallel()
	h := newTenantHome(t)
	path := h.file("x.php", "<?php mail();")
	var out string
	done := make(chan struct{})
	go func() {
		defer close(done)
		out = h.wants(exitNo, "still sending: ", "disable", path, "--author", "news@example.com", "--watch", hosttest.Deadline(2*time.Second).String(), "--json")
	}()
	for i := 0; ; i++ {
		select {
		case <-done:
		case <-time.After(10 * time.Millisecond):
			h.send(t, i)
			continue
		}
		break
	}
	report, _, _ := strings.Cut(out, "\nsluice: ")
	var d scriptDisabled
	if err := json.Unmarshal([]byte(report), &d); err != nil || d.Attempts == nil || *d.Attempts == 0 || string(d.File.Path) != path || d.Action != 1 {
		t.Errorf("%+v, %v of:\n%s", d, err, out)
	}
}

func TestAScriptWhereNobodyIsAsked(t *testing.T) {
	t.Parallel()
	h := newTenantHome(t)
	path := h.file("x.php", "<?php mail();")
	h.stop()
	h.wants(exitDone, "not known whether the author still sends", "disable", path)
	h.hasMode(path, 0)
	h.wants(exitDone, "", "enable", path)
}

func TestAScanOfAHome(t *testing.T) {
	t.Parallel()
	h := newTenantHome(t)
	hosttest.Program(t, "clamscan")
	db := h.dir + "/db"
	if err := os.Mkdir(db, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, db+"/own.ndb", fmt.Sprintf("Php.Mailer:0:*:%x\n", "test mailer"))
	scan := func(code int, text string) {
		h.wants(code, text, "scan", h.home, "--database", db, "--clamd", h.dir+"/missing")
	}
	h.file("good.php", "<?php echo 1;")
	scan(exitDone, "0 files have malware")
	bad := h.file("wp/bad.php", "<?php // test mailer")
	scan(exitNo, bad+": Php.Mailer.UNOFFICIAL\n  to disable it: sluice script disable "+bad)
	h.hasMode(bad, 0o644)
	db += "/missing"
	scan(exitError, "clamscan as bob")
}

// Where not all was scanned, nothing found does not say that there is nothing.
func TestAScanThatEndsTooEarly(t *testing.T) {
	killed := fmt.Errorf("clamscan: %w", scan.ErrKilled)
	for name, c := range map[string]struct {
		report scan.Report
		err    error
		shows  string
		want   int
	}{
		"killed":     {scan.Report{Interrupted: killed.Error()}, killed, "not all was scanned: clamscan: something has killed it", exitNo},
		"too long":   {scan.Report{Interrupted: "it has taken 15m0s"}, nil, "not all was scanned: it has taken 15m0s", exitNo},
		"not at all": {scan.Report{Interrupted: "exit status 2"}, errors.New("exit status 2"), "", exitError},
	} {
		out := &strings.Builder{}
		root := &terminal{stdout: newScreen(out), stderr: newScreen(out)}
		err := scriptScanCmd{Dir: "/home/bob"}.end(root, c.report, c.err)
		if err == nil || exitCode(err) != c.want || !strings.Contains(out.String(), c.shows) || c.shows == "" && out.String() != "" {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if err := (scriptScanCmd{}).end(&terminal{stdout: newScreen(io.Discard)}, scan.Report{}, nil); err != nil {
		t.Error(err)
	}
}
