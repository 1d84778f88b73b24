package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// everything is what all commands print that read the configuration or ask the node.
func (n *servedNode) everything(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, command := range []string{"status", "status --json", "status example.com", "doctor", "doctor --json", "config", "config --json",
		"config --check", "config --check --json", "config --running", "config --running --json", "explain example.com", "explain example.com --json",
		"history", "history --json", "history --export", "history --export --left", "version --running", "check --stage rcpt --sender a@example.com"} {
		out, code := n.sluice(t, strings.Fields(command)...)
		fmt.Fprintf(&all, "$ sluice %s (%d)\n%s\n", command, code, out)
	}
	return all.String() + n.log.String()
}

// B-03: the password of store.url is never printed: neither while all is well, nor when
// the file gets a URL with a mistake, nor when serve does not start for it.
//
//	sluice.toml (url with a password) ─→ sluice serve ─→ Redis (requirepass)
//	                └─ every command ─→ what it prints
func TestThePasswordIsNeverPrinted(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	r.Do("config", "set", "requirepass", "Top/Secret#99")
	r.Password = "Top/Secret#99"
	url := func(password string) string { return strings.Replace(r.URL(), "//", "//:"+password+"@", 1) }
	dir := t.TempDir()
	n := startServeWith(t, dir, clusterConfig(dir, "mx1.example", url("Top%2FSecret%2399")))
	n.send(t, 1)
	n.eventuallySays(t, `"mode": "shared"`, "status", "--json")
	if out, code := n.sluice(t, "set", "example.com", "hourly=7"); code != exitDone {
		t.Fatalf("set: exit %d: %s", code, out)
	}
	clean := func(when, said string) {
		t.Helper()
		for line := range strings.Lines(said) {
			if strings.Contains(line, "Secret") {
				t.Errorf("%s: it says %s", when, line)
			}
		}
	}
	said := n.everything(t)
	clean("all well", said)
	for _, want := range []string{":***@127.0.0.1", "(mode 0644), which has the password of store.url in it"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if err := os.Chmod(dir+"/sluice.toml", 0o640); err != nil {
		t.Fatal(err)
	}
	if out, _ := n.sluice(t, "doctor"); !strings.Contains(out, "not everybody may read") {
		t.Errorf("doctor of a file of mode 0640: %s", out)
	}

	writeFile(t, dir+"/sluice.toml", strings.Replace(clusterConfig(dir, "mx1.example", "URL"), `"URL"`, "'"+url("Top/Secret#99")+"'", 1))
	n.eventuallySays(t, "is not in force as it is now", "status")
	said = n.everything(t)
	clean("with a mistake", said)
	if got := strings.Count(said, "the user or password has characters that must be percent-encoded"); got < 6 {
		t.Errorf("the reason is said %d times:\n%s", got, said)
	}

	writeFile(t, dir+"/sluice.toml", clusterConfig(dir, "mx1.example", url("Wrong%2FSecret")))
	n.stop()
	n = startServeWith(t, dir, clusterConfig(dir, "mx1.example", url("Wrong%2FSecret")))
	n.eventuallySays(t, "WRONGPASS", "status")
	clean("with another password", n.everything(t))
}

// store.url_file: the node shares its counts, and nobody is shown the URL; a file that
// others may read is refused.
func TestTheStoreURLInAFile(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	r.Do("config", "set", "requirepass", "Secret99")
	dir := t.TempDir()
	file := filepath.Join(dir, "redis.url")
	writeFile(t, file, strings.Replace(r.URL(), "//", "//:Secret99@", 1)+"\n")
	config := strings.Replace(clusterConfig(dir, "mx1.example", file), "\nurl = ", "\nurl_file = ", 1)
	writeFile(t, dir+"/sluice.toml", config)
	refused := func(command ...string) {
		t.Helper()
		var out bytes.Buffer
		run(t.Context(), append(command, "--config", dir+"/sluice.toml"), strings.NewReader(""), &out, &out)
		if !strings.Contains(out.String(), "store.url_file: "+file+": others must not be able to read or write it") {
			t.Errorf("%s: %s", command, out.String())
		}
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	refused("serve")
	refused("config", "--check")
	refused("doctor")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	n := startServeWith(t, dir, config)
	hosttest.Eventually(t, "shared", func() bool { return n.whole(t).Totals.Shared.Mode == "shared" })
	said := n.everything(t)
	if strings.Contains(said, "Secret99") || !strings.Contains(said, "# "+file) {
		t.Errorf("it says\n%s", said)
	}
}
