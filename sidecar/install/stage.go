package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// A file is ours as a whole, or it is the site's and has blocks of ours, between these lines.
// What is outside them is never changed.
const (
	beginBlock = "# BEGIN sluice: from Sluice's installer, which takes it out again\n"
	endBlock   = "# END sluice\n"
)

var blockPattern = regexp.MustCompile(`(?ms)^` + beginBlock + `.*?^` + endBlock)

func hasBlocks(text []byte) bool { return blockPattern.Match(text) }

// ours is what of a file is ours.
func ours(text []byte) []byte {
	if blocks := blockPattern.FindAll(text, -1); blocks != nil {
		return bytes.Join(blocks, nil)
	}
	return text
}

// sum is the checksum of what of a file is ours.
func sum(text []byte) string {
	sum := sha256.Sum256(ours(text))
	return hex.EncodeToString(sum[:])
}

// A staged file is as it will be.
type staged struct {
	text     []byte
	mode     fs.FileMode
	uid, gid int
	gone     bool // it will not be there
}

// A stage has the files that are to be put in place.
type stage struct {
	paths []string // in the order in which they are
	files map[string]*staged
	kept  []kept // what was in place before, for putBack
}

// kept is a file as it was before it was replaced.
type kept struct {
	path string
	file *staged
}

func newStage() *stage { return &stage{files: map[string]*staged{}} }

// file is a file of the stage. The first time that it is asked for, it gets there as it is in
// place, without our blocks.
func (s *stage) file(path string) *staged {
	f := s.files[path]
	if f == nil {
		f = current(path)
		f.text = blockPattern.ReplaceAll(f.text, nil)
		s.files[path] = f
	}
	if !slices.Contains(s.paths, path) {
		s.paths = append(s.paths, path)
	}
	return f
}

// current is a file as it is in place; gone if there is none.
func current(path string) *staged {
	text, err := os.ReadFile(path)
	info, errStat := os.Stat(path)
	if err != nil || errStat != nil {
		return &staged{mode: 0o644, gone: true}
	}
	owner := info.Sys().(*syscall.Stat_t)
	return &staged{text: text, mode: info.Mode().Perm(), uid: int(owner.Uid), gid: int(owner.Gid)}
}

// whole stages a file of ours.
func (r *run) whole(path string, text []byte) error {
	if there, err := os.ReadFile(path); err == nil && r.before.sums[path] == "" && !bytes.Equal(there, text) {
		return problemf("%s exists, and it is not from Sluice. Move it away first.", path)
	}
	f := r.stage.file(path)
	f.text, f.mode, f.gone = text, 0o644, false
	return nil
}

// Places of a block in a file.
const (
	atTop    = "top"
	atBottom = "bottom"
	before   = "before" // the first line that matches
	after    = "after"
)

// block stages a block of ours in a file of the site's. It reports whether there is the line
// before or after which it has to stand.
func (r *run) block(path, where string, line *regexp.Regexp, text string) bool {
	f := r.stage.file(path)
	if n := len(f.text); n > 0 && f.text[n-1] != '\n' {
		f.text = append(f.text, '\n')
	}
	at := 0
	switch where {
	case atBottom:
		at = len(f.text)
	case before, after:
		found := line.FindIndex(f.text)
		if found == nil {
			return false
		}
		at = found[0]
		if where == after {
			at = found[1] + bytes.IndexByte(f.text[found[1]:], '\n') + 1
		}
	}
	block := []byte(beginBlock + text + endBlock)
	f.text, f.gone = slices.Concat(f.text[:at], block, f.text[at:]), false
	return true
}

// wholly reports whether a file is ours as a whole: all of those are called so. In the others we
// have blocks, also where an operator or a panel has taken these out.
func wholly(path string) bool { return strings.Contains(filepath.Base(path), "sluice") }

// unstage stages all files that were put in, as they are without us. What was put in last is
// taken out first when Sluice goes: our routers need our macros.
func (r *run) unstage(forGood bool) {
	paths := r.before.paths()
	if forGood {
		slices.Reverse(paths)
	}
	for _, path := range paths {
		text, _ := os.ReadFile(path)
		if f := r.stage.file(path); wholly(path) || hasBlocks(text) && len(f.text) == 0 {
			f.text, f.gone = nil, true
		}
	}
}

// write writes the stage below a directory.
func (s *stage) write(root string) error {
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	for _, path := range s.paths {
		if f := s.files[path]; !f.gone {
			if err := f.write(root + path); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes a file by rename, with the owner and mode that it has had. A symbolic link stays
// one. The file is on disk when it has its name.
func (f *staged) write(path string) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	to := path + ".new"
	err := f.writeNew(to)
	if err == nil {
		err = os.Rename(to, path)
	}
	if err != nil {
		os.Remove(to)
		return fmt.Errorf("put in %s: %w", path, err)
	}
	return nil
}

// writeNew writes a file that nobody can read before it has its owner and mode.
func (f *staged) writeNew(path string) (err error) {
	os.Remove(path) // of a run that was killed
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(f.text)
	return errors.Join(err, file.Chown(f.uid, f.gid), file.Chmod(f.mode), file.Sync(), file.Close())
}

// put puts the file at a path in place, and says what it has done.
func (r *run) put(path string) error {
	is, want := current(path), r.stage.files[path]
	was := r.before.sums[path]
	switch {
	case !want.gone && !is.gone && bytes.Equal(is.text, want.text):
		r.printf("%s is up to date", path)
		return nil
	case !is.gone && was != "" && sum(is.text) != was && (wholly(path) || hasBlocks(is.text)):
		if err := is.write(path + ".changed"); err != nil {
			return err
		}
		r.printf("%[1]s was changed by hand; your version is now %[1]s.changed", path)
	}
	r.stage.kept = append(r.stage.kept, kept{path, is})
	if want.gone {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		r.printf("%s removed", path)
		return nil
	}
	if err := want.write(path); err != nil {
		return err
	}
	r.printf("%s put in", path)
	return nil
}

// putBack puts back what was in place.
func (s *stage) putBack() (err error) {
	for _, k := range slices.Backward(s.kept) {
		if k.file.gone {
			if e := os.Remove(k.path); !errors.Is(e, fs.ErrNotExist) { // it may never have got there
				err = errors.Join(err, e)
			}
		} else {
			err = errors.Join(err, k.file.write(k.path))
		}
	}
	s.kept = nil
	return err
}
