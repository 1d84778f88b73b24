package scan

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar/script"
)

// Whatever a scanner says, only files that exist below the directory are believed to be found.
func FuzzLines(f *testing.F) {
	home := f.TempDir()
	if err := os.WriteFile(home+"/x", nil, 0o644); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{home + "/x: Eicar FOUND", home + "/a\nb: X FOUND\n", "/etc/passwd: X FOUND", home + "/../x: X FOUND", ": FOUND", "\xff: \x00 FOUND\nOK"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, said string) {
		s := &scanner{Options: Options{Account: script.Account{Name: "bob", Home: home}, Dir: home, Progress: func(Progress) {}}}
		for line := range strings.Lines(said) {
			s.line(strings.TrimSuffix(line, "\n"))
		}
		for _, found := range s.report.Findings {
			if !strings.HasPrefix(filepath.Clean(string(found.Path)), home+"/") {
				t.Errorf("believed %+v", found)
			}
		}
	})
}
