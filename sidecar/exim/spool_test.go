package exim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func scriptOf(text []byte) string {
	h, _ := parseSpoolHeader(text)
	return h.Script
}

// The file is of Exim 4.96, whose ACL has set a variable with an empty line in it.
func TestScriptOfAQueuedMessage(t *testing.T) {
	const id = "1xXtKk-000351-2c"
	text, err := os.ReadFile("testdata/" + id + "-H")
	if err != nil {
		t.Fatal(err)
	}
	const want = "1001:mailer.php"
	dir := t.TempDir()
	for _, name := range []string{"input/k/a", "input/b", "input/Z/c"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+"-H"), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(dir, "secret")
	if err := os.WriteFile(outside, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, dir+"/input/link-H"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(dir+"/input/fifo-H", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/input/dir-H", 0o755); err != nil {
		t.Fatal(err)
	}
	s := OpenSpool(dir)
	for id, want := range map[string]string{"a": want, "b": want, "c": want, "link": "", "fifo": "", "dir": "", "none": "", "../secret": ""} {
		if got := s.Script(id); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
	if len(OpenSpool(dir+"/none").files) != 0 {
		t.Error("a spool that is not there has messages")
	}
	for n := range text { // a file that Exim is writing
		if got := scriptOf(text[:n]); got != "" && got != want {
			t.Errorf("of the first %d bytes: %q", n, got)
		}
	}
	edit := func(old, new string) string { return scriptOf([]byte(strings.ReplaceAll(string(text), old, new))) }
	for what, c := range map[string]struct{ got, want string }{
		"tainted":        {edit("-aclm _dir", "--aclm _dir"), want},
		"too long":       {edit("_dir 14", "_dir 4294967296"), ""},
		"negative":       {edit("_dir 14", "_dir -14"), ""},
		"other name":     {edit("042  X-PHP-Originating-Script", "030  X-Source-Dir"), want},
		"lower case":     {edit("X-PHP-Originating-Script", "x-php-originating-script"), want},
		"deleted header": {edit("018T", "018*"), want},
		"no header":      {edit("042  X-PHP-Originating-Script", "042  X-PHP-Originating-Skript"), ""},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", what, c.got, c.want)
		}
	}
}

// A queue, or a message, that cannot be looked at is not taken for one that is not there.
func TestWhatCannotBeLookedAtIsNotGone(t *testing.T) {
	const id = "1xUzSN-000001-0q"
	dir := t.TempDir()
	for _, name := range []string{"input", "db", "named"} { // db has hints, and no queue
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "gnutls-params"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	walk := func() error { return WalkSpool(dir, func(SpoolFile) bool { return true }) }
	if err := walk(); err != nil {
		t.Errorf("all can be looked at: %v", err)
	}
	if _, there := FindSpoolFile(dir, "named", id); there {
		t.Error("a message is in a queue that there is not")
	}
	if err := os.Symlink("input", filepath.Join(dir, "named", "input")); err != nil { // to itself
		t.Fatal(err)
	}
	if err := walk(); err == nil || !strings.Contains(err.Error(), "named/input") {
		t.Errorf("a queue cannot be looked at: %v", err)
	}
	if _, there := FindSpoolFile(dir, "named", id); !there {
		t.Error("a message that cannot be looked for counts as gone")
	}
}

// The longest header that Exim reads is read whole: what most should be cleaned up has many recipients.
func TestHeaderOfManyRecipients(t *testing.T) {
	const most, id = 16384, "1xXtKk-000351-2c"
	var tree, list strings.Builder
	for i := range most {
		to := fmt.Sprintf("%064d@%0255d", i, 0)
		fmt.Fprintf(&tree, "%s %s\n", [...]string{"NY", "NN"}[i/(most-1)], to)
		list.WriteString(to + "\n")
	}
	dir := t.TempDir()
	text := spoolFile("-frozen 1796014200\n", fmt.Sprintf("%s%d\n%s", tree.String(), most, list.String()))
	if err := errors.Join(os.Mkdir(dir+"/input", 0o755), os.WriteFile(dir+"/input/"+id+"-H", text, 0o644)); err != nil {
		t.Fatal(err)
	}
	f, _ := FindSpoolFile(dir, "", id)
	if h, err := f.Header(); err != nil || len(h.Done) != most || h.Subject == "" {
		t.Errorf("%d have it, the subject is %q, %v", len(h.Done), h.Subject, err)
	}
}
