package mainlog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/logline"
)

// A family is the files of a log: the one that is written now, and those that rotation has
// made of it by adding digits or .old, and then .gz, to its name. A copy by any other name
// does not belong to it, and mail.err does not belong to mail.
type family struct {
	path string // %D is the date as 20061102, %M the month as 200611
	glob string
	name *regexp.Regexp // date in the name, digits that were added, .gz
}

// A file is one file of a family.
type file struct {
	name   string
	info   os.FileInfo
	date   string // digits of %D or %M; empty if the log's path has none
	suffix string // digits that rotation has added; empty if it has added none
}

// maxFiles is how many files are considered, the newest ones.
const maxFiles = 64

func newFamily(path string) family {
	path = filepath.Clean(path)
	glob := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, "%D", "*", "%M", "*").Replace(path) + "*"
	name := strings.NewReplacer("%D", "([0-9]{8})", "%M", "([0-9]{6})").Replace(regexp.QuoteMeta(path))
	return family{path, glob, regexp.MustCompile("^" + name + `([-._]?[0-9][-._:T0-9]*|\.old)?(\.gz)?$`)}
}

// Files lists the files of the log that Exim writes as path, the rotated ones too, the oldest
// first. path may have %D and %M, as in Options.
func Files(path string, now time.Time) (names []string, err error) {
	f := newFamily(path)
	present := f.present(now)
	files, there, err := f.list(present)
	switch {
	case err != nil:
		return nil, err
	case !there && len(files) == 0:
		return nil, fmt.Errorf("open the log: there is no %s", present)
	}
	for _, one := range files {
		names = append(names, one.name)
	}
	return names, nil
}

// present is the path of the file that is written at a time.
func (f family) present(now time.Time) string {
	return logline.File(f.path, now)
}

// list finds the files, the oldest first and the present one last. It reports false if
// that does not exist, as just after a rotation.
func (f family) list(present string) (files []file, there bool, err error) {
	names, err := filepath.Glob(f.glob)
	if err != nil {
		return nil, false, fmt.Errorf("list the files of the log: %w", err)
	}
	for _, name := range names {
		m := f.name.FindStringSubmatch(name)
		if m == nil || name == present {
			continue
		}
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			last := len(m) - 2
			files = append(files, file{name, info, strings.Join(m[1:last], ""), onlyDigits(m[last])})
		}
	}
	slices.SortFunc(files, file.compare)
	files = files[max(0, len(files)-maxFiles+1):]
	info, err := os.Stat(present)
	if errors.Is(err, fs.ErrNotExist) {
		return files, false, nil
	} else if err != nil {
		return nil, false, fmt.Errorf("find the log: %w", err)
	}
	return append(files, file{name: present, info: info}), true, nil
}

func onlyDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

// compare orders files by age, the oldest first. Their names tell: log.2.gz is older than
// log.1, and log-20261123 than log-20261124. The times of their last writes do not, where
// a process kept the older file open for longer.
func (f file) compare(o file) int {
	written := f.info.ModTime().Compare(o.info.ModTime())
	counted, countedO := len(f.suffix) < len("20061102"), len(o.suffix) < len("20061102")
	switch {
	case f.date != o.date:
		return strings.Compare(f.date, o.date)
	case f.suffix == "" || o.suffix == "" || counted != countedO:
		return cmp.Or(written, strings.Compare(f.name, o.name))
	case counted: // how many rotations ago
		return cmp.Or(cmp.Compare(len(o.suffix), len(f.suffix)), strings.Compare(o.suffix, f.suffix), written)
	}
	return cmp.Or(strings.Compare(f.suffix, o.suffix), written)
}

// sameFiles reports whether two lists have the same files.
func sameFiles(a, b []file) bool {
	return slices.EqualFunc(a, b, func(a, b file) bool { return a.name == b.name && os.SameFile(a.info, b.info) })
}

// unchanged reports whether two lists have the same files, and nothing was written to the
// rotated ones.
func unchanged(a, b []file) bool {
	if !sameFiles(a, b) {
		return false
	}
	for i := range a[:max(0, len(a)-1)] {
		if a[i].info.Size() != b[i].info.Size() || !a[i].info.ModTime().Equal(b[i].info.ModTime()) {
			return false
		}
	}
	return true
}
