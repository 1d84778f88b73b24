package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// shellScripts are the scripts of this tree that sh runs.
func shellScripts(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && (d.Name() == ".git" || d.Name() == "bin" && path == "../../bin") {
				return filepath.SkipDir
			}
			return err
		}
		if !d.Type().IsRegular() || filepath.Ext(path) == ".go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil && strings.HasPrefix(string(text), "#!/bin/sh\n") {
			all = append(all, path)
		}
		return err
	})
	if err != nil || len(all) < 10 {
		t.Fatalf("only %d scripts are found: %v", len(all), err)
	}
	return all
}

// The shells of Debian and of small systems understand each script.
func TestScriptsAreUnderstoodByEachShell(t *testing.T) {
	for _, shell := range [][]string{{"dash", "-n"}, {"busybox", "sh", "-n"}} {
		hosttest.Program(t, shell[0])
		for _, script := range shellScripts(t) {
			if out, err := exec.Command(shell[0], append(shell[1:], script)...).CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v\n%s", strings.Join(shell, " "), script, err, out)
			}
		}
	}
}

// What a script needs and a host lacks it names, before it touches anything.
func TestScriptsNameWhatIsMissing(t *testing.T) {
	hosttest.Program(t, "busybox")
	for _, c := range []struct{ script, missing string }{
		{"packaging/build", "go"},
		{"packaging/build", "gzip"},
		{"packaging/build", "sha256sum"},
		{"../../exim-config/install", "sluice"},
		{"../../.ci/deps", "apt-get"},
		{"../../.ci/deps", "dpkg-query"},
		{"../../.ci/root", "dpkg-deb"},
		{"../../testdata/demo/run", "unshare"},
		{"../../testdata/demo/run", "swaks"},
	} {
		// A host where every program does nothing, but one, which is not there.
		host := t.TempDir()
		busybox, _ := exec.LookPath("busybox")
		for _, tool := range []string{"sh", "dirname", "id"} {
			if err := os.Symlink(busybox, host+"/"+tool); err != nil {
				t.Fatal(err)
			}
		}
		for _, tool := range []string{"go", "git", "sed", "gzip", "date", "find", "touch", "mktemp", "sha256sum", "apt-get", "dpkg-query", "dpkg-deb",
			"tar", "flock", "exim4", "update-exim4.conf", "swaks", "perl", "unshare", "grep", "mkdir", "rm", "cp", "mv"} {
			if tool != c.missing {
				writeFile(t, host+"/"+tool, "#!"+busybox+" sh\necho "+tool+" >>"+host+"/touched\n")
				if err := os.Chmod(host+"/"+tool, 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
		script, args := c.script, []string{"sh"}
		if c.missing == "sluice" { // in a checkout that has not been built
			if err := os.MkdirAll(host+"/tree/exim-config", 0o755); err != nil {
				t.Fatal(err)
			}
			writeFile(t, host+"/tree/exim-config/install", string(read(t, script)))
			script = host + "/tree/exim-config/install"
		}
		args = append(args, script, "1.0.0", "bin/none")
		cmd := exec.Command(busybox, args...)
		cmd.Env = []string{"PATH=" + host, "HOME=" + host}
		out, err := cmd.CombinedOutput()
		if touched, _ := os.ReadFile(host + "/touched"); err == nil || !strings.Contains(string(out), c.missing) || len(touched) > 0 {
			t.Errorf("%s without %s: %v, has run %q, and says\n%s", c.script, c.missing, err, touched, out)
		}
	}
}

// read reads a file.
func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
