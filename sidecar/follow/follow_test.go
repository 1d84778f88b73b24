package follow

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// open follows files, and reads them for the first time.
func open(t *testing.T, paths ...string) *Value[string] {
	t.Helper()
	v := New(paths, func(texts [][]byte) string {
		all := make([]string, len(texts))
		for i, text := range texts {
			all[i] = string(text)
		}
		return strings.Join(all, "|")
	})
	if err := v.Refresh(); err != nil {
		t.Fatal(err)
	}
	return v
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// want refreshes, and wants a value.
func want(t *testing.T, v *Value[string], value, when string) {
	t.Helper()
	if err := v.Refresh(); err != nil || *v.Get() != value {
		t.Errorf("%s: %q, %v, want %q", when, *v.Get(), err, value)
	}
}

func TestAFileThatIsBeingWrittenIsReadOnceItStandsStill(t *testing.T) {
	file := filepath.Join(t.TempDir(), "domains")
	write(t, file, "one\n")
	v := open(t, file)
	if *v.Get() != "one\n" {
		t.Errorf("at the start: %q", *v.Get())
	}
	write(t, file, "")
	want(t, v, "one\n", "empty for a moment")
	write(t, file, "one\ntwo\n")
	want(t, v, "one\n", "just written")
	want(t, v, "one\ntwo\n", "it has stood still")
}

func TestAFileThatCannotBeReadLeavesTheValue(t *testing.T) {
	dir := t.TempDir()
	inside := filepath.Join(dir, "sub", "domains")
	if err := os.Mkdir(filepath.Dir(inside), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, inside, "one\n")
	v := open(t, inside)
	if err := os.RemoveAll(filepath.Dir(inside)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Dir(inside), "no directory")
	v.Refresh()
	if err := v.Refresh(); err == nil || *v.Get() != "one\n" {
		t.Errorf("%q, %v, want the former value and an error", *v.Get(), err)
	}
	if err := os.Remove(filepath.Dir(inside)); err != nil {
		t.Fatal(err)
	}
	want(t, v, "", "a file that is missing is empty")
}

func TestANameWithALineFeedIsNoEntryOfADirectory(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.example", "b.example\nevil.example", "c.example"} {
		write(t, filepath.Join(dir, name), "")
	}
	if v := open(t, dir); *v.Get() != "a.example\nc.example\n" {
		t.Errorf("%q", *v.Get())
	}
}
