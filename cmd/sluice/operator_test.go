package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/operator"
	"sluice/sidecar/policyd"
)

// The chapters of TestReadme, each on what the one before has left.

// site is the machine as its operator has it before Sluice: whoever knows the
// password "secret" may send, and remote mail goes to a relay.
const site = `
echo mx1.example >/etc/hostname
hostname mx1.example
echo '127.0.0.1 localhost mx1.example' >/etc/hosts
echo 'APT::Get::Assume-Yes "true";' >/etc/apt/apt.conf.d/yes
debconf-set-selections <<'END'
exim4-config exim4/dc_eximconfig_configtype select internet site; mail is sent and received directly using SMTP
exim4-config exim4/use_split_config boolean true
END
mkdir -p /etc/exim4/conf.d/auth /etc/exim4/conf.d/router /etc/exim4/conf.d/main
# A reloaded Exim that finds its port still held by a child waits this long, by default 30 s.
echo 'daemon_startup_sleep = 1s' >/etc/exim4/conf.d/main/50_site
cp testdata/demo/auth /etc/exim4/conf.d/auth/10_site
sed 's/SINK_PORT/2525/' testdata/demo/router >/etc/exim4/conf.d/router/150_site
`

// relay is another Exim, which takes all mail and throws it away.
const relay = `
mkdir -m 0777 /var/spool/relay
sed 's|SINK_DIR|/var/spool/relay|' testdata/demo/sink.conf >/etc/relay.conf
cat >/etc/systemd/system/relay.service <<'END'
[Service]
ExecStart=/usr/sbin/exim4 -C /etc/relay.conf -bdf -oX [127.0.0.1]:2525
[Install]
WantedBy=multi-user.target
END
systemctl enable -q --now relay
`

// listens waits until somebody listens on a port of the machine.
func (o *newcomer) listens(t *testing.T, port string) {
	t.Helper()
	hosttest.Eventually(t, "port "+port, func() bool {
		c, err := o.dial("127.0.0.1:" + port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (o *newcomer) installs(t *testing.T) {
	o.run(t, site)
	o.run(t, o.block(t, "apt-get install exim4-daemon-heavy\n"))
	o.types(t, "sluice exim install --help")
	o.types(t, "sluice simulate /var/log/exim4/mainlog*")
	o.run(t, o.block(t, "systemd-tmpfiles --create sluice.conf\n"))
	for property, want := range map[string]string{
		"Type": "notify", "ActiveState": "active", "SubState": "running", "NRestarts": "0", "WatchdogUSec": "10s",
	} {
		if got := o.property(t, property); got != want {
			t.Errorf("%s of sluice is %q, want %q", property, got, want)
		}
	}
	if out := o.run(t, "journalctl -q -b -p warning _PID=1"); strings.Contains(out, "luice") {
		t.Errorf("systemd complains of the units:\n%s", out)
	}
	want := "755 root /run/sluice\n700 root /var/lib/sluice\n755 root /var/cpanel/email_send_limits\n711 root /var/cpanel/email_send_limits/stopped\n660 root /run/sluice/policy.sock\n600 root /run/sluice/deliver.sock\n"
	if got := o.run(t, "stat -c '%a %U %n' /run/sluice /var/lib/sluice /var/cpanel/email_send_limits /var/cpanel/email_send_limits/stopped /run/sluice/policy.sock /run/sluice/deliver.sock"); got != want {
		t.Errorf("made were\n%s, want\n%s", got, want)
	}
	if out := o.types(t, "sluice config"); !strings.Contains(out, "hourly = 500") || !strings.Contains(out, "/etc/sluice/sluice.toml:") {
		t.Errorf("sluice config does not say where the limit comes from:\n%s", out)
	}
}

// status is what sluice shows of a domain.
func (o *newcomer) status(t *testing.T, domain string) operator.DomainStatus {
	t.Helper()
	out, code := o.try(t, "sluice status --json "+domain)
	if code == exitNo {
		return operator.DomainStatus{Domain: domain}
	}
	var s operator.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil || len(s.Domains) != 1 {
		t.Fatalf("status of %s: %v\n%s", domain, err, out)
	}
	return s.Domains[0]
}

func (o *newcomer) sends(t *testing.T) {
	o.run(t, relay)
	o.listens(t, "2525")
	if err := o.mail(t, "secret", "news@example.com", "customer1@far.example"); err != nil {
		t.Fatalf("with AUTH: %v", err)
	}
	o.run(t, "printf 'Subject: hello\\n\\nhello\\n' | setpriv --reuid=www-data --regid=www-data --clear-groups sendmail -f shop@example.com customer2@far.example")
	if err := o.mail(t, "", "app@example.com", "customer3@far.example"); err != nil {
		t.Fatalf("without AUTH: %v", err)
	}
	// The shipped unit lets sluice find out whose the programs here are that do not log in:
	// that of the test is root's, which without an owner map is charged to the sender too.
	o.run(t, webShop)
	o.delivers(t, "example.com", 4)
	if out := o.types(t, "sluice status"); !strings.Contains(out, "4/500") {
		t.Errorf("sluice status:\n%s", out)
	}
	o.heals(t)
	o.findsWhoSends(t)
	o.types(t, "sluice simulate --help")
	if out := o.run(t, "sluice simulate /var/log/exim4/mainlog --set example.com hourly=1"); !strings.Contains(out, "1 send would have been refused, of 1 domain.") {
		t.Errorf("what one an hour would have done to two of example.com:\n%s", out)
	}
}

// findsWhoSends asks sluice who it was, then the main log alone, and for its lines.
func (o *newcomer) findsWhoSends(t *testing.T) {
	t.Helper()
	for command, says := range map[string]string{
		o.block(t, "sluice who --log "): "  news@example.com  ",
		"sluice who":                    "  news@example.com  ",
		"sluice who example.com":        "  news@example.com  ",
		"sluice who example.com --log /var/log/exim4/mainlog*": "  news@example.com  ",
		"sluice log example.com":                               " => customer1@far.example ",
		"sluice log news@example.com --last 50":                " <= news@example.com ",
	} {
		if out := o.types(t, command); !strings.Contains(out, says) {
			t.Errorf("%s does not say %q:\n%s", command, says, out)
		}
	}
}

// webShop is a program of the web server's user that speaks SMTP to its host.
const webShop = `setpriv --reuid=www-data --regid=www-data --clear-groups perl -MIO::Socket::INET -e '
	my $s = IO::Socket::INET->new("127.0.0.1:25") or die $!;
	for my $say ("", "HELO x\r\n", "MAIL FROM:<shop\@example.com>\r\n", "RCPT TO:<customer4\@far.example>\r\n", "DATA\r\n", "Subject: x\r\n\r\nx\r\n.\r\n") {
		print $s $say;
		(my $reply = <$s>) =~ /^[23]/ or die $reply;
	}'`

// heals has nothing to heal: which domains are local nobody has typed a second time.
func (o *newcomer) heals(t *testing.T) {
	t.Helper()
	if out := o.run(t, "sluice config --running"); !strings.Contains(out, `"mx1.example"`) || !strings.Contains(out, "# exim: domainlist local_domains") {
		t.Errorf("the confined sluice does not know what Exim says is local:\n%s", out)
	}
	if out := o.types(t, "sluice doctor"); !strings.Contains(out, "root, Debian-exim: may connect to /run/sluice/policy.sock") {
		t.Errorf("doctor does not name who may connect:\n%s", out)
	}
}

// delivers waits until Exim's log has told so many deliveries of a domain's.
func (o *newcomer) delivers(t *testing.T, domain string, n int64) {
	t.Helper()
	hosttest.Eventually(t, fmt.Sprintf("%d of %s are delivered", n, domain), func() bool { return o.status(t, domain).Delivered >= n })
}

// The limit of an hour as shipped, and as the README raises it.
const (
	hourly = 500
	raised = 2000
)

// watches shows that nothing is refused while limits are watched, and that it is told who
// would have been; then they are enforced.
func (o *newcomer) watches(t *testing.T) {
	var to []string
	for n := o.status(t, "example.com").Sent; n < hourly; n++ {
		to = append(to, fmt.Sprintf("watched%d@far.example", n))
	}
	if reply, err := o.ask(t.Context(), "watched", "news@example.com", strings.Join(to, ", ")); err != nil || !strings.HasPrefix(reply, "action=DUNNO") {
		t.Fatalf("answered %q, %v", reply, err)
	}
	o.passes(t)
	if got := o.status(t, "example.com"); got.Sends != 1 || got.Sent != hourly {
		t.Errorf("%d are counted, and %d would have been refused", got.Sent, got.Sends)
	}
	o.run(t, o.block(t, "sluice unset default mode\n"))
	o.refused(t, "Domain example.com has exceeded the max emails per hour (501/500 (100%)) allowed.")
	o.run(t, "sluice reset example.com")
}

// fill has example.com send what it still may.
func (o *newcomer) fill(t *testing.T) {
	t.Helper()
	var to []string
	for n := o.status(t, "example.com").Sent; n < hourly; n++ {
		to = append(to, fmt.Sprintf("customer%d@far.example", n))
	}
	reply, err := o.ask(t.Context(), "fill"+time.Now().String(), "news@example.com", strings.Join(to, ", "))
	if err != nil || !strings.HasPrefix(reply, "action=DUNNO") {
		t.Fatalf("answered %q, %v", reply, err)
	}
	hosttest.Eventually(t, "the lock file", func() bool {
		b, _ := os.ReadFile(o.path("/var/cpanel/email_send_limits/max_hourly_example.com"))
		return string(b) == "500/500 (100%)"
	})
}

// ask asks about a message as Exim does.
func (o *newcomer) ask(ctx context.Context, id, sender, recipients string) (string, error) {
	c := policyd.Client{Path: o.path("/run/sluice/policy.sock"), Timeout: hosttest.Patience()}
	return c.Ask(ctx, []policyd.Field{
		{Name: "stage", Value: "data"}, {Name: "id", Value: id}, {Name: "auth", Value: sender}, {Name: "sender", Value: sender},
		{Name: "client_address", Value: "192.0.2.1"}, {Name: "recipients", Value: recipients},
	})
}

// refused wants a client of example.com refused with a text, passes wants it not.
func (o *newcomer) refused(t *testing.T, text string) {
	t.Helper()
	err := o.mail(t, "secret", "news@example.com", "one-more@far.example")
	reply, _ := errors.AsType[*textproto.Error](err)
	if reply == nil || reply.Code != 450 || !strings.HasPrefix(strings.ReplaceAll(reply.Msg, "\n4.7.1 ", " "), "4.7.1 "+text) {
		t.Errorf("Exim said %v, want 450 %q", err, text)
	}
}

func (o *newcomer) passes(t *testing.T) {
	t.Helper()
	if err := o.mail(t, "secret", "news@example.com", "one-more@far.example"); err != nil {
		t.Errorf("Exim said %v", err)
	}
}

// uses goes through the table.
func (o *newcomer) uses(t *testing.T) {
	const file = "/var/cpanel/email_send_limits/max_hourly_example.com"
	o.fill(t)
	o.refused(t, "Domain example.com has exceeded the max emails per hour (501/500 (100%)) allowed.")
	if out := o.types(t, "sluice status example.com"); !strings.Contains(out, "500 of 500 in the last hour (100%)") {
		t.Errorf("sluice status:\n%s", out)
	}
	hosttest.Eventually(t, "the journal has it", func() bool {
		return strings.Contains(o.types(t, "journalctl SLUICE_DOMAIN=example.com"), ": limit reached, domain locked domain=example.com sent=\"500/500 (100%)\" culprit=")
	})
	if out := o.types(t, "journalctl -u sluice -p warning"); strings.Contains(out, "limit reached") {
		t.Errorf("to reach a limit is no warning:\n%s", out)
	}
	if out := o.run(t, "journalctl -q -u sluice SLUICE_EVENT=serving PRIORITY=6"); !strings.Contains(out, ": serving node=") {
		t.Errorf("the journal has of the start:\n%s", out)
	}
	o.run(t, "printf 'Subject: hello\\n\\nhello\\n' | sendmail -f shop@example.com held@far.example")
	hosttest.Eventually(t, "mail of a script is held", func() bool { return o.status(t, "example.com").Held == 1 })
	o.types(t, "sluice unlock example.com")
	o.delivers(t, "example.com", 1) // of what was held, by the unit sluice-deliver
	o.passes(t)

	o.fill(t)
	o.run(t, "rm "+file)
	hosttest.Eventually(t, "what is removed releases", func() bool { return o.status(t, "example.com").Sent == 0 })
	o.passes(t)

	o.types(t, "sluice lock example.com")
	o.refused(t, "Domain example.com is locked.")
	o.types(t, "sluice unlock example.com")
	o.passes(t)
	o.types(t, "touch .../email_send_limits/max_hourly_example.com")
	hosttest.Eventually(t, "it is locked", func() bool { return len(o.status(t, "example.com").Locks) == 1 })
	o.refused(t, "Domain example.com is locked.")
	o.run(t, "rm "+file)
	hosttest.Eventually(t, "it is released", func() bool { return len(o.status(t, "example.com").Locks) == 0 })

	o.types(t, "sluice stop hacked@example.com --why stolen")
	o.passes(t) // a colleague
	o.types(t, "sluice start hacked@example.com")
	o.cleansUp(t)

	o.passes(t)
	o.types(t, "sluice reset example.com")
	if got := o.status(t, "example.com").Sent; got != 0 {
		t.Errorf("after the reset %d are counted", got)
	}
	o.looksBack(t)
	for line := range strings.Lines(o.types(t, "sluice check --help")) {
		if example := strings.TrimSpace(line); strings.HasPrefix(example, "sluice check ") {
			o.run(t, example)
		}
	}
}

// cleansUp cleans up after a mailbox, and takes that back.
func (o *newcomer) cleansUp(t *testing.T) {
	t.Helper()
	if out := o.types(t, "sluice clean hacked@example.com --dry-run"); !strings.Contains(out, " 1 stop     hacked@example.com, on all nodes") {
		t.Errorf("the plan of a clean:\n%s", out)
	}
	o.run(t, "sluice clean hacked@example.com --yes")
	o.passes(t) // a colleague
	if out := o.types(t, "sluice actions"); !strings.Contains(out, "sluice undo mx1.example:1 ") {
		t.Errorf("what was done:\n%s", out)
	}
	if out := o.types(t, "sluice undo mx1.example:1"); !strings.Contains(out, "this stop of hacked@example.com has ended") {
		t.Errorf("what was taken back:\n%s", out)
	}
}

// looksBack asks what has happened, by whom, and what the incident was.
func (o *newcomer) looksBack(t *testing.T) {
	t.Helper()
	for command, says := range map[string][]string{
		"sluice events example.com --since 2d": {"limit-reached ", "sent 500/500 (100%)", "refused ", "news@example.com", "command unlock", " root ", "lock-removed ", "why stolen"},
		"sluice events":                        {"serving ", "hacked@example.com"},
		"sluice queue":                         {" in Exim's queue"},
		"sluice queue --list":                  {" in Exim's queue"},
		"sluice incident":                      {"-1 ", " info ", " example.com  limit"},
		"sluice incident example.com":          {"example.com   incident ", ", info, open since ", "WHO       news@example.com, ", "[proven]", "500 of 500 sent", "sluice events example.com"},
	} {
		for _, text := range says {
			hosttest.EventuallyOr(t, func() string { return o.types(t, command) }, func() bool { return strings.Contains(o.types(t, command), text) })
		}
	}
}

// meanwhile asks without pause while f runs: every question is to be answered,
// and none refused. That is more than Exim asks for, which goes on without.
func (o *newcomer) meanwhile(t *testing.T, f func()) {
	t.Helper()
	ctx, done := context.WithCancel(t.Context())
	var asked atomic.Int64
	var clients sync.WaitGroup
	for n := range 4 {
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				reply, err := o.ask(context.WithoutCancel(ctx), fmt.Sprintf("%d-%d-%v", n, i, time.Now()), fmt.Sprintf("u@d%d.example", i%1000), "x@far.example")
				if err != nil || !strings.HasPrefix(reply, "action=DUNNO") {
					t.Errorf("answered %q, %v", reply, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	answering := func() {
		before := asked.Load()
		hosttest.Eventually(t, "questions are answered", func() bool { return asked.Load() > before+100 || t.Failed() })
	}
	answering()
	f()
	answering()
	done()
	clients.Wait()
	t.Logf("%d questions, all answered", asked.Load())
}

// restarts runs what restarts sluice, over which systemd keeps the socket.
func (o *newcomer) restarts(t *testing.T, restart func()) {
	t.Helper()
	process, socket := o.property(t, "MainPID"), o.socket(t)
	o.meanwhile(t, restart)
	if o.property(t, "MainPID") == process {
		t.Error("sluice was not restarted")
	}
	if !os.SameFile(socket, o.socket(t)) {
		t.Error("the policy socket is another one after the restart")
	}
}

func (o *newcomer) socket(t *testing.T) os.FileInfo {
	t.Helper()
	info, err := os.Stat(o.path("/run/sluice/policy.sock"))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// raisesForADay raises a limit, sees who did it, and takes it back.
func (o *newcomer) raisesForADay(t *testing.T) {
	const set = "sluice set example.com hourly=2000 --for 24h --why sale"
	o.fill(t)
	o.refused(t, "Domain example.com has exceeded the max emails per hour (501/500 (100%)) allowed.")
	if out := o.run(t, set+" --preview"); !strings.Contains(out, "example.com would be released at once: 500/500 (100%)") {
		t.Errorf("the preview:\n%s", out)
	}
	o.types(t, set)
	o.passes(t)
	for _, command := range []string{"sluice explain example.com", "sluice history"} {
		if out := o.types(t, command); !strings.Contains(out, "root") || !strings.Contains(out, "sale") || !strings.Contains(out, "2000") {
			t.Errorf("%s does not tell who set what, and why:\n%s", command, out)
		}
	}
	o.types(t, "sluice rollback 3")
	o.refused(t, "Domain example.com has exceeded the max emails per hour (502/500 (100%)) allowed.")
	o.run(t, set)
	o.passes(t)
	o.types(t, "sluice unset example.com")
	o.refused(t, "Domain example.com has exceeded the max emails per hour (503/500 (100%)) allowed.")
	o.run(t, "sluice reset example.com")
	if out := o.types(t, "sluice expect news@example.com 5000 --for 24h"); !strings.Contains(out, "expected 0 -> 5000") {
		t.Errorf("what news@example.com is expected to send:\n%s", out)
	}
}

func (o *newcomer) raises(t *testing.T) {
	o.fill(t)
	o.refused(t, "Domain example.com has exceeded the max emails per hour (501/500 (100%)) allowed.")
	o.run(t, "cat >>/etc/sluice/sluice.toml <<'END'\n"+o.block(t, "[limits.domain.")+"END")
	o.types(t, "sluice config --check")
	hosttest.Eventually(t, "the file is in force", func() bool { return o.status(t, "example.com").Hourly == raised })
	o.passes(t)
	if got := o.status(t, "example.com"); got.Hourly != raised || got.Sent != hourly+1 {
		t.Errorf("of %d are used %d, want %d of %d", got.Hourly, got.Sent, hourly+1, raised)
	}
	process := o.property(t, "MainPID")
	o.run(t, "systemctl reload sluice")
	if o.property(t, "MainPID") != process {
		t.Error("a reload has restarted sluice")
	}
}

func (o *newcomer) updates(t *testing.T) {
	o.restarts(t, func() {
		if out := o.run(t, o.block(t, "make install\n")); strings.Contains(out, "put in") {
			t.Errorf("an update with nothing new changes something:\n%s", out)
		}
	})
	o.passes(t)
	o.updatesFrom(t, "be75ce7")
}

// updatesFrom has the recipe find the state that an earlier version has left, which was killed:
// what was set there, and by whom, is in force.
func (o *newcomer) updatesFrom(t *testing.T, commit string) {
	o.run(t, "systemctl stop sluice.socket sluice\nmv /var/lib/sluice /var/lib/today\ncp -r sidecar/engine/testdata/earlier/"+commit+" /var/lib/sluice")
	o.run(t, o.block(t, "make install\n"))
	if out := o.run(t, "exim4 -be '${acl{acl_sluice_ask}{rcpt}}'"); !strings.HasPrefix(out, "action=DUNNO") {
		t.Errorf("with the state of %s sluice answers %q", commit, out)
	}
	if out := o.run(t, "sluice explain two.example"); !strings.Contains(out, "+0000, change 1") {
		t.Errorf("of %s the limit of two.example is not in force:\n%s", commit, out)
	}
	for _, set := range []string{"four.example  hourly 5 -> 100", "account:bob   daily (not set here) -> 70", "two.example   hourly 5 -> 7"} {
		if out := o.run(t, "sluice history"); !strings.Contains(out, set) {
			t.Errorf("of %s the history lacks %q:\n%s", commit, set, out)
		}
	}
	o.run(t, "systemctl stop sluice.socket sluice\nrm -r /var/lib/sluice\nmv /var/lib/today /var/lib/sluice\nsystemctl start sluice.socket sluice")
	o.passes(t)
}

// asksByTCP shows the units where Exim asks over TCP: systemd opens the port, on which no
// user can listen while sluice is down.
func (o *newcomer) asksByTCP(t *testing.T) {
	o.run(t, `cp /etc/sluice/sluice.toml /root/before
sed -i '1i [listen]\npolicy = ["unix:/run/sluice/policy.sock", "tcp:127.0.0.1:293"]\n' /etc/sluice/sluice.toml`)
	out := o.run(t, "sluice exim install --way tcp")
	if !strings.Contains(out, "systemctl enable sluice-tcp.socket; systemctl restart sluice") {
		t.Errorf("install --way tcp does not say what sluice needs:\n%s", out)
	}
	o.run(t, "systemctl enable sluice-tcp.socket; systemctl restart sluice")
	if out := o.run(t, "exim4 -be '${acl{acl_sluice_ask}{rcpt}}'"); !strings.HasPrefix(out, "action=DUNNO") {
		t.Errorf("over TCP sluice answers %q", out)
	}
	o.run(t, "systemctl stop sluice-tcp.socket sluice.socket sluice")
	if out, code := o.try(t, `setpriv --reuid=www-data perl -MSocket -e 'socket S, PF_INET, SOCK_STREAM, 0; bind S, pack_sockaddr_in(293, INADDR_LOOPBACK) or die "$!\n"'`); code == 0 || !strings.Contains(out, "Permission denied") {
		t.Errorf("a user listens in place of sluice: exit %d\n%s", code, out)
	}
	o.run(t, `systemctl disable sluice-tcp.socket
mv /root/before /etc/sluice/sluice.toml
systemctl start sluice.socket sluice
sluice exim install --way perl`)
	o.passes(t)
}
