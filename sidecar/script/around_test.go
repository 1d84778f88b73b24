package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
)

const passwd = `root:x:0:0:root:/root:/bin/bash
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
bob:x:1001:1001:,,,:/home/bob:/bin/bash
bobby:x:1002:1002::/home/bob/by/:/bin/bash
all:x:1003:1003::/:/bin/bash
one:x:1004:1004::/home/shared:/bin/bash
two:x:1005:1005::/home/shared:/bin/bash
broken:x:1006
`

func TestWhoseAPathIs(t *testing.T) {
	for path, want := range map[string]string{
		"/home/bob/public_html/a.php": "bob", "/home/bob/by/a.php": "bobby", "/home/bobx/a.php": "", "/home/bob": "bob",
		"/var/www/a.php": "", "/root/a": "", "/etc/passwd": "", "/home/shared/a": "",
	} {
		a, err := accountOf(strings.NewReader(passwd), path)
		if err == nil && a.Name != want || err != nil && want != "" {
			t.Errorf("%s is of %+v, %v; want %q", path, a, err, want)
		}
	}
}

func TestHowSoonPHPNotices(t *testing.T) {
	php := func(lines string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(lines)} }
	for what, c := range map[string]struct {
		files fstest.MapFS
		want  Opcache
	}{
		"no PHP":     {fstest.MapFS{}, Opcache{Within: 2 * time.Second}},
		"as shipped": {fstest.MapFS{"etc/php/8.2/fpm/php.ini": php(";opcache.revalidate_freq=60\n;opcache.validate_timestamps=0\n")}, Opcache{Within: 2 * time.Second}},
		"never":      {fstest.MapFS{"etc/php/8.2/fpm/conf.d/10-opcache.ini": php("opcache.validate_timestamps = Off ; fast\n")}, Opcache{2 * time.Second, "/etc/php/8.2/fpm/conf.d/10-opcache.ini"}},
		"a pool": {fstest.MapFS{
			"opt/cpanel/ea-php82/root/etc/php-fpm.d/bob.conf": php("php_admin_value[opcache.revalidate_freq] = \"60\"\n"),
			"etc/php.ini": php("opcache.revalidate_freq=30\nopcache.validate_timestamps=1\n"),
		}, Opcache{Within: time.Minute}},
	} {
		if diff := cmp.Diff(c.want, ReadOpcache(c.files)); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
}

func TestWhatElseMayBelongToIt(t *testing.T) {
	p := newPlace(t)
	c := exec.Command(hosttest.Program(t, "sleep"), "3600")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: tenant, Gid: tenant}}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	end := hosttest.Guard(t, c.Process)
	t.Cleanup(func() { end(); c.Wait() })
	hosttest.EventuallyOr(t, func() string { return fmt.Sprintf("its process %d is not among %+v", c.Process.Pid, processes(tenant)) }, func() bool {
		return slices.ContainsFunc(processes(tenant), func(x Process) bool { return x.PID == c.Process.Pid && strings.HasSuffix(x.Command, "sleep 3600") })
	})

	cron := t.TempDir()
	p.write(filepath.Join(cron, "bob"), tenant, "# comment\n\n* * * * * php ~/a.php\nMAILTO=x\n")
	if diff := cmp.Diff([]string{"* * * * * php ~/a.php", "MAILTO=x"}, crontab([]string{"/nonexistent", cron}, "bob")); diff != "" {
		t.Error(diff)
	}
	if err := errors.Join(os.Remove(filepath.Join(cron, "bob")), os.Symlink("/etc/passwd", filepath.Join(cron, "bob"))); err != nil {
		t.Fatal(err)
	}
	if lines := crontab([]string{cron}, "bob"); lines != nil {
		t.Errorf("followed a link to %q", lines)
	}
}

// A tenant who sets the time of a file's content back cannot hide when it was put there.
func TestFilesThatHaveChanged(t *testing.T) {
	p := newPlace(t)
	began := time.Now().Add(-time.Minute)
	bad := p.write(p.path("public_html/wp/x.php"), tenant, "<?php eval(base64_decode('...'));")
	p.write(p.path("public_html/wp/y.php"), tenant, "<?php echo 1;")
	p.write(filepath.Join(p.outside, "z.php"), tenant, "<?php mail();")
	if err := os.Symlink(p.outside, p.path("public_html/out")); err != nil {
		t.Fatal(err)
	}
	names := func(found []Found, err error) (names []string) {
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			names = append(names, string(f.Path))
		}
		slices.Sort(names)
		return names
	}
	end := time.Now().Add(time.Minute)
	both := []string{bad, p.path("public_html/wp/y.php")}
	if diff := cmp.Diff(both, names(p.account.changedBetween(t.Context(), began, end, 10))); diff != "" {
		t.Error(diff)
	}
	if all, _ := p.account.changedBetween(t.Context(), began.Add(-time.Hour), began, 10); len(all) > 0 {
		t.Errorf("changed before it was written: %v", all)
	}
	if diff := cmp.Diff(both[:1], names(p.account.Candidates(t.Context(), p.path("public_html"), began, 10))); diff != "" {
		t.Error(diff)
	}
	if _, err := p.account.Candidates(t.Context(), p.path("public_html/out"), began, 10); err == nil {
		t.Error("went out of the home by a link")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.account.changedBetween(ended, began, end, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	deep := p.account.Home
	for i := range deepest + 5 {
		deep = filepath.Join(deep, fmt.Sprint(i))
		if err := os.Mkdir(deep, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(both, names(p.account.changedBetween(t.Context(), began, end, 10))); diff != "" {
		t.Error(diff)
	}
}
