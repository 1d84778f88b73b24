package install

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func newRun() *run { return &run{before: nothing, stage: newStage()} }

// siteFile is a file of a site's.
func siteFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "exim.conf")
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o640), os.Chmod(path, 0o640)); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

const block = beginBlock + "ours\n" + endBlock

func TestBlocksStandWhereTheyShould(t *testing.T) {
	line := regexp.MustCompile(`(?m)^begin acl`)
	for _, c := range []struct{ name, text, where, want string }{
		{"top", "a\nb\n", atTop, block + "a\nb\n"},
		{"bottom", "a\nb\n", atBottom, "a\nb\n" + block},
		{"bottom of a last line without end", "a\nb", atBottom, "a\nb\n" + block},
		{"empty", "", atBottom, block},
		{"before", "a\nbegin acl\nb\n", before, "a\n" + block + "begin acl\nb\n"},
		{"after", "a\nbegin acl # x\nb\n", after, "a\nbegin acl # x\n" + block + "b\n"},
		{"after a last line without end", "a\nbegin acl", after, "a\nbegin acl\n" + block},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, path := newRun(), siteFile(t, c.text)
			if !r.block(path, c.where, line, "ours\n") {
				t.Fatal("there is no such line")
			}
			f := r.stage.files[path]
			if diff := cmp.Diff(c.want, string(f.text)); diff != "" {
				t.Error(diff)
			}
			if f.mode != 0o640 {
				t.Errorf("mode %o", f.mode)
			}
		})
	}
	if r := newRun(); r.block(siteFile(t, "a\n"), after, line, "ours\n") {
		t.Error("a block stands after a line that is not there")
	}
}

// Whatever a site's file has, our blocks come out of it again, and nothing else does.
func FuzzBlocksComeOut(f *testing.F) {
	for _, text := range []string{"", "a\n", "begin acl\n", "# BEGIN sluices\n", "x # END sluice\n", "a\r\nbegin acl\r\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, beginBlock) {
			t.Skip("has what only ours have")
		}
		text = strings.TrimSuffix(text, "\n") + "\n"
		path := siteFile(t, text)
		for _, where := range []string{atTop, atBottom} {
			r := newRun()
			r.block(path, where, nil, "ours\n")
			staged := r.stage.files[path].text
			if got := string(blockPattern.ReplaceAll(staged, nil)); got != text {
				t.Errorf("%s: %q became %q", where, text, got)
			}
			if string(ours(staged)) != block {
				t.Errorf("%s: ours is %q", where, ours(staged))
			}
		}
	})
}

func TestAForeignFileIsNotReplaced(t *testing.T) {
	r, path := newRun(), siteFile(t, "foreign\n")
	if err := r.whole(path, []byte("ours\n")); err == nil || !strings.Contains(err.Error(), "not from Sluice") {
		t.Errorf("a foreign file is replaced: %v", err)
	}
	if err := r.whole(path, []byte("foreign\n")); err != nil {
		t.Errorf("a file that is as ours would be: %v", err)
	}
}

func TestWhatWasInPlaceComesBack(t *testing.T) {
	path := siteFile(t, "theirs\n")
	gone := filepath.Join(filepath.Dir(path), "new")
	r := newRun()
	r.Installer = &Installer{Out: &strings.Builder{}}
	r.block(path, atTop, nil, "ours\n")
	if err := r.whole(gone, []byte("ours\n")); err != nil {
		t.Fatal(err)
	}
	for _, p := range r.stage.paths {
		if err := r.put(p); err != nil {
			t.Fatal(err)
		}
	}
	if text, _ := os.ReadFile(path); string(text) != block+"theirs\n" {
		t.Errorf("in place is %q", text)
	}
	if err := r.stage.putBack(); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "theirs\n" {
		t.Errorf("back is %q", text)
	}
	if exists(gone) {
		t.Error("a file of ours is left")
	}
}

// A manifest is read as it was written, those of the shell installer of before too.
func TestManifest(t *testing.T) {
	text := "# layout directadmin\n# way perl\n# config /etc/exim.conf\n# site acl_smtp_rcpt = acl_check\n# site acl_not_smtp = \n" +
		"1b2377  /etc/sluice/sluice.pl\n2451e0  /etc/a file\n"
	want := &manifest{layout: "directadmin", way: "perl", config: "/etc/exim.conf",
		site:  map[string]string{"acl_smtp_rcpt": "acl_check", "acl_not_smtp": ""},
		order: []string{"/etc/sluice/sluice.pl", "/etc/a file"},
		sums:  map[string]string{"/etc/sluice/sluice.pl": "1b2377", "/etc/a file": "2451e0"}}
	if diff := cmp.Diff(want, parseManifest(text), cmp.AllowUnexported(manifest{})); diff != "" {
		t.Error(diff)
	}
}

// A panel makes its file anew, or an operator takes our block out: what is left is the site's.
func TestASitesFileWithoutOurBlockStays(t *testing.T) {
	path := siteFile(t, "theirs\n")
	for _, forGood := range []bool{true, false} {
		r := newRun()
		r.Installer = &Installer{Out: &strings.Builder{}}
		r.before = &manifest{order: []string{path}, sums: map[string]string{path: "of the block that was there"}}
		r.unstage(forGood)
		if err := r.put(path); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "theirs\n" {
			t.Errorf("for good %v: %q, %v", forGood, text, err)
		}
		if exists(path + ".changed") {
			t.Error("it is said to be changed by hand")
		}
	}
}

func TestASymbolicLinkStaysOne(t *testing.T) {
	path := siteFile(t, "theirs\n")
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	r := newRun()
	r.Installer = &Installer{Out: &strings.Builder{}}
	r.block(link, atTop, nil, "ours\n")
	if err := r.put(link); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != block+"theirs\n" {
		t.Errorf("the file is %q", text)
	}
	if to, err := os.Readlink(link); err != nil || to != path {
		t.Errorf("the link goes to %q, %v", to, err)
	}
}

// What is made for a check may have passwords.
func TestOthersCannotReadTheStage(t *testing.T) {
	r := newRun()
	r.Installer = &Installer{} // an Exim that cannot say its group
	if err := r.makeWork(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(r.work)
	if info, err := os.Stat(r.work); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestWhatNeverGotThereIsBack(t *testing.T) {
	s := newStage()
	s.kept = []kept{{filepath.Join(t.TempDir(), "none"), &staged{gone: true}}}
	if err := s.putBack(); err != nil {
		t.Error(err)
	}
}
