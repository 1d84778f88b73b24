package eximconfig_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/admin"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
)

// What `sluice doctor` says of a real host on which one thing is broken:
//
//	doctor ─→ exim -bP, -be as root and as Exim's user ─→ sluice
//	   ├────→ sluice: status, configuration in force, version
//	   └────→ lock directory, main log, owner map

// A finding is one of doctor's.
type finding struct{ Check, State, Found, Do string }

// doctor asks for the findings that are not ok, and the exit code.
func (h *host) doctor(t testing.TB) (found []finding, code int) {
	t.Helper()
	out, code := h.try(t, h.sluice(t, "doctor", "--json")...)
	var said struct {
		Healthy  bool
		Findings []finding
	}
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&said); err != nil {
		t.Fatalf("doctor: %v\n%s", err, out)
	}
	if said.Healthy != (code == 0) {
		t.Errorf("healthy is %v, and the exit code %d", said.Healthy, code)
	}
	return slices.DeleteFunc(said.Findings, func(f finding) bool { return f.State == "ok" }), code
}

// healthyHost is one on which doctor finds nothing wrong: what Exim delivers
// itself is in exim.local_domains, and Exim has logged.
func healthyHost(t *testing.T, way string) (*host, *process) {
	t.Helper()
	h := newHostOf(t, "debian", way)
	h.startExim(t)
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return h, h.startSluice(t, fmt.Sprintf("[postfix]\nlocal_domains = [\"localhost\", %q]\n", name))
}

func TestDoctorIsContentWithAHealthyHost(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"perl", "tcp", "run"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h, _ := healthyHost(t, way)
			found, code := h.doctor(t)
			for _, f := range found {
				if f.State != "note" || f.Check != "owner map" && f.Check != "clock" && f.Check != "alerts" && f.Check != "logins" {
					t.Errorf("finds %+v", f)
				}
			}
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			if got := h.sent(t); len(got) != 0 {
				t.Errorf("asking has charged: %+v", got)
			}
			if got := len(h.queue()); got != 0 {
				t.Errorf("%d messages in the queue", got)
			}
		})
	}
}

// A breakage goes wrong on a healthy host.
type breakage struct {
	name  string
	way   string // perl if empty
	host  int    // those of one number, of different checks, are tried on one host; 0: on its own
	harm  func(t *testing.T, h *host, serve *process)
	check string // finds it
	says  string // of what it says
}

var breakages = []breakage{
	{name: "sluice does not run", check: "serve", says: "systemctl start sluice",
		harm: func(t *testing.T, _ *host, serve *process) { serve.stop(t, "TERM") }},
	{name: "another program was installed", check: "serve", says: "was replaced",
		harm: func(t *testing.T, h *host, serve *process) {
			serve.stop(t, "TERM")
			path, err := buildSluice()
			if err != nil {
				t.Fatal(err)
			}
			h.run(t, "cp", path, "/run/old-sluice")
			h.start(t, "/run/old-sluice", "--config", "/run/sluice.toml", "serve")
			hosttest.Eventually(t, "it serves", func() bool {
				return h.ask(t, func(ctx context.Context, c *admin.Client) error { _, err := c.Version(ctx); return err }) == nil
			})
			h.run(t, "rm", "/run/old-sluice")
		}},
	{name: "the file was broken", check: "configuration", says: "sluice.toml:",
		harm: func(t *testing.T, h *host, _ *process) {
			h.write(t, "/run/sluice.toml", h.read("/run/sluice.toml")+"[limits]\nhourly = -1\n")
		}},
	{name: "the file was changed after the start", check: "configuration in force", says: "locks.dir",
		harm: func(t *testing.T, h *host, _ *process) {
			h.run(t, "ln", "-s", "email_send_limits", "/run/other_limits")
			h.write(t, "/run/sluice.toml", strings.Replace(h.read("/run/sluice.toml"), lockDir, "/run/other_limits", 1))
		}},
	{name: "the socket is closed to Exim's user", host: 1, check: "asking", says: "permission denied",
		harm: func(t *testing.T, h *host, _ *process) { h.run(t, "chmod", "600", policySocket) }},
	{name: "the folder of the socket is closed to Exim's user", host: 2, check: "asking", says: "permission denied",
		harm: func(t *testing.T, h *host, _ *process) { h.run(t, "chmod", "700", filepath.Dir(policySocket)) }},
	{name: "Exim asks elsewhere", host: 3, check: "asking", says: "/run/elsewhere.sock",
		harm: func(t *testing.T, h *host, _ *process) { h.addMacros(t, "SLUICE_SOCKET = /run/elsewhere.sock") }},
	{name: "Perl did not load our client", host: 4, check: "asking", says: "has not loaded sluice.pl",
		harm: func(t *testing.T, h *host, _ *process) { h.addMacros(t, "SLUICE_SITE_PERL = yes") }},
	{name: "Exim asks at another port", host: 5, way: "tcp", check: "asking", says: "127.0.0.1:1",
		harm: func(t *testing.T, h *host, _ *process) {
			macros := "/etc/exim4/host_macros"
			h.write(t, macros, strings.ReplaceAll(h.read(macros), fmt.Sprint(":", h.tcpPort), ":1"))
		}},
	{name: "Exim cannot read the token", host: 6, way: "tcp", check: "asking", says: "cannot read the token",
		harm: func(t *testing.T, h *host, _ *process) { h.run(t, "chmod", "600", "/etc/sluice/token") }},
	{name: "Exim has another token", way: "tcp", check: "asking", says: "token",
		harm: func(t *testing.T, h *host, _ *process) {
			h.write(t, "/run/token", "0123456789abcdef0123456789abcdef\n")
			h.addMacros(t, "SLUICE_TOKEN_FILE = /run/token")
		}},
	{name: "a router comes before ours", host: 1, check: "routers", says: "must come first",
		harm: func(t *testing.T, h *host, _ *process) {
			h.write(t, "/etc/exim4/conf.d/router/00_own", "own:\n  driver = accept\n  domains = own.example\n  transport = remote_smtp\n")
			h.run(t, "update-exim4.conf")
		}},
	{name: "sendmail is not asked about", host: 2, check: "ACLs", says: "acl_not_smtp",
		harm: func(t *testing.T, h *host, _ *process) {
			file := "/etc/exim4/conf.d/main/00_sluice_debian"
			h.write(t, file, strings.Replace(h.read(file), "acl_not_smtp = acl_sluice_not_smtp", "", 1))
			h.run(t, "update-exim4.conf")
		}},
	{name: "Exim does not load", check: "Exim", says: "does not load its configuration",
		harm: func(t *testing.T, h *host, _ *process) {
			h.write(t, "/var/lib/exim4/config.autogenerated", "nonsense = yes\n")
		}},
	{name: "a transport has a name of its own", host: 3, check: "transports", says: "outbound",
		harm: func(t *testing.T, h *host, _ *process) {
			h.write(t, "/etc/exim4/conf.d/transport/50_own", "outbound:\n  driver = smtp\n")
			h.run(t, "update-exim4.conf")
		}},
	{name: "a domain of Exim's is not in the list", host: 4, check: "local domains", says: "third.example",
		harm: func(t *testing.T, h *host, _ *process) {
			h.addMacros(t, "MAIN_LOCAL_DOMAINS = @ : localhost : here.example : third.example")
		}},
	{name: "Exim looks elsewhere for locks", host: 3, check: "lock directory", says: "SLUICE_LOCKS = " + lockDir,
		harm: func(t *testing.T, h *host, _ *process) {
			h.run(t, "mkdir", "/run/other_limits")
			h.write(t, "/etc/exim4/host_macros", strings.Replace(h.read("/etc/exim4/host_macros"), lockDir, "/run/other_limits", 1))
		}},
	{name: "Exim has no macro of the lock directory", host: 4, check: "lock directory", says: "no SLUICE_LOCKS",
		harm: func(t *testing.T, h *host, _ *process) {
			h.write(t, "/etc/exim4/host_macros", strings.Replace(h.read("/etc/exim4/host_macros"), "SLUICE_LOCKS = "+lockDir+"\n", "", 1))
			macros := "/etc/exim4/conf.d/main/00_sluice_macros"
			block := ".ifndef SLUICE_LOCKS\nSLUICE_LOCKS = /var/cpanel/email_send_limits\n.endif\n"
			if !strings.Contains(h.read(macros), block) {
				t.Fatalf("%s does not define SLUICE_LOCKS any more", macros)
			}
			h.write(t, macros, strings.Replace(h.read(macros), block, "", 1))
			h.run(t, "update-exim4.conf")
		}},
	{name: "the lock directory cannot be written to", host: 5, check: "lock directory", says: "read-only file system",
		harm: func(t *testing.T, h *host, _ *process) {
			h.run(t, "mount", "--bind", lockDir, lockDir)
			h.run(t, "mount", "-o", "remount,bind,ro", lockDir)
		}},
	{name: "everybody may make locks", host: 1, check: "lock directory", says: "chmod o-w",
		harm: func(t *testing.T, h *host, _ *process) { h.run(t, "chmod", "777", lockDir) }},
	{name: "Exim cannot see locks", host: 2, check: "lock directory", says: "cannot look into",
		harm: func(t *testing.T, h *host, _ *process) { h.run(t, "chmod", "700", lockDir) }},
	{name: "there is no lock directory", host: 6, check: "lock directory", says: "mkdir -p",
		harm: func(t *testing.T, h *host, serve *process) {
			h.run(t, "rm", "-r", lockDir)
			h.write(t, lockDir, "a file in its place")
		}},
	{name: "Exim logs elsewhere", host: 1, check: "main log", says: `exim.mainlog = "/var/log/exim4/other-mainlog"`,
		harm: func(t *testing.T, h *host, _ *process) {
			h.run(t, "sed", "-i", `s|^\[exim\]|&\nmainlog = "/var/log/exim4/mainlog"|`, "/run/sluice.toml") // else sluice takes it from Exim
			h.addMacros(t, "log_file_path = /var/log/exim4/other-%slog")
		}},
	{name: "the log is gone", host: 2, check: "main log", says: "no such file",
		harm: func(t *testing.T, h *host, _ *process) { h.run(t, "rm", "/var/log/exim4/mainlog") }},
	{name: "the log cannot be followed", host: 3, check: "main log", says: "no regular file",
		harm: func(t *testing.T, h *host, _ *process) {
			h.run(t, "sh", "-c", "rm /var/log/exim4/mainlog && mkdir /var/log/exim4/mainlog")
			hosttest.Eventually(t, "sluice has seen it", func() bool {
				return slices.ContainsFunc(h.all(t).Totals.Logs, func(l logline.Progress) bool { return strings.Contains(l.Trouble, "no regular file") })
			})
		}},
	{name: "the log is of another time zone", host: 4, check: "main log", says: "another zone",
		harm: func(t *testing.T, h *host, _ *process) {
			line := time.Now().UTC().Add(2*time.Hour).Format("2006-01-02 15:04:05 ") + "1xUzSN-0005dd-0q Completed"
			h.run(t, "sh", "-c", "echo '"+line+"' >> /var/log/exim4/mainlog") // to write it anew would look like another log
		}},
	{name: "a line of the owner map is malformed", host: 4, check: "owner map", says: "shop.example bob",
		harm: func(t *testing.T, h *host, _ *process) {
			h.write(t, "/etc/userdomains", "fine.example: bob\nshop.example bob\n")
		}},
}

// Several things are wrong at once on most hosts here; in `make soak` each is on its
// own. Doctor finds them all, and nothing else.
func TestDoctorFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	for i, b := range breakages {
		all := []breakage{b}
		if b.host > 0 && !hosttest.Soak() {
			same := func(o breakage) bool { return o.host == b.host }
			if slices.IndexFunc(breakages, same) < i {
				continue
			}
			all = slices.DeleteFunc(slices.Clone(breakages), func(o breakage) bool { return !same(o) })
		}
		var names []string
		for _, b := range all {
			names = append(names, b.name)
		}
		t.Run(strings.Join(names, ", "), func(t *testing.T) {
			t.Parallel()
			isBroken(t, all)
		})
	}
}

func isBroken(t *testing.T, all []breakage) {
	way := ""
	for _, b := range all {
		way = cmp.Or(way, b.way)
	}
	h, serve := healthyHost(t, cmp.Or(way, "perl"))
	says := map[string]string{} // by check
	for _, b := range all {
		b.harm(t, h, serve)
		says[b.check] = b.says
	}
	found, code := h.doctor(t)
	found = slices.DeleteFunc(found, func(f finding) bool { return f.State == "note" })
	if len(found) != len(all) || code != 1 {
		t.Fatalf("exit code %d, and not %d findings but %+v", code, len(all), found)
	}
	for _, f := range found {
		if says[f.Check] == "" || !strings.Contains(f.Found+" "+f.Do, says[f.Check]) || f.Do == "" {
			t.Errorf("%q is not in %+v", says[f.Check], f)
		}
		delete(says, f.Check)
	}
}

// Where nothing can be asked, the exit code is 2.
func TestDoctorThatCannotAsk(t *testing.T) {
	t.Parallel()
	h, _ := healthyHost(t, "perl")
	if out, code := h.try(t, h.sluice(t, "--config", "/run/none.toml", "doctor")...); code != 2 || !strings.Contains(out, "none.toml") {
		t.Errorf("without its file: exit %d\n%s", code, out)
	}
	path, err := buildSluice()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	h.run(t, "cp", path, "/run/sluice-bin")
	if out, code := h.as(t, alice, "").try(t, "", "/run/sluice-bin", "--config", "/run/sluice.toml", "doctor"); code != 2 || !strings.Contains(out, "only root") {
		t.Errorf("as an ordinary user: exit %d\n%s", code, out)
	}
	for _, command := range []string{"actions", "clean news@example.com", "queue quarantine example.com", "login suspend news@example.com", "exim install", "exim show"} {
		args := append([]string{"/run/sluice-bin", "--config", "/run/sluice.toml"}, strings.Fields(command)...)
		if out, code := h.as(t, alice, "").try(t, "", args...); code == 0 || strings.Count(out, "only root") != 1 {
			t.Errorf("%s as an ordinary user: exit %d\n%s", command, code, out)
		}
	}
}
