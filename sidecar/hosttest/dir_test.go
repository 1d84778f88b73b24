package hosttest

import (
	"os"
	"path/filepath"
	"testing"
)

// Others get in, and the machine's own directory keeps its mode, however TMPDIR names it.
func TestOpenDirChangesNothingOfTheMachine(t *testing.T) {
	machine := filepath.Join(t.TempDir(), "machine")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Mkdir(machine, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(machine, link); err != nil {
		t.Fatal(err)
	}
	for _, named := range []string{machine, machine + "/", machine + "//.", link, link + "/"} {
		t.Run(named, func(t *testing.T) {
			t.Setenv("TMPDIR", named)
			dir := OpenDir(t)
			for path, want := range map[string]os.FileMode{dir: 0o755, filepath.Dir(dir): 0o755, machine: 0o700} {
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
					t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
				}
			}
		})
	}
}
