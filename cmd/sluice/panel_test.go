package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// cPanel's files as the user interface:
//
//	WHM ─ writes ─→ /var/cpanel, /etc ─→ serve ─→ what Exim is reported
func TestAPanelIsTheUserInterface(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := dir + "/panel"
	if err := os.CopyFS(root, os.DirFS("../../testdata/panel/cpanel")); err != nil {
		t.Fatal(err)
	}
	config := strings.Replace(serveConfig(dir), "local_domains = [\"here.example\"]\n", "", 1) + "[panel]\nroot = \"" + root + "\"\n"
	n := startServeWith(t, dir, config)

	// Whose, how much, and where that is written.
	n.wantRun(t, exitDone, "alice.example on mx1.example, of account alice", "explain", "alice.example")
	n.wantRun(t, exitDone, root+"/var/cpanel/users/alice:5", "explain", "alice.example")
	n.wantRun(t, exitDone, root+"/var/cpanel/cpanel.config:3", "explain", "other.example")
	n.wantRun(t, exitDone, "Account carol is on hold.", "status", "account:carol")
	n.wantRun(t, exitDone, "account:carol            0/-  -        0     0  by the panel", "status")
	n.wantRun(t, exitNo, "still stopped by the panel: its locks are gone and it starts at zero, but "+root+"/etc/outgoing_mail_hold_users:1 holds it", "unlock", "carol.example")
	n.wantRun(t, exitDone, root+"/etc/userdomains", "config")

	ask := func(stage, auth, recipient string) string {
		out, _ := n.sluice(t, "check", "--stage", stage, "--id", "1xUzSN-0005dd-0q", "--auth", auth, "--sender", auth,
			"--client-address", "192.0.2.1", "--recipient", recipient)
		return out
	}
	for _, c := range []struct{ stage, auth, recipient, want string }{
		{"rcpt", "news@alice.example", "u@far.example", "action=DUNNO\nroom=1000"},
		{"rcpt", "news@alice.example", "u@alice.example", "action=DUNNO\nroom=1000000"}, // local
		{"rcpt", "news@bob.example", "u@far.example", "action=DUNNO\nroom=1000000"},     // unlimited
		{"rcpt", "news@carol.example", "u@far.example", "action=450 4.7.1 Account carol is on hold.  Message will be reattempted later [" + root + "/etc/outgoing_mail_hold_users:1;"},
		{"route", "news@carol.example", "u@far.example", "action=450 4.7.1 Account carol is on hold."},
		{"rcpt", "spam@bob.example", "u@far.example", "action=550 5.7.1 Mailbox spam@bob.example has been suspended from sending.  Message discarded. ["},
		{"route", "spam@bob.example", "u@far.example", "action=450 4.7.1 Mailbox spam@bob.example has been suspended"},
	} {
		if got := ask(c.stage, c.auth, c.recipient); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s of %s: %q, want %q", c.stage, c.auth, got, c.want)
		}
	}
	out, _ := n.sluice(t, "check", "--stage", "local", "--id", "1xUzSN-0005de-0q", "--login", "mailman", "--sender", "list-bounces@alice.example",
		"--recipients", "u@far.example")
	if status, _ := n.sluice(t, "status"); !strings.HasPrefix(out, "action=DUNNO") || !strings.Contains(status, "1 exempt") {
		t.Errorf("mailing lists: %s\n%s", out, status)
	}

	// WHM changes something: it acts, in the soak within two seconds.
	edit := func(file, old, text, want, stage, auth string) {
		t.Helper()
		b, err := os.ReadFile(root + file)
		if err != nil || !strings.Contains(string(b), old) {
			t.Fatalf("%s: %v", file, err)
		}
		start := time.Now()
		writeFile(t, root+file, strings.Replace(string(b), old, text, 1))
		hosttest.Eventually(t, want, func() bool { return strings.HasPrefix(ask(stage, auth, "u@far.example"), want) })
		hosttest.NotLonger(t, file, time.Since(start), 2*time.Second)
	}
	edit("/var/cpanel/users/alice", "PER_HOUR=1000", "PER_HOUR=1200", "action=DUNNO\nroom=1200", "rcpt", "news@alice.example")
	edit("/etc/outgoing_mail_hold_users", "carol", "# nobody", "action=450 4.7.1 Account carol is on hold.", "rcpt", "news@carol.example")
	edit("/var/cpanel/users/carol", "MAIL_HOLD=1", "MAIL_HOLD=0", "action=DUNNO\nroom=70", "rcpt", "news@carol.example")
	edit("/var/cpanel/users/alice", "SUSPENDED=0", "SUSPENDED=1", "action=550 5.7.1 Account alice has been suspended", "rcpt", "news@alice.example")
	edit("/var/cpanel/cpanel.config", "maxemailsperhour=250", "maxemailsperhour=some", "action=DUNNO\nroom=200", "rcpt", "news@other.example")
	n.wantRun(t, exitDone, "1 line of the panel skipped: "+root+"/var/cpanel/cpanel.config:3: hourly is \"some\"", "status")

	// What an operator sets wins.
	n.wantRun(t, exitDone, "hourly 70 -> 9", "set", "carol.example", "hourly=9")
	if got := ask("rcpt", "news@carol.example", "u@far.example"); !strings.HasPrefix(got, "action=DUNNO\nroom=9\n") {
		t.Errorf("%s", got)
	}
}
