package lockdir

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"sluice/sidecar/lockfile"
)

// hostile are domains that must never reach the disk.
var hostile = []string{
	"", ".", "..", "../x", "../../etc/passwd", "/etc/passwd", "a/b", "a/../b", ".hidden", "a..b",
	"a\x00b", "\x00", "a\nb", "a b", "a_b", "Example.com", "exämple.com", "a\xff", "*", "$(id)", "[192.0.2.1]",
	"::1", "a:b", `a\b`, "%2e%2e", "a\u202eb", strings.Repeat("a", 300), strings.Repeat("a", 245),
}

func TestHostileNames(t *testing.T) {
	r := newRig(t)
	for _, domain := range hostile {
		kind := lockfile.Hourly
		if len(domain) == 245 {
			kind = lockfile.DeferFail // 259 bytes; as max_hourly_ 256
		}
		l := lockfile.Lock{Kind: kind, Domain: domain}
		for what, err := range map[string]error{
			"Make":         r.d.Make(l, "20/20 (100%)", 1),
			"MakeOperator": r.d.MakeOperator(l, ""),
			"Unmake":       r.d.Unmake(l),
			"Remove":       r.d.Remove(l),
		} {
			if err == nil {
				t.Errorf("%s of %.20q: no error", what, domain)
			} else if len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x00\n") || !utf8.ValidString(err.Error()) {
				t.Errorf("%s of %.20q: cannot be shown: %q", what, domain, err)
			}
		}
		if f := r.d.Files(domain); domain != "" && len(f) != 0 {
			t.Errorf("Files(%.20q) = %v", domain, f)
		}
	}
	for _, kind := range []lockfile.Kind{"", ".", "..", "../max_hourly", "max_daily"} {
		if err := r.d.Make(lockfile.Lock{Kind: kind, Domain: "example.com"}, "", 1); err == nil {
			t.Errorf("kind %q: no error", kind)
		}
	}
	r.wantEvents(r.settle())
	if r.notes.writes != 0 {
		t.Error("a note was written")
	}
	err := filepath.WalkDir(filepath.Dir(r.path), func(path string, e os.DirEntry, err error) error {
		if !e.IsDir() {
			t.Errorf("%s was made", path)
		}
		return err
	})
	r.must(err)
}

func TestLongestName(t *testing.T) {
	r := newRig(t)
	l := lockfile.Lock{Kind: lockfile.Hourly, Domain: strings.Repeat("a", nameMax-len("max_hourly_"))}
	r.make(l)
	r.wantState(l, "sluice")
}

func TestContentIsChecked(t *testing.T) {
	r := newRig(t)
	for _, content := range []string{strings.Repeat("x", maxContent+1), "\xff"} {
		if err := r.d.Make(hourly, content, 1); err == nil {
			t.Errorf("content %.10q: no error", content)
		}
	}
	r.wantState(hourly, "")
}

// Names that Exim never asks for are no locks, and are left alone.
func TestForeignNamesAreLeftAlone(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"example.com", "max_hourly_Example.com", "max_hourly_", "max_hourly_a_b",
		"max_daily_example.com", "max_hourly_example.com~", ".max_hourly_example.com.swp"} {
		r.must(os.WriteFile(filepath.Join(r.path, name), nil, 0o644))
	}
	r.wantEvents(r.settle(), "ignored")
	if len(r.d.Files("")) != 0 {
		t.Errorf("files %v", r.d.Files(""))
	}
	if entries, _ := os.ReadDir(r.path); len(entries) != 7 {
		t.Errorf("%d files are left of 7", len(entries))
	}
}

func TestLeftoverTemporaryFilesGo(t *testing.T) {
	r := newRig(t)
	outside := filepath.Join(t.TempDir(), "outside")
	r.must(os.WriteFile(outside, nil, 0o644))
	r.must(os.WriteFile(filepath.Join(r.path, tempPrefix+"0011"), nil, 0o644))
	r.must(os.Symlink(outside, filepath.Join(r.path, tempPrefix+"link")))
	r.open()
	if entries, _ := os.ReadDir(r.path); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

// Whatever stands under a lock's name is an operator's lock. Nothing is
// followed, nothing blocks.
func TestThingsPlantedUnderALocksName(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(path string) error{
		"symlink":          func(path string) error { return os.Symlink(outside, path) },
		"dangling symlink": func(path string) error { return os.Symlink(outside+".none", path) },
		"symlink to fifo": func(path string) error {
			return errors.Join(unix.Mkfifo(path+"~", 0o644), os.Symlink(path+"~", path))
		},
		"loop": func(path string) error { return os.Symlink(path, path) },
		"fifo": func(path string) error { return unix.Mkfifo(path, 0o644) },
		"socket": func(path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		},
		"huge file": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("x"), 0o644), os.Truncate(path, 1<<40))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			t.Chdir(r.path) // a socket's path has at most 107 bytes
			r.must(plant(entryName(hourly)))
			r.make(hourly)
			r.wantState(hourly, "operator")
			r.wantEvents(r.settle(), "made max_hourly_example.com operator")
			if c := r.d.Files("example.com")[0].Content; strings.Contains(c, "secret") {
				t.Errorf("followed: content %q", c)
			}
			r.must(r.d.Unmake(hourly))
			r.wantState(hourly, "operator")
			r.open()
			r.wantEvents(r.settle())
			r.must(r.d.Remove(hourly))
			r.wantState(hourly, "")
			if b, _ := os.ReadFile(outside); string(b) != "secret" {
				t.Errorf("outside the directory is now %q", b)
			}
			if _, err := os.Lstat(outside + ".none"); err == nil {
				t.Error("a dangling symlink was followed")
			}
		})
	}
}

func TestDirectoryPlantedUnderALocksName(t *testing.T) {
	r := newRig(t)
	r.must(os.Mkdir(r.file(hourly), 0o755))
	r.wantEvents(r.settle(), "made max_hourly_example.com operator")
	if err := r.d.Remove(hourly); err == nil || !strings.Contains(err.Error(), "rmdir") {
		t.Errorf("%v", err)
	}
	if files := r.d.Files(""); len(files) > 0 {
		t.Errorf("files %v, though it is only to be removed", files)
	}
	r.must(os.Remove(r.file(hourly)))
	r.wantEvents(r.settle()) // it was to go anyway
	r.wantState(hourly, "")
}

func TestPlaceNeverOverwrites(t *testing.T) {
	for name, place := range map[string]func(h *handle, temp, name string) error{
		"rename": (*handle).place,
		"link":   (*handle).placeByLink,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			h, err := openDir(r.path)
			r.must(err)
			defer h.close()
			temp, st, err := h.writeTemp("20/20 (100%)", 0o644, true)
			r.must(err)
			r.create(other)
			if err := place(h, temp, entryName(other)); !errors.Is(err, unix.EEXIST) {
				t.Errorf("over an operator's file: %v", err)
			}
			r.must(place(h, temp, entryName(hourly)))
			s, err := h.inspect(entryName(hourly), fileState{})
			r.must(err)
			if s.stamp != st {
				t.Errorf("stamp %+v became %+v", st, s.stamp)
			}
			names, err := h.names()
			r.must(err)
			if len(names) != 2 {
				t.Errorf("left: %v", names)
			}
		})
	}
}

func FuzzParseName(f *testing.F) {
	for _, domain := range hostile {
		f.Add("max_hourly_" + domain)
		f.Add(domain)
	}
	f.Fuzz(func(t *testing.T, name string) {
		l, ok := parseName(name)
		if !ok {
			return
		}
		again, err := fileName(l)
		if err != nil || again != name {
			t.Errorf("%q parsed as %v, which is the file %q, %v", name, l, again, err)
		}
		if filepath.Base(name) != name || name == "." || name == ".." || len(name) > 255 || strings.HasPrefix(name, ".") {
			t.Errorf("%q taken for a lock's name", name)
		}
	})
}

// An operator may put something else in the place of a regular file between the
// look and the open.
func TestReadOfWhatIsNoFileByNow(t *testing.T) {
	r := newRig(t)
	outside := filepath.Join(t.TempDir(), "secret")
	r.must(os.WriteFile(outside, []byte("secret"), 0o644))
	r.must(os.Symlink(outside, r.file(hourly)))
	r.must(unix.Mkfifo(r.file(other), 0o644)) // would block without O_NONBLOCK
	h, err := openDir(r.path)
	r.must(err)
	defer h.close()
	for l, want := range map[lockfile.Lock]bool{hourly: true, other: true, deferfail: false} {
		s, err := h.read(entryName(l), fileState{there: true})
		if err != nil || s.there != want || s.Content != "" {
			t.Errorf("%s: %+v, %v", entryName(l), s, err)
		}
	}
}
