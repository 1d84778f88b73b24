package login

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sluice/sidecar/hosttest"
)

func TestTheDeniedFileStaysAsItWas(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, before := range []string{"", "\n", "other@example.com\n", "other@example.com", "# by hand\n\nother@example.com\r\nHACKED@example.com\n", "a\n\n\n"} {
		root := t.TempDir()
		d := denied{root, filepath.Join(root, "sluice", "denied-logins")}
		if err := os.Mkdir(filepath.Dir(d.path), 0o755); err != nil {
			t.Fatal(err)
		}
		if before != "" {
			if err := os.WriteFile(d.path, []byte(before), 0o604); err != nil {
				t.Fatal(err)
			}
		}
		old, _ := os.Stat(d.path)
		for range 2 { // the second time there is nothing to do
			if err := d.add("hacked@example.com", me.Username); err != nil {
				t.Fatal(err)
			}
		}
		added, err := os.Stat(d.path)
		if is, _ := d.has("hacked@example.com"); err != nil || !is {
			t.Fatalf("it is not in the file: %v", err)
		}
		if old != nil && (added.Mode() != old.Mode() || added.ModTime().Unix() <= old.ModTime().Unix()) {
			t.Errorf("before %v %v, now %v %v: Dovecot would not notice", old.Mode(), old.ModTime(), added.Mode(), added.ModTime())
		}
		if old == nil && added.Mode() != 0o640 {
			t.Errorf("it was made with mode %v", added.Mode())
		}
		text, _ := os.ReadFile(d.path)
		if n := strings.Count(string(text), "hacked@example.com"); n != 1 {
			t.Errorf("%d times in %q", n, text)
		}
		if err := d.remove("hacked@example.com", me.Username); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(d.path); string(text) != before {
			t.Errorf("before %q, after %q, %v", before, text, err)
		}
		if removed, _ := os.Stat(d.path); removed.ModTime().Unix() <= added.ModTime().Unix() {
			t.Error("Dovecot would not notice that it was taken out")
		}
		if left, _ := filepath.Glob(filepath.Join(root, "sluice", ".*")); len(left) > 0 {
			t.Errorf("left is %v", left)
		}
	}
}

func TestADirectoryOfOthersHasNoDeniedFile(t *testing.T) {
	root := t.TempDir()
	if err := os.Chmod(root, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := (denied{root, filepath.Join(root, "denied-logins")}).add("a@example.com", "root"); err == nil {
		t.Error("it was written")
	}
}

func TestNamesForDovecot(t *testing.T) {
	for name, want := range map[string]string{
		"Hacked@Example.COM": "hacked@example.com", "a+b@example.com": "a+b@example.com", "a b@example.com": "a b@example.com",
		`o'n"e@example.com`: `o'n"e@example.com`, "-a@example.com": "-a@example.com", "b\u00dccher@example.com": "b\u00fccher@example.com", "bob": "bob",
		"a\nb@example.com": "", "a\rb": "", "a:b": "", "#a@example.com": "", "": "", " a": "", "a ": "", "a\x00b": "", "a\xff": "", "a\u202eb": "", strings.Repeat("a", 255): "",
	} {
		got, err := dovecotName(Login{Name: name})
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
	for key, want := range map[string]bool{
		"hacked@example.com": true, "a+b@example.com": true, `a\x0ab@example.com`: false, "login:bob": false, "client:192.0.2.1": false,
		"forward:info@example.com": false, "script:/home/bob@x": false, "loopback": false, strings.Repeat("a", 190) + "@example.com": false,
	} {
		if _, ok := OfAuthor(key); ok != want {
			t.Errorf("%s: %v, want %v", key, ok, want)
		}
	}
}

func TestPasswords(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		p := NewPassword()
		if seen[p] || len(p) != 20 || !strings.ContainsAny(p, "ABCDEFGHJKLMNPQRSTUVWXYZ") || !strings.ContainsAny(p, "abcdefghijkmnpqrstuvwxyz") || !strings.ContainsAny(p, "23456789") {
			t.Fatalf("password %q", p)
		}
		seen[p] = true
	}
}

// On a full disk the file stays as it was, and nothing else is left there.
func TestDeniedOnAFullDisk(t *testing.T) {
	dir := hosttest.SmallDisk(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := denied{dir, filepath.Join(dir, "denied-logins")}
	const before = "# by hand\nunpaid@example.com\n"
	if err := os.WriteFile(d.path, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	filler := hosttest.Fill(t, dir)
	for what, change := range map[string]func(string, string) error{"hacked@example.com": d.add, "unpaid@example.com": d.remove} {
		if err := change(what, "root"); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if text, err := os.ReadFile(d.path); err != nil || string(text) != before {
		t.Errorf("the file is %q, %v", text, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("left are %v", files)
	}
	if err := errors.Join(os.Remove(filler), d.add("hacked@example.com", "root")); err != nil {
		t.Error(err)
	}
}
