package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/exim"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/policyd"
)

// A served is a `sluice serve` in this process, with its own directories.
type servedNode struct {
	dir  string
	log  *hosttest.Log
	stop func() int // like SIGTERM; returns the exit code
}

// serveConfig is a limit of 10 an hour, with all files in a directory, and no Exim: neither its program
// nor its log, which may or may not be there.
func serveConfig(dir string) string {
	return fmt.Sprintf(`alert.to = []
[listen]
policy = ["unix:%[1]s/run/policy.sock"]
admin = "unix:%[1]s/run/admin.sock"
[store]
node = "mx1.example"
dir = "%[1]s/ledger"
[locks]
dir = "%[1]s/locks"
[exim]
binary = "/nonexistent"
mainlog = ""
local_domains = ["here.example"]
[limits]
hourly = 10
`, dir)
}

// startServe serves a limit of 10 an hour from a directory.
func startServe(t *testing.T, dir string) *servedNode {
	return startServeWith(t, dir, serveConfig(dir))
}

func startServeWith(t testing.TB, dir, config string) *servedNode {
	t.Helper()
	writeFile(t, dir+"/sluice.toml", config)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	n := &servedNode{dir: dir, log: &hosttest.Log{}}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"serve", "--config", dir + "/sluice.toml"}, strings.NewReader(""), &bytes.Buffer{}, n.log)
	}()
	n.stop = sync.OnceValue(func() int { cancel(); return <-code })
	t.Cleanup(func() { n.stop() })
	hosttest.Eventually(t, "serving", func() bool {
		select {
		case c := <-code:
			code <- c
			t.Fatalf("serve ended with %d:\n%s", c, n.log)
		default:
		}
		return strings.Contains(n.log.String(), "msg=serving")
	})
	return n
}

// sluice runs another command against the node.
func (n *servedNode) sluice(t testing.TB, args ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	args = append(args, "--config", n.dir+"/sluice.toml")
	code := run(t.Context(), args, strings.NewReader(""), &out, &out)
	return out.String(), code
}

// send asks to charge a message of example.com with one recipient.
func (n *servedNode) send(t *testing.T, number int) (accepted bool) {
	t.Helper()
	reply, err := n.ask("example.com", int64(number), "data")
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(reply, "action=DUNNO")
}

func (n *servedNode) sendAll(t *testing.T, from, to int) (accepted int) {
	t.Helper()
	for i := from; i < to; i++ {
		if n.send(t, i) {
			accepted++
		}
	}
	return accepted
}

func TestARestartHandsOutANewBudget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := startServe(t, dir)
	if got := n.sendAll(t, 0, 4); got != 4 {
		t.Fatalf("%d of 4 accepted", got)
	}
	if code := n.stop(); code != exitDone {
		t.Fatalf("exit %d:\n%s", code, n.log)
	}
	for _, step := range []string{"stopping", "stopped: the sockets", "stopped: locks and releases", "saved: the counts"} {
		if !strings.Contains(n.log.String(), step) {
			t.Errorf("the log does not say %q:\n%s", step, n.log)
		}
	}
	n = startServe(t, dir)
	if got := n.sendAll(t, 4, 20); got != 6 {
		t.Errorf("%d accepted after the restart, want 6", got)
	}
}

func TestLimitLockAndRelease(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	if got := n.sendAll(t, 0, 12); got != 10 {
		t.Fatalf("%d accepted, want 10", got)
	}
	lock := n.dir + "/locks/max_hourly_example.com"
	hosttest.Eventually(t, "the lock file", func() bool { b, _ := os.ReadFile(lock); return strings.Contains(string(b), "10/10 (100%)") })
	if out, _ := n.sluice(t, "status", "example.com"); !strings.Contains(out, "10 of 10 in the last hour (100%)") ||
		!strings.Contains(out, "max_hourly by sluice") {
		t.Errorf("status:\n%s", out)
	}
	n.wantRun(t, exitError, "status: the name is empty; leave it out to see all", "status", "")
	if out, code := n.sluice(t, "unlock", "example.com"); code != exitDone {
		t.Errorf("unlock: exit %d: %s", code, out)
	}
	if _, err := os.Stat(lock); err == nil {
		t.Error("the lock file stands after unlock")
	}
	if !n.send(t, 50) {
		t.Error("refused after unlock")
	}
	if out, code := n.sluice(t, "lock", "example.com"); code != exitDone {
		t.Errorf("lock: exit %d: %s", code, out)
	}
	if n.send(t, 51) {
		t.Error("accepted after lock")
	}
	if err := os.Remove(lock); err != nil {
		t.Error(err)
	}
	hosttest.Eventually(t, "the release", func() bool { return n.send(t, 52) })
}

func TestServeSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startServe(t, dir) // has the ledger and the sockets
	writeFile(t, dir+"/other.toml", fmt.Sprintf("[listen]\npolicy = [\"unix:%[1]s/p\"]\nadmin = \"unix:%[1]s/a\"\n"+
		"[store]\ndir = \"%[1]s/ledger\"\n[locks]\ndir = \"%[1]s/locks\"\n[exim]\nbinary = \"/nonexistent\"\n", dir))
	writeFile(t, dir+"/redis.toml", "[store]\nurl = \"redis-sentinel://127.0.0.1\"\n"+fmt.Sprintf("dir = \"%s/ledger3\"\n", dir))
	writeFile(t, dir+"/bad.toml", "[limits]\nhourley = 5\n")
	writeFile(t, dir+"/admin.toml", strings.NewReplacer("/ledger", "/ledger2", "policy.sock", "policy2.sock").Replace(serveConfig(dir)))
	for file, want := range map[string]string{
		"admin.toml": "a server answers there; is sluice running already?",
		"other.toml": "another sluice has it",
		"redis.toml": "redis.toml:2: store.url: redis-sentinel:// needs the name of the master after the hosts",
		"bad.toml":   `did you mean "hourly"?`,
		"none.toml":  "no such file",
	} {
		var out bytes.Buffer
		code := run(t.Context(), []string{"serve", "--config", dir + "/" + file}, strings.NewReader(""), &out, &out)
		if code != exitError || !strings.Contains(out.String(), want) || strings.Contains(out.String(), "saved") {
			t.Errorf("%s: exit %d, want %q:\n%s", file, code, want, out.String())
		}
	}
}

// textLog logs into a buffer as serve does.
func textLog(b *hosttest.Log) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// Whoever makes up names until store.max_subjects is reached pushes out nobody whom an
// operator names: in the file, live, or in the owner map.
func TestNamedDomainsAreCountedPastTheCeiling(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, dir+"/owners", "owned.example: alice\n")
	config := strings.Replace(serveConfig(dir), "[store]", fmt.Sprintf("[identity]\nowners = %q\n[store]\nmax_subjects = 1", dir+"/owners"), 1)
	n := startServeWith(t, dir, config+"[limits.domain.\"file.example\"]\nhourly = 5\n")
	if out, code := n.sluice(t, "set", "live.example", "hourly=5"); code != 0 {
		t.Fatal(out)
	}
	send := func(domain string) {
		n.sluice(t, "check", "--stage", "data", "--id", "1xUzSN-000001-0q", "--auth", "x@"+domain, "--recipients", domain+"@far.example")
	}
	send("made-up-1.example")
	for domain, counted := range map[string]bool{"made-up-2.example": false, "owned.example": true, "file.example": true, "live.example": true} {
		send(domain)
		if out, code := n.sluice(t, "status", domain, "--json"); (code == 0) != counted || strings.Contains(out, `"sent": 1`) != counted {
			t.Errorf("%s counted: %v\n%s", domain, !counted, out)
		}
	}
}

// An Exim without Perl asks on TCP, with a token.
func TestServeTCP(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	address := fmt.Sprintf("127.0.0.1:%d", hosttest.FreeRootPort(t))
	writeFile(t, dir+"/token", "0123456789abcdef\n")
	if err := os.Chmod(dir+"/token", 0o640); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(serveConfig(dir), "policy = [", fmt.Sprintf("token_file = %q\npolicy = [\"tcp:%s\", ", dir+"/token", address), 1)
	c, err := config.Parse("s.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	n, err := openNode(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- n.run(ctx) }()
	client := policyd.Client{Network: "tcp", Path: address, Token: "0123456789abcdef", Timeout: hosttest.Patience()}
	if err := askSelf(ctx, client); err != nil {
		t.Error(err)
	}
	client.Token = "0123456789abcdee"
	if err := askSelf(ctx, client); err == nil {
		t.Error("answered without the right token")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWithoutEximsUserItSaysWhatThatMeans(t *testing.T) {
	var log bytes.Buffer
	mailUIDs(exim.Exim{Binary: "/nonexistent"}, event.NewLog(slog.New(slog.NewTextHandler(&log, nil))))
	if !strings.Contains(log.String(), "set exim.binary") {
		t.Errorf("log: %s", log.String())
	}
}
