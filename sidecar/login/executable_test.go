package login

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
)

// plesk is a host with one program of the operator's.
func plesk(t *testing.T, text string) (h Host, path string) {
	t.Helper()
	hosttest.NotShort(t)
	h = Host{Root: t.TempDir()}
	path = h.path(adapterDir, "plesk")
	script(t, path, text)
	return h, path
}

var hacked = Login{"hacked@example.com", "bob"}

func TestAnExecutableReadsAndPrintsJSON(t *testing.T) {
	h, _ := plesk(t, `
cat >"$0.read"
{ pwd; umask; id -u; env | grep -c SLUICE_; } >"$0.saw"
echo '{"state":"suspended"}'`)
	t.Setenv("SLUICE_SECRET", "x")
	names := []string{"a+b@example.com", "a b@example.com", `o'n"e\il@example.com`, "two\nlines@example.com", "$(reboot)`reboot`", "-rf", strings.Repeat("x", 300)}
	for _, name := range names {
		l := Login{name, "bob"}
		wantState(t, adapterOf(t, h), l, Suspended)
		text, err := os.ReadFile(h.path(adapterDir, "plesk.read"))
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(h.path(adapterDir, "plesk.read"))
		var q question
		if err := json.Unmarshal(text, &q); err != nil {
			t.Fatalf("it has read %q: %v", text, err)
		}
		if diff := cmp.Diff(question{Version: 1, Verb: "state", Login: l}, q); diff != "" {
			t.Error(diff)
		}
		saw, _ := os.ReadFile(h.path(adapterDir, "plesk.saw"))
		os.Remove(h.path(adapterDir, "plesk.saw"))
		if lines := strings.Fields(string(saw)); len(lines) != 4 || lines[0] != "/" || lines[1] != "0077" || lines[3] != "0" {
			t.Errorf("directory, umask, uid and our own variables: %q", lines)
		}
	}
}

func TestHowAnExecutableEnds(t *testing.T) {
	for text, want := range map[string]string{
		"head -c 9000 /dev/zero >&2; exit 1": "refused",
		"exit 0":                             "the state \"\"",
		`echo '{"text":"ask the \u001b owner"}'; exit 1`: `refused: ask the \u001b owner`,
		"echo no such mailbox >&2; exit 1":               "refused: no such mailbox",
		"exit 3":                                         "not supported",
		"echo broken >&2; exit 2":                        "exit code 2: broken",
		"exit 127":                                       "exit code 127",
		"echo hello":                                     "no JSON object",
		`echo '{"state":"gone"}'`:                        `the state "gone"`,
		`echo '{"state":"active"} {"state":"suspended"}'`: "no JSON object",
		"kill -TERM $$": "signal: terminated",
		"exec yes":      "printed too much",
		"while :; do echo '{\"state\":\"active\"}'; done":   "printed too much",
		"head -c 65537 /dev/zero":                           "printed too much",
		"sleep 300 & exec 1>&-; exit 1":                     "refused",
		"(trap '' TERM HUP; sleep 300) & echo '{}'; exit 1": "refused",
	} {
		h, _ := plesk(t, text)
		if got, err := adapterOf(t, h).State(t.Context(), hacked); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
	}
}

// A program that hangs is ended with all that it has started.
func TestAnExecutableHangs(t *testing.T) {
	h, path := plesk(t, `
trap '' TERM HUP INT
sleep 300 &
echo $! >"$0.child"
mv "$0.child" "$0.started"
while :; do sleep 1; done`)
	a := adapterOf(t, h)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := make(chan error, 1)
	go func() { gone <- a.Suspend(ctx, hacked) }()
	var child int
	hosttest.Eventually(t, "it runs", func() bool {
		text, err := os.ReadFile(path + ".started")
		if err == nil {
			err = json.Unmarshal(text, &child)
		}
		return err == nil
	})
	cancel(errors.New("it did not end in time"))
	if err := <-gone; err == nil || !strings.Contains(err.Error(), "it did not end in time") {
		t.Errorf("it ended with %v", err)
	}
	hosttest.Eventually(t, "its child has gone", func() bool {
		stat, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(itoa(child)), "stat"))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestWhatOthersCouldHaveWrittenIsNotRun(t *testing.T) {
	for what, change := range map[string]func(h Host, path string) error{
		"others may write it":    func(h Host, path string) error { return os.Chmod(path, 0o757) },
		"its group may write it": func(h Host, path string) error { return os.Chmod(path, 0o775) },
		"its directory":          func(h Host, path string) error { return os.Chmod(filepath.Dir(path), 0o777) },
		"a directory above":      func(h Host, path string) error { return os.Chmod(h.path("/etc"), 0o1777) },
		"it cannot be executed":  func(h Host, path string) error { return os.Chmod(path, 0o644) },
		"a symbolic link": func(h Host, path string) error {
			return errors.Join(os.Rename(path, path+"2"), os.Symlink(path+"2", path))
		},
		"a directory": func(h Host, path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
		"a FIFO":      func(h Host, path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o755)) },
		"a link as directory": func(h Host, path string) error {
			return errors.Join(os.Rename(h.path("/etc"), h.path("/e")), os.Symlink("e", h.path("/etc")))
		},
		"it belongs to somebody else": func(h Host, path string) error { return os.Chown(path, 65534, -1) },
	} {
		h, path := plesk(t, `echo '{"state":"active"}'`)
		a := adapterOf(t, h)
		if err := change(h, path); err != nil {
			if what == "it belongs to somebody else" && os.Geteuid() != 0 {
				continue // only root can give it away
			}
			t.Fatal(err)
		}
		if state, err := a.State(t.Context(), hacked); err == nil || !strings.Contains(err.Error(), "is not run") {
			t.Errorf("%s: %s, %v", what, state, err)
		}
		os.Remove(path + "2")
		if _, err := h.Adapter(t.Context()); !errors.Is(err, ErrNone) || len(h.Doubts()) != 1 {
			t.Errorf("%s: %v, doubts %v", what, err, h.Doubts())
		}
	}
}
