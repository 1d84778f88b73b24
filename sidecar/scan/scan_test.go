package scan

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/script"
)

func TestMain(m *testing.M) {
	hosttest.UsualModes()
	hosttest.Shuffle()
	goleak.VerifyTestMain(m)
}

// tenant is a uid of nobody on this host.
const tenant = 47120

// eicar is what every scanner takes for a virus, and harmless.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// A place is a home, and signatures of our own.
type place struct {
	t    *testing.T
	dir  string
	home string
	o    Options
}

func newPlace(t *testing.T) *place {
	hosttest.Root(t)
	hosttest.Program(t, "clamscan")
	dir := hosttest.OpenDir(t)
	p := &place{t: t, dir: dir, home: filepath.Join(dir, "home/bob")}
	p.o = Options{Account: script.Account{Name: "bob", UID: tenant, GID: tenant, Home: p.home}, Dir: p.home,
		Database: filepath.Join(dir, "db"), Clamd: filepath.Join(dir, "clamd.conf"), Progress: func(Progress) {}}
	err := errors.Join(os.MkdirAll(filepath.Join(p.home, "sub"), 0o755), os.Mkdir(p.o.Database, 0o755))
	hdb := fmt.Sprintf("%x:%d:Eicar\n", md5.Sum([]byte(eicar)), len(eicar))
	ndb := fmt.Sprintf("Php.Mailer:0:*:%x\n", "sluice test mailer")
	err = errors.Join(err, os.WriteFile(p.o.Database+"/own.hdb", []byte(hdb), 0o644), os.WriteFile(p.o.Database+"/own.ndb", []byte(ndb), 0o644),
		os.WriteFile(p.o.Clamd, fmt.Appendf(nil, "LocalSocket %s/clamd.sock\nLocalSocketMode 666\nDatabaseDirectory %s\nForeground yes\nUser root\n", dir, p.o.Database), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// write writes a file of the tenant's.
func (p *place) write(rel, text string) script.Path {
	p.t.Helper()
	path := filepath.Join(p.home, rel)
	err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600), os.Chown(path, tenant, tenant))
	if err != nil {
		p.t.Fatal(err)
	}
	return script.Path(path)
}

// fill writes files with and without malware, and returns what is to be found.
func (p *place) fill() (want []Finding) {
	want = []Finding{
		{p.write("eicar.php", eicar), "Eicar.UNOFFICIAL"},
		{p.write("sub/a: b FOUND.php", eicar), "Eicar.UNOFFICIAL"},
		{p.write("sub/two\nlines.php", "<?php // sluice test mailer"), "Php.Mailer.UNOFFICIAL"},
		// It names another file, which has nothing.
		{p.write("x\n"+p.home+"/good.php", eicar), "Eicar.UNOFFICIAL"},
		{p.write("y\n/etc/passwd", eicar), "Eicar.UNOFFICIAL"},
	}
	p.write("good.php", "<?php echo 1;")
	outside := filepath.Join(p.dir, "outside.php")
	err := errors.Join(os.WriteFile(outside, []byte(eicar), 0o644), os.Symlink(outside, filepath.Join(p.home, "link.php")),
		os.WriteFile(filepath.Join(p.home, "roots.php"), []byte(eicar), 0o600)) // which the tenant cannot read
	if err != nil {
		p.t.Fatal(err)
	}
	return want
}

func (p *place) found(program string, want []Finding) {
	p.t.Helper()
	r, err := Run(p.t.Context(), time.Now(), p.o)
	if err != nil {
		p.t.Fatal(err)
	}
	slices.SortFunc(r.Findings, func(a, b Finding) int { return strings.Compare(string(a.Path), string(b.Path)) })
	slices.SortFunc(want, func(a, b Finding) int { return strings.Compare(string(a.Path), string(b.Path)) })
	if diff := cmp.Diff(want, r.Findings); diff != "" || r.Program != program || r.Files < 6 || r.Unbelieved != 0 {
		p.t.Errorf("%+v: %s", r, diff)
	}
}

func TestMalwareIsFound(t *testing.T) {
	p := newPlace(t)
	p.found("clamscan", p.fill())
}

// Run -> clamdscan as the tenant -> descriptors -> clamd
func TestMalwareIsFoundByClamd(t *testing.T) {
	p := newPlace(t)
	want := p.fill()
	c := exec.Command(hosttest.Program(t, "clamd"), "--config-file="+p.o.Clamd)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	end := hosttest.Guard(t, c.Process)
	t.Cleanup(func() { end(); c.Wait() })
	socket := filepath.Join(p.dir, "clamd.sock")
	hosttest.Eventually(t, "the tenant may ask clamd", func() bool { // its socket is there sooner
		info, err := os.Stat(socket)
		if err != nil || info.Mode().Perm() != 0o666 {
			return false
		}
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	p.found("clamdscan", want)
}

// What has changed lately comes first, and a scan that is cut short keeps what it has found.
func TestAScanIsCutShort(t *testing.T) {
	p := newPlace(t)
	want := Finding{p.write("eicar.php", eicar), "Eicar.UNOFFICIAL"}
	ctx, cancel := context.WithCancelCause(t.Context())
	p.o.Progress = func(at Progress) {
		if !at.Recent {
			t.Errorf("what has changed lately was not first: %+v", at)
		}
		cancel(errors.New("enough"))
	}
	r, err := Run(ctx, time.Now(), p.o)
	if err != nil || r.Interrupted != "enough" || !slices.Equal(r.Findings, []Finding{want}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWhatIsOldIsScannedLast(t *testing.T) {
	p := newPlace(t)
	p.write("eicar.php", eicar)
	p.o.Progress = func(at Progress) {
		if at.Recent {
			t.Errorf("what is old was scanned first: %+v", at)
		}
	}
	if r, err := Run(t.Context(), time.Now().Add(Recent+time.Hour), p.o); err != nil || len(r.Findings) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestClamAVWithoutSignatures(t *testing.T) {
	p := newPlace(t)
	p.write("eicar.php", eicar)
	p.o.Database += "/missing"
	if r, err := Run(t.Context(), time.Now().Add(Recent+time.Hour), p.o); err == nil || !strings.Contains(err.Error(), "status 2") {
		t.Errorf("%+v, %v", r, err)
	}
}

// The tenant's own programs can end the scanner: then nothing is known of what it has not read.
func TestAScannerThatIsKilled(t *testing.T) {
	p := newPlace(t)
	want := Finding{p.write("eicar.php", eicar), "Eicar"}
	program := filepath.Join(p.dir, "clamscan")
	if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\necho '%s: Eicar FOUND'\nkill -KILL $$\n", want.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", p.dir+":"+os.Getenv("PATH"))
	r, err := Run(t.Context(), time.Now(), p.o)
	if !errors.Is(err, ErrKilled) || r.Interrupted == "" || !slices.Equal(r.Findings, []Finding{want}) {
		t.Errorf("%+v, %v", r, err)
	}
}

// The scanner has the rights of the tenant, and no way to more.
func TestTheScannerIsConfined(t *testing.T) {
	p := newPlace(t)
	s := &scanner{Options: p.o}
	out, err := s.run(t.Context(), []string{"sh", "-c", "id -u; id -G; grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status; nice; ionice; ulimit -v"}).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := "47120\n47120\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n19\nidle\n4194304\n"
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
}

func TestLinesOfAScannerThatLies(t *testing.T) {
	p := newPlace(t)
	good := p.write("good.php", "x")
	if err := os.Symlink("good.php", filepath.Join(p.home, "link.php")); err != nil {
		t.Fatal(err)
	}
	s := &scanner{Options: p.o}
	for _, line := range []string{
		"/etc/passwd: X FOUND", p.home + "/missing.php: X FOUND", p.home + "/link.php: X FOUND", p.home + "/sub: X FOUND",
		p.home + "/../../home/bob/good.php: X FOUND", "FOUND", " FOUND", "good.php: X FOUND",
	} {
		s.line(line)
	}
	if len(s.report.Findings) != 0 || s.report.Unbelieved != 7 {
		t.Errorf("%+v", s.report)
	}
	for range 40 {
		s.line("noise")
	}
	s.line(string(good) + ": X FOUND")
	if want := []Finding{{good, "X"}}; !slices.Equal(s.report.Findings, want) {
		t.Errorf("%+v", s.report)
	}
}
