package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
	"sluice/sidecar/operator"
	"sluice/sidecar/policyd"
)

// TestMain is `sluice check` too, which doctor runs as Exim's user.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "check" {
		client := policyd.Client{Path: os.Args[3]} // behind --socket
		if _, err := client.Ask(context.Background(), []policyd.Field{{Name: "stage", Value: "rcpt"}}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	time.Local = time.UTC // as the Exim of these tests has it
	hosttest.UsualModes()
	hosttest.Shuffle()
	goleak.VerifyTestMain(m)
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// What doctor finds is shown with a real Exim in exim-config. Here is what that
// cannot be brought to without harm to the machine: an Exim that answers what a
// test tells it to, and a running sluice that says of itself what it should not.

// A clinic is a host as doctor sees it, and the sluice that runs there.
type clinic struct {
	admin.Backend // nil: only its Status is asked for
	dir           string
	file          string            // the configuration file
	running       string            // that of the running sluice; the same if empty
	token         string            // in the file DIR/token
	version       string            // of the running sluice; this one if empty
	unfit         error             // why serve would not start
	status        operator.Status   // of the running sluice
	noFile        bool              // the configuration is built in
	mode          os.FileMode       // of the policy socket, by a hand; 0: as sluice makes it
	locked        string            // a directory in the lock directory, if any
	says          map[string]string // what Exim answers, by its arguments
}

// lateRule is our retry rule, in what Exim shows of its configuration.
const lateRule = "\nbegin retry\n* * senders=\"lsearch;/etc/sluice/late\" F,30d,15m"

// newClinic is a host on which nothing is wrong.
func newClinic(t *testing.T) *clinic {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/locks", 0o755), os.Mkdir(dir+"/locks/stopped", 0o711)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/mainlog", "line\n")
	writeFile(t, dir+"/owners", "shop.example: bob\n")
	c := &clinic{dir: dir, says: map[string]string{
		"-bV":                   "Exim version 4.98 #2 built",
		"-bP exim_user":         "exim_user = root",
		"-bP acl_smtp_rcpt":     "acl_smtp_rcpt = acl_sluice_rcpt",
		"-bP acl_smtp_data":     "acl_smtp_data = acl_sluice_data",
		"-bP acl_not_smtp":      "acl_not_smtp = acl_sluice_not_smtp",
		"-bP log_file_path":     "log_file_path = " + dir + "/%slog",
		"-bP config":            "domainlist local_domains = here.example\nhostlist relay_from_hosts = : 127.0.0.1 : ::::1\ndomainlist relay_to_domains =\nbegin acl" + lateRule,
		"-be $primary_hostname": "mx1.example",
		"-bP router_list":       "sluice\nsluice_hold\ndnslookup",
		"-bP transports":        "remote_smtp transport:\ndriver = smtp",
		"-be " + askNobody:      "action=DUNNO",
		"-be =SLUICE_SOCKET":    "=" + dir + "/policy.sock",
		"-be =SLUICE_LOCKS":     "=" + dir + "/locks",
		"-be =SLUICE_TCP":       "=SLUICE_TCP",

		"-be =SLUICE_RELAY_HOSTS":                        "=192.0.2.0/24",
		"-be =SLUICE_INETD_UID":                          "=",
		"-be $tod_zone":                                  "+0000",
		"-be ${if exists{" + dir + "/locks/.}{yes}{no}}": "yes",
		"-be ${perl{Sluice::loaded}}":                    "yes",

		"-be ${if exists{" + dir + "/locks/stopped/.}{yes}{no}}": "yes",
	}}
	c.file = tells + "\n" + fmt.Sprintf("[listen]\npolicy = [%q]\nadmin = %q\n[store]\ndir = %q\n[locks]\ndir = %q\n"+
		"[exim]\nbinary = %q\nmainlog = %q\nlocal_domains = [\"here.example\"]\n[identity]\nowners = %q\n[panel]\nfollow = false\n",
		"unix:"+dir+"/policy.sock", "unix:"+dir+"/admin.sock", dir, dir+"/locks", dir+"/exim", dir+"/mainlog", dir+"/owners")
	c.status = operator.Status{Totals: operator.Totals{Journal: "ok", Locks: "ok", Sockets: "ok", Logs: []logline.Progress{{Key: "exim.mainlog", Read: 5, Size: 5}}}}
	return c
}

// hasFile writes a file of the host.
func (c *clinic) hasFile(name, text string) {
	path := filepath.Join(c.dir, "root", name)
	os.MkdirAll(filepath.Dir(path), 0o755)
	os.WriteFile(path, []byte(text), 0o644)
}

// stopped is the directory of the stopped.
func (c *clinic) stopped() string { return c.dir + "/locks/stopped" }

// edit changes something in the configuration file.
func (c *clinic) edit(old, text string) { c.file = strings.Replace(c.file, old, text, 1) }

// postfix has the file name a log of Postfix, which was read so far.
func (c *clinic) postfix(log string, progress logline.Progress) {
	c.file += fmt.Sprintf("[postfix]\nlog = %q\n", c.dir+log)
	c.status.Totals.Logs = append(c.status.Totals.Logs, progress)
}

// keeps has the running sluice go on with the file as it was.
func (c *clinic) keeps() { c.running = c.file }

// install puts Exim there, which answers from files, and fails where there is none.
func (c *clinic) install(t *testing.T) {
	for _, dir := range []string{"/says", "/locks/" + c.locked} {
		if err := os.MkdirAll(c.dir+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exim, err := filepath.Abs("testdata/exim")
	if err != nil {
		t.Fatal(err)
	}
	// A link: a program that a test has just written cannot be run while
	// another one forks.
	if err := os.Symlink(exim, c.dir+"/exim"); err != nil {
		t.Fatal(err)
	}
	for args, said := range c.says {
		writeFile(t, c.dir+"/says/"+strings.ReplaceAll(args, "/", "_"), said)
	}
}

const thisVersion = "v1.2.3"

// look has doctor examine the host.
func (c *clinic) look(t *testing.T) []Finding {
	t.Helper()
	file := c.dir + "/sluice.toml"
	writeFile(t, file, c.file)
	found, err := Examine(t.Context(), Options{
		File: file, Version: thisVersion,
		Load: func() (*config.Config, error) {
			if c.noFile { // as at the default path, which is not this test's
				return config.Parse("", c.file)
			}
			return config.Load(file)
		},
		Serves: func(*config.Config) error { return c.unfit },
		Ask:    func(ask func(*admin.Client) error) error { return ask(admin.NewClient(c.dir + "/admin.sock")) },

		Crontabs: []string{c.dir + "/crontabs"}, Root: c.dir + "/root", Actions: c.dir + "/actions",
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// examine starts sluice and has doctor look, and returns what is not ok, and the
// checks that are.
func (c *clinic) examine(t *testing.T) (found []Finding, well []string) {
	t.Helper()
	if c.token != "" {
		if err := os.WriteFile(c.dir+"/token", []byte(c.token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	running, err := config.Parse(c.dir+"/sluice.toml", cmp.Or(c.running, c.file))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	adminSocket, err := admin.Listen(c.dir + "/admin.sock")
	if err != nil {
		t.Fatal(err)
	}
	policySocket, err := policyd.Listen(c.dir + "/policy.sock")
	if err != nil {
		t.Fatal(err)
	}
	if c.mode != 0 {
		socket := c.dir + "/policy.sock"
		if err := errors.Join(syscall.Removexattr(socket, "system.posix_acl_access"), os.Chmod(socket, c.mode)); err != nil {
			t.Fatal(err)
		}
	}
	hosttest.Serve(t, admin.New(admin.Options{Backend: c, Config: running.Values, Log: log,
		Version: admin.Version{Version: cmp.Or(c.version, thisVersion), Started: noon, PID: os.Getpid()}}), adminSocket)
	hosttest.Serve(t, policyd.New(c, policyd.Options{Events: event.NewLog(log)}), policySocket)
	for _, f := range c.look(t) {
		if strings.Contains(f.Found, "0001-01-01") {
			t.Errorf("%s: %s", f.Check, f.Found)
		}
		switch {
		case f.Check == "clock" && strings.Contains(f.Found, "the system's clock"): // that is of this machine: see TestDoctorOnTheSystemsClock
			well = append(well, f.Check)
		case f.State == OK:
			well = append(well, f.Check)
		default:
			found = append(found, f)
		}
	}
	return found, well
}

// Status is what the running sluice reports, and is asked no more than that.
func (c *clinic) Status(context.Context, time.Time, string) (operator.Status, error) {
	return c.status, nil
}

// Ask is the running sluice's answer to a mail server.
func (c *clinic) Ask(context.Context, time.Time, sidecar.Request) sidecar.Reply {
	return sidecar.Reply{}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDoctorFindsNothingWhereNothingIs(t *testing.T) {
	hosttest.Root(t) // who may ask as Exim's user
	c := newClinic(t)
	// A file of Exim's that is not followed, and has nothing that is not known.
	writeFile(t, c.dir+"/local", "# ours\nhere.example: bob\n\n")
	c.says["-bP config"] = "domainlist local_domains = here.example : lsearch;" + c.dir + "/local" + "\nbegin acl" + lateRule
	// Nothing here starts Exim for a connection.
	c.hasFile("etc/inetd.conf", "#smtp stream tcp nowait root /usr/sbin/exim exim -bs\npop3 stream tcp nowait root /usr/sbin/pop3d pop3d\n")
	c.hasFile("etc/xinetd.d/smtp", "service smtp\n{\n\tdisable = yes\n\tserver = /usr/sbin/exim\n\tserver_args = -bs\n}\n")
	c.hasFile("etc/systemd/system/sockets.target.wants/other.socket", "[Socket]\n")
	c.hasFile("lib/systemd/system/exim@.service", "[Service]\nExecStart=-/usr/sbin/exim -bs\n") // not enabled
	c.edit("[panel]", fmt.Sprintf("[metrics]\ntextfile = %q\n[panel]", c.dir))
	writeFile(t, c.dir+"/sluice.prom", "")
	c.install(t)
	found, well := c.examine(t)
	want := []string{"configuration", "serve", "configuration in force", "counts", "socket", "Exim", "ACLs", "routers", "asking", "transports",
		"local domains", "relays", "lock directory", "main log", "metrics", "owner map", "alerts", "clock"}
	if diff := gocmp.Diff(want, well); diff != "" || len(found) > 0 {
		t.Errorf("found %+v; what is ok, -want +got:\n%s", found, diff)
	}
}

// tells is what the file says of who is told of incidents.
const tells = `alert.to = [{mail = "ops@far.example"}, {exec = "/bin/true"}]`

// ailments are one thing each that is not as it should be, and what is said of it.
var ailments = []struct {
	name  string
	harm  func(c *clinic)
	check string
	state State
	says  string // of what is there, and what to do
}{
	{"serve would not start", func(c *clinic) { c.unfit = errors.New("not served") }, "configuration", Wrong, "not served"},
	{"there is no file", func(c *clinic) { c.noFile = true }, "configuration", Note, "/sluice.toml: all values are built in"},
	{"another version runs", func(c *clinic) { c.version = "v0.1" }, "serve", Wrong, "version v0.1 runs since"},
	{"the journal is in trouble", func(c *clinic) { c.status.Totals.Journal = "no space left" }, "counts", Wrong, "Make room in"},
	{"sends pass uncounted", func(c *clinic) { c.status.Totals.Uncounted = 7 }, "counts", Wrong, "7 sends passed uncounted"},
	{"programs are not known", func(c *clinic) { c.status.Totals.Sockets = "oh" }, "programs on this host", Wrong, "Let the unit have AF_NETLINK"},
	{"everybody may connect", func(c *clinic) { c.mode = 0o666 }, "socket", Wrong, "everybody may connect to "},
	{"a group may connect", func(c *clinic) { c.mode = 0o660 }, "socket", Wrong, "whoever is in the group "},
	{"the file is bad", func(c *clinic) { c.status.Config.Trouble = "sluice.toml:3: oh" }, "configuration in force", Wrong, "not in force: sluice.toml:3: oh"},
	{"a key waits for a restart", func(c *clinic) { c.status.Config.Restart = []string{"locks.dir"} }, "configuration in force", Wrong, "with a restart: locks.dir"},
	{"it runs by another file", func(c *clinic) { c.keeps(); c.file += "[limits]\nhourly = 7\n" }, "configuration in force", Wrong, "differs from the file in limits.hourly"},
	{"a line of the panel is skipped", func(c *clinic) { c.status.Config.Panel = []string{"/etc/x:3: oh"} }, "panel", Wrong, "skips 1 line of its files, the first is /etc/x:3: oh"},
	{"Exim does not show its configuration", func(c *clinic) { delete(c.says, "-bP config") }, "ACLs", Wrong, "does not show its configuration"},
	{"Exim's retry rules are older than sluice", func(c *clinic) {
		c.says["-bP config"] = "domainlist local_domains = here.example\nbegin retry\n* * F,4d,6h"
	}, "retry rules", Note, "bounces at its first 4xx"},
	{"Exim does not list its routers", func(c *clinic) { delete(c.says, "-bP router_list") }, "routers", Wrong, "must come first"},
	{"Exim relays for others", func(c *clinic) {
		c.says["-bP config"] = "domainlist local_domains = here.example\nhostlist relay_hosts = <; 127.0.0.0/8 ; 2001:db8::/64 ; 192.0.2.7 ; net-lsearch;/etc/relayhosts" + lateRule
	}, "relays", Note, "each is counted as relay:ADDRESS, and unlimited: 2001:db8::/64, 192.0.2.7"},
	{"Exim is an MX", func(c *clinic) {
		c.says["-bP config"] = "domainlist local_domains = here.example\ndomainlist relay_to_domains = here.example : Backup.example : lsearch;/etc/secondarymx : lsearch;/etc/others" + lateRule
	}, "relays", Note, "identity.relay_domains does not have them: whoever sends to them is counted as relay:ADDRESS: Backup.example, the domains in /etc/others"},
	{"no lock file holds for a relay", func(c *clinic) {
		c.edit("[panel]", "relay = [\"192.0.2.0/24\", \"192.0.2.7\"]\n[panel]")
	}, "relays", Note, "does not have 192.0.2.7, which identity.relay has: while sluice is down, no lock file holds for it"},
	{"there is no directory for metrics", func(c *clinic) { c.edit("[panel]", "[metrics]\ntextfile = \"/nonexistent/metrics\"\n[panel]") }, "metrics", Note, "node_exporter gets none: stat /nonexistent/metrics/sluice.prom"},
	{"metrics are not written", func(c *clinic) {
		c.edit("[panel]", fmt.Sprintf("[metrics]\ntextfile = %q\n[panel]", c.dir))
		os.WriteFile(c.dir+"/sluice.prom", nil, 0o644)
		os.Chtimes(c.dir+"/sluice.prom", time.Time{}, time.Now().Add(-2*time.Minute))
	}, "metrics", Note, "/sluice.prom was written last at"},
	{"cron mails elsewhere", func(c *clinic) {
		os.Mkdir(c.dir+"/crontabs", 0o755)
		for login, mailto := range map[string]string{"bob": "MAILTO = \"bob, eve@far.example\"", "joe": "MAILTO=eve@far.example", "root": "MAILTO=eve@far.example"} {
			os.WriteFile(c.dir+"/crontabs/"+login, []byte("# jobs\n"+mailto+"\n* * * * * true\n"), 0o600)
		}
	}, "cron", Note, "what jobs of 1 account print to other hosts (MAILTO), the first is bob"},
	{"nobody is told", func(c *clinic) { c.edit(tells, "alert.to = []") }, "alerts", Note, "nobody is told of incidents"},
	{"all is told by mail", func(c *clinic) { c.edit(tells, "alert.to = [{mail = \"root\"}]") }, "alerts", Note, "mail root from warning on: all of it is mail"},
	{"mail to this host", func(c *clinic) { c.edit("ops@far.example", "ops@here.example") }, "alerts by mail", Note, "ops@here.example is on this host"},
	{"a program that is not there", func(c *clinic) { c.edit("/bin/true", "/nonexistent/page") }, "alerts by exec", Wrong, "nobody is told by it: stat /nonexistent/page"},
	{"a program that nobody may run", func(c *clinic) {
		os.WriteFile(c.dir+"/page", nil, 0o750)
		c.edit("/bin/true", c.dir+"/page")
	}, "alerts by exec", Wrong, "(mode 0750)"},
	{"a key that is not there", func(c *clinic) {
		c.edit(`exec = "/bin/true"`, `webhook = "https://a.example", secret_file = "/nonexistent/key"`)
	},
		"alerts by webhook", Wrong, "secret_file /nonexistent/key: no such file or directory"},
	{"lfd tells too", func(c *clinic) { c.hasFile("etc/csf/csf.conf", "LF_ALERT_TO = \"\"\nRT_AUTHRELAY_ALERT = \"1\"\n") }, "lfd", Note, "RT_AUTHRELAY_ALERT is set in"},
	{"inetd starts Exim", func(c *clinic) {
		c.hasFile("etc/inetd.conf", "#smtp stream tcp nowait root /usr/sbin/exim exim -bs\nsmtp stream tcp nowait mail /usr/sbin/exim4 exim -bs -oMa\n")
	}, "inetd", Note, "/etc/inetd.conf has Exim started for each connection"},
	{"xinetd starts Exim", func(c *clinic) {
		c.hasFile("etc/xinetd.d/smtp", "service smtp\n{\n\tdisable = no\n\tserver = /usr/sbin/exim\n\tserver_args = -bs\n}\n")
	}, "inetd", Note, "Set SLUICE_INETD_UID in Exim's macros"},
	{"a socket unit starts Exim", func(c *clinic) {
		c.hasFile("etc/systemd/system/sockets.target.wants/exim.socket", "[Socket]\nListenStream=25\nAccept=yes\n")
		c.hasFile("lib/systemd/system/exim@.service", "[Service]\nExecStart=-/usr/sbin/exim -bs\n")
	}, "inetd", Note, "sockets.target.wants/exim.socket has Exim started"},
	{"Exim cannot ask", func(c *clinic) { delete(c.says, "-be "+askNobody) }, "asking", Wrong, "Exim cannot ask"},
	{"Exim has no socket", func(c *clinic) { c.says["-be "+askNobody] = ""; c.says["-be =SLUICE_SOCKET"] = "=SLUICE_SOCKET" }, "asking", Wrong, "no SLUICE_SOCKET"},
	{"sluice has no socket", func(c *clinic) {
		c.says["-be "+askNobody] = ""
		c.token = "0123456789abcdef0123456789abcdef"
		c.edit(fmt.Sprintf("policy = [%q]", "unix:"+c.dir+"/policy.sock"), fmt.Sprintf("policy = [\"tcp:127.0.0.1:293\"]\ntoken_file = %q", c.dir+"/token"))
	}, "asking", Wrong, "listen.policy has no unix socket"},
	{"sluice answers, and Exim does not hear it", func(c *clinic) { c.says["-be "+askNobody] = "" }, "asking", Wrong, "but Exim gets none"},
	{"Exim asks by TCP, and hears nothing", func(c *clinic) {
		c.says["-be "+askNobody], c.says["-be =SLUICE_TCP"] = "", "=127.0.0.1:293"
		c.says[`-be ${extract{1}{\n}{${readfile{SLUICE_TOKEN_FILE}}}}`] = "0123456789abcdef0123456789abcdef"
		c.token = "0123456789abcdef0123456789abcdef"
		c.edit("policy = [", fmt.Sprintf("token_file = %q\npolicy = [\"tcp:127.0.0.1:293\", ", c.dir+"/token"))
	}, "asking", Wrong, "Restart sluice: it reads tokens when it starts"},
	{"Exim does not list its transports", func(c *clinic) { delete(c.says, "-bP transports") }, "transports", Wrong, "does not list its transports"},
	{"no domain is local", func(c *clinic) { c.edit(`["here.example"]`, "[]") }, "local domains", Wrong, "has none: local mail is counted"},
	{"Exim has no such list", func(c *clinic) { c.says["-bP config"] = "begin acl" + lateRule }, "local domains", Wrong, "no domain list local_domains"},
	{"Exim has a file of local domains that is not followed", func(c *clinic) {
		c.says["-bP config"] = "domainlist local_domains = lsearch;" + c.dir + "/owners\nbegin acl" + lateRule
	}, "local domains", Wrong, "that mail to them is counted: the domains in "},
	{"lock files cannot be made", func(c *clinic) { c.status.Totals.Locks = "make lock file: oh" }, "lock directory", Wrong, "ReadWritePaths"},
	{"Exim has no macro of the lock directory", func(c *clinic) { c.says["-be =SLUICE_LOCKS"] = "=SLUICE_LOCKS" },
		"lock directory", Wrong, "no SLUICE_LOCKS: it looks for lock files nowhere"},
	{"Exim looks elsewhere for locks", func(c *clinic) { c.says["-be =SLUICE_LOCKS"] = "=/tmp" }, "lock directory", Wrong, "Exim looks for them in /tmp"},
	{"cPanel has its own locks there", func(c *clinic) { c.locked = "track" }, "lock directory", Wrong, "set locks.dir and Exim's SLUICE_LOCKS"},
	{"a file is in the place of the lock directory", func(c *clinic) {
		c.hasFile("file", "")
		c.edit(c.dir+"/locks", filepath.Join(c.dir, "root", "file"))
	}, "lock directory", Wrong, "Move away what stands in its place, and: mkdir -p "},
	{"there is no directory of the stopped", func(c *clinic) { os.Remove(c.stopped()) }, "lock directory", Wrong, "mkdir -m 711 "},
	{"a symlink is in its place", func(c *clinic) { os.Remove(c.stopped()); os.Symlink(c.dir, c.stopped()) }, "lock directory", Wrong, "mkdir -m 711 "},
	{"anybody may list who is stopped", func(c *clinic) { os.Chmod(c.stopped(), 0o755) }, "lock directory", Wrong, "list or change who is stopped"},
	{"anybody may stop others", func(c *clinic) { os.Chmod(c.stopped(), 0o713) }, "lock directory", Wrong, "list or change who is stopped"},
	{"Exim does not see who is stopped", func(c *clinic) {
		c.says["-be ${if exists{"+c.stopped()+"/.}{yes}{no}}"] = "no"
	}, "lock directory", Wrong, "cannot look into"},
	{"no log is set", func(c *clinic) { c.edit(c.dir+"/mainlog", "") }, "main log", Wrong, "exim.mainlog is empty"},
	{"Exim has its queue elsewhere", func(c *clinic) { c.says["-bP spool_directory"] = "spool_directory = /elsewhere" }, "queue", Note, "Exim has its queue in /elsewhere: in its unit"},
	{"the queue of another Exim is read", func(c *clinic) {
		c.says["-bP spool_directory"] = "spool_directory = /elsewhere"
		c.edit("[exim]\n", "[exim]\nspool_directory = \"/other\"\n")
	}, "queue", Wrong, "exim.spool_directory is /other"},
	{"no log is followed", func(c *clinic) { c.status.Totals.Logs = nil }, "main log", Wrong, "the running sluice does not follow"},
	{"the log is not read on", func(c *clinic) { c.status.Totals.Logs[0].Read = 2 }, "main log", Wrong, "3 bytes of"},
	{"a part of the log is missing", func(c *clinic) { c.status.Totals.Logs[0].Lost = &noon }, "main log", Wrong, "a part of the log that exim.mainlog names was missing"},
	{"Postfix's log is not there", func(c *clinic) { c.postfix("/absent", logline.Progress{}) }, "Postfix's log", Wrong, "/absent: no such file"},
	{"Postfix's log is not followed", func(c *clinic) { c.postfix("/mainlog", logline.Progress{}) }, "Postfix's log", Wrong, "does not follow"},
	{"Postfix's log is not read on", func(c *clinic) { c.postfix("/mainlog", logline.Progress{Key: "postfix.log"}) }, "Postfix's log", Wrong, "5 bytes of"},
	{"a part of Postfix's log is missing", func(c *clinic) {
		c.postfix("/mainlog", logline.Progress{Key: "postfix.log", Read: 5, Lost: &noon})
	}, "Postfix's log", Wrong, "a part of the log that postfix.log names was missing"},
	{"there is no owner map", func(c *clinic) { c.edit(c.dir+"/owners", "") }, "owner map", Note, "charged to their sender's domain"},
	{"there is none, and any name may be used", func(c *clinic) {
		c.edit(c.dir+"/owners", "")
		c.says["-bP untrusted_set_sender"] = "untrusted_set_sender = *"
	}, "owner map", Note, "one could spend another's budget"},
	{"Exim's clock is of another zone", func(c *clinic) { c.says["-be $tod_zone"] = "+0200" }, "clock", Note, "Exim's time zone is +0200"},
}

func TestDoctorFindsWhatAils(t *testing.T) {
	hosttest.Root(t)
	for _, a := range ailments {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t)
			a.harm(c)
			c.install(t)
			found, _ := c.examine(t)
			if len(found) != 1 || found[0].Check != a.check || found[0].State != a.state || !strings.Contains(found[0].Found+" "+found[0].Do, a.says) {
				t.Errorf("found %+v, want %s %s: %q", found, a.state, a.check, a.says)
			}
		})
	}
}

// Without Exim, doctor says so and asks nothing of it, and looks whether
// Postfix is what there is.
func TestDoctorWithoutExim(t *testing.T) {
	hosttest.Root(t)
	for _, postfix := range []bool{false, true} {
		c := newClinic(t)
		want := Finding{"Exim", Wrong, "stat " + c.dir + "/exim: no such file or directory", "Install Exim, or set exim.binary."}
		t.Setenv("PATH", c.dir)
		if postfix {
			if err := os.WriteFile(c.dir+"/postconf", nil, 0o755); err != nil { // which is only looked for
				t.Fatal(err)
			}
			want = Finding{"Exim", Note, c.dir + "/exim is not installed; Postfix is, and its configuration is not looked at", ""}
		}
		found, well := c.examine(t)
		if diff := gocmp.Diff([]Finding{want}, found); diff != "" || slices.Contains(well, "ACLs") || !slices.Contains(well, "lock directory") {
			t.Errorf("Postfix %v: %q is ok; -want +got:\n%s", postfix, well, diff)
		}
	}
}

// A sluice that does not run is found, and what hangs on it is a note.
func TestDoctorWithoutSluice(t *testing.T) {
	hosttest.Root(t)
	c := newClinic(t)
	c.says["-be "+askNobody] = ""
	c.install(t)
	got := map[string]State{}
	for _, f := range c.look(t) {
		if f.State != OK && f.Check != "clock" {
			got[f.Check] = f.State
		}
	}
	if diff := gocmp.Diff(map[string]State{"serve": Wrong, "asking": Note, "main log": Note}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Whether somebody keeps the clock of the machine right is what the kernel says: of
// this machine, and of one on which it is otherwise.
func TestDoctorOnTheSystemsClock(t *testing.T) {
	const unsynchronised = 0x40 // STA_UNSYNC of adjtimex(2)
	found := func(state int, err error) Finding {
		d := &doctor{}
		d.reportClock(state, err)
		if len(d.findings) != 1 {
			t.Fatalf("%d, %v: found %+v", state, err, d.findings)
		}
		return d.findings[0]
	}
	var here syscall.Timex
	state, err := syscall.Adjtimex(&here)
	if err != nil {
		t.Fatal(err)
	}
	if f := found(state, err); (here.Status&unsynchronised != 0) != (f.Found == "nobody keeps the system's clock right") {
		t.Errorf("the status of this clock is %#x, and doctor says %+v", here.Status, f)
	}
	for state := range 6 {
		f, kept := found(state, nil), state < 5
		if kept != (f.State == OK) || !kept && (f.State != Note || !strings.Contains(f.Do, "chrony")) {
			t.Errorf("state %d: %+v", state, f)
		}
	}
	if f := found(0, syscall.EPERM); f.State != Note || !strings.Contains(f.Found, "cannot be told: operation not permitted") {
		t.Errorf("who may not ask is told %+v", f)
	}
}

// One that hangs has to be restarted: to start it would do nothing.
func TestDoctorTellsASluiceThatHangsFromNone(t *testing.T) {
	for want, err := range map[string]error{"systemctl restart": admin.ErrSilent, "systemctl start": admin.ErrUnreachable} {
		d := &doctor{running: running{err: fmt.Errorf("ask: %w", err)}}
		d.checkServe()
		if f := d.findings[0]; f.State != Wrong || !strings.HasPrefix(f.Do, want) {
			t.Errorf("%v: found %+v, want %s", err, f, want)
		}
	}
}
