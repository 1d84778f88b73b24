package script

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar/action"
	"sluice/sidecar/hosttest"
)

const (
	tenant = 47110 // uid of nobody on this host
	other  = 47111
)

var (
	now = time.Date(2026, 11, 30, 11, 8, 0, 0, time.UTC)
	old = now.Add(-30 * 24 * time.Hour)
)

// A place is a home, with a directory beside it.
type place struct {
	t       *testing.T
	account Account
	outside string
}

func newPlace(t *testing.T) *place {
	hosttest.Root(t)
	dir := hosttest.OpenDir(t)
	p := &place{t, Account{Name: "bob", UID: tenant, GID: tenant, Home: filepath.Join(dir, "home/bob")}, filepath.Join(dir, "outside")}
	for _, d := range []string{filepath.Join(p.account.Home, "public_html/wp"), p.outside} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	for _, rel := range []string{".", "public_html", "public_html/wp"} {
		err = errors.Join(err, os.Chown(p.path(rel), tenant, tenant))
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// path is a path below the home.
func (p *place) path(rel string) string { return filepath.Join(p.account.Home, rel) }

// write writes a file of a user, changed long ago.
func (p *place) write(path string, uid int, text string) string {
	p.t.Helper()
	err := errors.Join(os.WriteFile(path, []byte(text), 0o640), os.Chown(path, uid, uid), os.Chtimes(path, old, old))
	if err != nil {
		p.t.Fatal(err)
	}
	return path
}

// disable disables a script, and returns what is recorded of it, as read from the record.
func (p *place) disable(path string) (was File) {
	p.t.Helper()
	s, err := Find(p.account, path, Rules{})
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	b, err := json.Marshal(s.File)
	if err = errors.Join(err, json.Unmarshal(b, &was), s.Disable(now)); err != nil {
		p.t.Fatal(err)
	}
	return was
}

// is fails unless a file has a mode, and a time of last change.
func (p *place) is(path string, mode os.FileMode, mtime time.Time) {
	p.t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		p.t.Fatal(err)
	}
	if info.Mode() != mode || !info.ModTime().Equal(mtime) {
		p.t.Errorf("%q has mode %v and was changed at %v, want %v and %v", path, info.Mode(), info.ModTime(), mode, mtime)
	}
}

func TestAScriptIsDisabledAndEnabled(t *testing.T) {
	p := newPlace(t)
	for _, name := range []string{"mailer.php", "two\nlines $(reboot).php", "\xff\u202e\".php", `"quoted"`} {
		path := p.write(p.path("public_html/"+name), tenant, "<?php mail(); // "+name)
		was := p.disable(path)
		p.is(path, 0, now)
		if string(was.Path) != path || was.Links != 1 || was.Mode != 0o640 || !was.MTime.Equal(old) {
			t.Errorf("recorded %+v", was)
		}
		if err := Enable(was); err != nil {
			t.Fatal(err)
		}
		p.is(path, 0o640, old)
		if err := Enable(was); !errors.Is(err, action.ErrChanged) || !strings.Contains(err.Error(), "0640") {
			t.Errorf("enabled again: %v", err)
		}
	}
}

func TestWhatIsSetUidIsEnabledWithoutIt(t *testing.T) {
	p := newPlace(t)
	path := p.write(p.path("x.cgi"), tenant, "#!/bin/sh")
	if err := os.Chmod(path, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := Enable(p.disable(path)); err != nil {
		t.Fatal(err)
	}
	p.is(path, 0o755, old)
}

// Of a file that even root may not change it is said what keeps it so, and it stays as it was.
func TestAnImmutableFile(t *testing.T) {
	p := newPlace(t)
	path := p.write(p.path("x.php"), tenant, "x")
	s, err := Find(p.account, path, Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	immutable := func(flags int) error { // FS_IMMUTABLE_FL has the value of that of statx(2)
		return unix.IoctlSetPointerInt(int(s.file.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	if err := immutable(unix.STATX_ATTR_IMMUTABLE); err != nil {
		t.Skipf("no file can be made immutable here: %v", err)
	}
	defer immutable(0)
	if err := s.Disable(now); err == nil || !strings.Contains(err.Error(), "chattr -ia") {
		t.Errorf("disabled: %v", err)
	}
	p.is(path, 0o640, old)
	if err := Enable(s.File); !errors.Is(err, action.ErrChanged) || !strings.Contains(err.Error(), "it is not disabled") {
		t.Errorf("taken back: %v", err)
	}
}

func TestAFileWithSeveralNames(t *testing.T) {
	p := newPlace(t)
	path := p.write(p.path("public_html/a.php"), tenant, "x")
	if err := os.Link(path, p.path("public_html/b.php")); err != nil {
		t.Fatal(err)
	}
	if was := p.disable(path); was.Links != 2 {
		t.Errorf("%d links", was.Links)
	}
	p.is(p.path("public_html/b.php"), 0, now)
}

func TestWhatMayNotBeDisabled(t *testing.T) {
	p := newPlace(t)
	var err error
	link := func(to, name string) { err = errors.Join(err, os.Symlink(to, p.path(name))) }
	p.write(p.path("public_html/index.php"), tenant, "x")
	p.write(p.path("public_html/web.php"), other, "x")
	p.write(p.path("web.php"), other, "x")
	p.write(p.path("public_html/roots.php"), 0, "x")
	p.write(p.path("public_html/wp/good.php"), tenant, "x")
	secret := p.write(filepath.Join(p.outside, "good.php"), tenant, "x")
	link("wp/good.php", "public_html/link.php")
	link(p.outside, "public_html/out")
	link("wp", "public_html/in")
	err = errors.Join(err, os.Link(secret, p.path("hard.php")), os.Chown(secret, 0, 0), unix.Mkfifo(p.path("pipe.php"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	sparse := p.write(p.path("large.php"), tenant, "")
	if err := os.Truncate(sparse, largest+1); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		p.path("public_html/index.php"):         "--force",
		p.path("public_html/web.php"):           "uid 47111",
		p.path("web.php"):                       "uid 47111",
		p.path("public_html/roots.php"):         "uid 0",
		p.path("public_html/link.php"):          "symbolic link",
		p.path("public_html/out/good.php"):      "symbolic link",
		p.path("public_html/in/good.php"):       "symbolic link",
		p.path("public_html/missing.php"):       "no such file",
		p.path("public_html/wp/good.php/x"):     "no directory",
		p.path("public_html/wp"):                "directory",
		p.path("hard.php"):                      "uid 0",
		p.path("pipe.php"):                      "no regular file",
		p.path("large.php"):                     "no script",
		secret:                                  "not in",
		p.path("../../outside/good.php"):        "not in",
		p.account.Home:                          "directory",
		p.path("public_html/wp/../../web.php"):  "uid 47111",
		p.account.Home + "er/public_html/x.php": "not in",
	} {
		s, err := Find(p.account, path, Rules{})
		if err == nil {
			s.Close()
			t.Errorf("%s was found, want an error with %q", path, want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", path, err, want)
		}
	}
	web := Rules{Web: []uint32{0, other}, Force: true}
	for path, want := range map[string]bool{
		p.path("public_html/index.php"): true, p.path("public_html/web.php"): true,
		p.path("public_html/roots.php"): false, p.path("web.php"): false,
	} {
		s, err := Find(p.account, path, web)
		if err == nil {
			s.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s with files of a web server, and by force: %v", path, err)
		}
	}
}

func TestAHomeThatOthersCouldReplace(t *testing.T) {
	for what, change := range map[string]func(dir string) error{
		"not root's": func(dir string) error { return os.Chown(dir, other, other) },
		"writable":   func(dir string) error { return os.Chmod(dir, 0o777) },
		"a link": func(dir string) error {
			return errors.Join(os.Rename(dir, dir+"2"), os.Symlink(dir+"2", dir))
		},
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace(t)
			path := p.write(p.path("a.php"), tenant, "x")
			if err := change(filepath.Dir(p.account.Home)); err != nil {
				t.Fatal(err)
			}
			if s, err := Find(p.account, path, Rules{}); err == nil {
				s.Close()
				t.Error("a script in it was found")
			}
		})
	}
}

func TestAChangedScriptIsNotEnabled(t *testing.T) {
	for what, change := range map[string]func(p *place, path string) error{
		"its content": func(p *place, path string) error { return os.WriteFile(path, []byte("y"), 0) },
		"another file": func(p *place, path string) error {
			p.write(path+"2", tenant, "x")
			return errors.Join(os.Chmod(path+"2", 0), os.Rename(path+"2", path))
		},
		"gone": func(p *place, path string) error { return os.Remove(path) },
		"uid":  func(p *place, path string) error { return os.Chown(path, other, other) },
		"a link": func(p *place, path string) error {
			return errors.Join(os.Rename(path, path+"2"), os.Symlink(path+"2", path))
		},
		"a pipe": func(p *place, path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0)) },
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace(t)
			path := p.write(p.path("a.php"), tenant, "x")
			was := p.disable(path)
			if err := change(p, path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			if err := Enable(was); !errors.Is(err, action.ErrChanged) {
				t.Errorf("enabled: %v", err)
			}
			if after, _ := os.Lstat(path); before != nil && after.Mode() != before.Mode() {
				t.Errorf("its mode was %v and is %v", before.Mode(), after.Mode())
			}
		})
	}
}

func TestAScriptComesBack(t *testing.T) {
	p := newPlace(t)
	path := p.write(p.path("public_html/a.php"), tenant, "x")
	was := p.disable(path)
	expect := func(want string) {
		t.Helper()
		if how := CameBack(was); want == "" && how != "" || !strings.Contains(how, want) {
			t.Errorf("came back: %q, want %q", how, want)
		}
	}
	expect("")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(os.Chmod(path, 0o644))
	expect("0644 again")
	do(os.Rename(p.write(path+"2", tenant, "x"), path))
	expect("another file")
	do(os.Remove(path))
	expect("")
	do(os.Symlink("b.php", path))
	expect("it is a symbolic link")
	do(errors.Join(os.Rename(p.path("public_html"), p.path("x")), os.Symlink("x", p.path("public_html"))))
	expect("directory of its path")
}

// The tenant's program puts links in place of the script and of its directory, as fast as it
// can. One file outside has the tenant's uid too: only the way to it protects it.
func TestATenantWhoRenames(t *testing.T) {
	p := newPlace(t)
	rounds := 500
	if hosttest.Soak() {
		rounds = 10_000
	}
	dir, path := p.path("public_html/wp"), p.path("public_html/wp/a.php")
	victim := p.write(filepath.Join(p.outside, "a.php"), tenant, "x")
	roots := p.write(filepath.Join(p.outside, "root.php"), 0, "x")
	p.write(path, tenant, "x")
	err := errors.Join(
		os.Symlink(p.outside, p.path("public_html/link")), os.Symlink(victim, dir+"/link.php"), os.Symlink(roots, dir+"/root.php"),
		unix.Mkfifo(dir+"/pipe.php", 0o644))
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var tenants sync.WaitGroup
	swap := func(a string, others ...string) {
		tenants.Go(func() {
			runtime.LockOSThread() // which ends with it, and had the rights of the tenant until then
			unix.Setfsuid(tenant)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				b := others[i%len(others)]
				// Twice, so that each is as it was.
				unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
				unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			}
		})
	}
	swap(dir, p.path("public_html/link"))
	swap(path, dir+"/link.php", dir+"/root.php", dir+"/pipe.php")
	disabled, refused := 0, 0
	// On a busy machine the tenant's program may not run for a while.
	for i := 0; i < rounds || i < 20*rounds && (disabled == 0 || refused == 0); i++ {
		s, err := Find(p.account, path, Rules{})
		if err != nil {
			refused++
			continue
		}
		disabled++
		if err := errors.Join(s.Disable(now), s.Close()); err != nil {
			t.Error(err)
		}
		Enable(s.File)
	}
	close(stop)
	tenants.Wait()
	p.is(victim, 0o640, old)
	p.is(roots, 0o640, old)
	if disabled == 0 || refused == 0 {
		t.Errorf("disabled %d times, and refused %d times", disabled, refused)
	}
}
