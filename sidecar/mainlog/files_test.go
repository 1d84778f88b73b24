package mainlog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Files are listed the oldest first, by their names, and by when they were written
// where these do not tell.
func TestOrderOfTheFiles(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for path, want := range map[string]string{ // each written before the one on its left
		"numbers":   "numbers.12.gz numbers.3.gz numbers.2 numbers.1 numbers.0 numbers",
		"zeros":     "zeros.10.gz zeros.02.gz zeros.01 zeros",
		"dates":     "dates-20261122.gz dates-20261123.gz dates-20261124 dates",
		"dashes":    "dashes-2026-11-09 dashes-2026-11-10.gz dashes-2026-12-01 dashes",
		"hours":     "hours.2026112309.gz hours.2026112310.gz hours.2026112400 hours",
		"seconds":   "seconds-20261123-1795400000 seconds-20261123-1795403600 seconds",
		"day%D.log": "day20261121.log.gz day20261122.log day20261123.log day20261124.log",
		"month%M":   "month202609 month202610 month202611",
	} {
		dir := t.TempDir()
		names := strings.Fields(want)
		for i, name := range names {
			name = filepath.Join(dir, name)
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			written := now.Add(-time.Duration(i) * time.Hour) // as if the older were written last
			if err := os.Chtimes(name, written, written); err != nil {
				t.Fatal(err)
			}
		}
		f := newFamily(filepath.Join(dir, path))
		files, there, err := f.list(f.present(now))
		if err != nil || !there {
			t.Fatal(there, err)
		}
		var got []string
		for _, file := range files {
			got = append(got, filepath.Base(file.name))
		}
		if diff := cmp.Diff(names, got); diff != "" {
			t.Errorf("%s (- want, + got)\n%s", path, diff)
		}
	}
}
