package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/policyd/policytest"
)

// BenchmarkPolicyServers measures a whole node beside Debian's postfwd and
// policyd-rate-limit, each with its counting on and a limit that nobody reaches:
//
//	8 clients, kept connections ─┬─→ sluice: Exim's questions, half of them charge
//	                             ├─→ sluice, asked by Postfix ─┐
//	                             ├─→ postfwd ──────────────────┤
//	                             └─→ policyd-rate-limit ───────┴─→ Postfix's questions, all charge
func BenchmarkPolicyServers(b *testing.B) {
	dir := b.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	names := []string{"sluice", "sluice-by-Postfix", "postfwd", "policyd-rate-limit"}
	servers := []policytest.Server{
		{Network: "unix", Path: filepath.Join(dir, "policy")},
		{Network: "unix", Path: filepath.Join(dir, "policy"), Postfix: true},
		startPostfwd(b, dir),
		startRateLimit(b, dir),
	}
	benchNode(b, dir, servers[0].Path)
	for b.Loop() {
		load := policytest.Load{Clients: 8, For: 500 * time.Millisecond, Domains: 100}
		rates, err := policytest.Rates(load, servers, 9)
		if err != nil {
			b.Fatal(err)
		}
		ours := policytest.Median(rates[0])
		for i, name := range names {
			rate := policytest.Median(rates[i])
			b.Logf("%-18s %7.0f answers/s, sluice gives %.1f times as many to Exim, %.1f to Postfix", name, rate, ours/rate, policytest.Median(rates[1])/rate)
			b.ReportMetric(rate, name+"/s")
		}
	}
}

// startPostfwd starts Debian's postfwd2. It makes daemons of its own accord.
func startPostfwd(b *testing.B, dir string) policytest.Server {
	needServer(b, "postfwd2")
	rules := filepath.Join(dir, "postfwd.cf")
	benchFile(b, rules, "id=R1; protocol_state==RCPT; action=rate(sender_domain/1000000000/3600/450 4.7.1 over the limit)\n")
	server := policytest.Server{Network: "tcp", Path: fmt.Sprintf("127.0.0.1:%d", hosttest.FreePort(b)), Postfix: true}
	_, port, err := net.SplitHostPort(server.Path)
	if err != nil {
		b.Fatal(err)
	}
	startServer(b, server, "postfwd2", "-f", rules, "-i", "127.0.0.1", "-p", port, "-u", "nobody", "-g", "nogroup",
		"--pidfile", filepath.Join(dir, "postfwd.pid"), "--cache_socket", fmt.Sprintf("tcp:127.0.0.1:%d", hosttest.FreePort(b)), "--nodns")
	return server
}

func startRateLimit(b *testing.B, dir string) policytest.Server {
	needServer(b, "policyd-rate-limit")
	config := filepath.Join(dir, "ratelimit.yaml")
	server := policytest.Server{Network: "unix", Path: filepath.Join(dir, "ratelimit"), Postfix: true}
	benchFile(b, config, fmt.Sprintf(rateLimitConfig, dir, server.Path))
	startServer(b, server, "policyd-rate-limit", "--file", config)
	return server
}

// rateLimitConfig is Debian's /etc/policyd-rate-limit.yaml but for what is in
// here: no debug log, another place, a high limit.
const rateLimitConfig = `
debug: False
user: "root"
group: "root"
pidfile: "%[1]s/ratelimit.pid"
sqlite_config:
    database: "%[1]s/ratelimit.sqlite3"
backend: 0
SOCKET: "%[2]s"
socket_permission: 0666
limits:
    - [1000000000, 3600]
limits_by_id: {}
limit_by_sasl: True
limit_by_sender: False
limit_by_ip: False
limited_networks: []
success_action: "dunno"
fail_action: "defer_if_permit over the limit"
db_error_action: "dunno"
report: False
delay_to_close: 300
`

// needServer skips where the other server is not installed: it is there to be
// compared with, and no part of Sluice.
func needServer(b *testing.B, program string) {
	b.Helper()
	if _, err := exec.LookPath(program); err != nil {
		b.Skipf("%s is not installed; .ci/deps bench installs it", program)
	}
	if os.Getuid() != 0 {
		b.Skip("only root can start the other servers so that none is left")
	}
}

// startServer starts a command and waits until it listens. It runs in a process
// namespace, for daemons to end with the bench.
func startServer(b *testing.B, s policytest.Server, args ...string) {
	b.Helper()
	cmd := exec.Command("unshare", append([]string{"--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", "-c", `"$@" & exec cat`, "sh"}, args...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	for end := time.Now().Add(hosttest.Patience()); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial(s.Network, s.Path)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			b.Fatalf("%s does not listen: %v", args[0], err)
		}
	}
}

func benchFile(b *testing.B, name, text string) {
	b.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}
