package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/milter/mtatest"
	"sluice/sidecar/operator"
	"sluice/sidecar/typed"
)

// snippet is a block of docs/postfix.md.
func snippet(t testing.TB, name string) string {
	t.Helper()
	return mtatest.Snippet(t, "../../docs/postfix.md", name)
}

// A postfixHost is a real Postfix that asks a sluice, both configured as
// docs/postfix.md says.
type postfixHost struct {
	*mtatest.Postfix
	*servedNode
	config string
	ports  []int // of the site's ports
}

const (
	atRcpt = "rcpt"
	atEnd  = "end-of-message"
)

// A postfixSite is how a postfixHost is set up.
type postfixSite struct {
	charge   string
	limits   string   // the rest of sluice.toml
	blocks   []string // of the page, for main.cf
	settings string   // more for main.cf
	ports    []string // settings of further ports
	hurried  bool     // waits for sluice as the page has it, and no longer
}

// patient has Postfix wait longer for sluice than the page has it: a busy machine may
// stall for a second, and what passed unasked is not counted.
func patient(settings string) string {
	return strings.ReplaceAll(settings, "timeout=1s", "timeout=20s")
}

// start makes the host and starts its Postfix.
func (site postfixSite) start(t testing.TB) *postfixHost {
	t.Helper()
	settings := site.settings
	for _, b := range site.blocks {
		settings += snippet(t, "cf main.cf "+b)
	}
	if !site.hurried {
		settings = patient(settings)
	}
	h := &postfixHost{Postfix: mtatest.NewPostfix(t, settings)}
	for _, port := range site.ports {
		h.ports = append(h.ports, h.AddPort(t, port))
	}
	dir := h.Path("/run")
	page := snippet(t, "toml sluice.toml")
	for _, replaced := range [][2]string{
		{"/run/sluice/", dir + "/sluice/"}, {"/var/spool/postfix/", h.Path("/var/spool/postfix") + "/"}, {"/var/log/", h.Path("/var/log") + "/"},
		{`charge = "rcpt"`, fmt.Sprintf("charge = %q", site.charge)},
		{"[listen]\n", fmt.Sprintf("[listen]\nadmin = \"unix:%s/sluice/admin.sock\"\n", dir)},
		{"[exim]\n", "[exim]\nbinary = \"/usr/sbin/exim4\"\n"},
	} {
		if !strings.Contains(page, replaced[0]) {
			t.Fatalf("sluice.toml of docs/postfix.md has no %q", replaced[0])
		}
		page = strings.ReplaceAll(page, replaced[0], replaced[1])
	}
	h.config = fmt.Sprintf("alert.to = []\n%s[store]\nnode = \"pf.example\"\ndir = \"%s/ledger\"\n[locks]\ndir = \"%s/locks\"\n%s", page, dir, dir, site.limits)
	h.Start(t)
	return h
}

func (h *postfixHost) startSluice(t testing.TB) {
	t.Helper()
	h.servedNode = startServeWith(t, h.Path("/run"), h.config)
}

// sent is how many sends of a domain are counted.
func (h *postfixHost) sent(t testing.TB, domain string) int64 { return h.domain(t, domain).Sent }

// domain is what sluice shows of a domain.
func (n *servedNode) domain(t testing.TB, name string) operator.DomainStatus {
	t.Helper()
	s, err := n.client(t).Status(t.Context(), name)
	if errors.Is(err, typed.ErrNotFound) {
		return operator.DomainStatus{Domain: name}
	}
	if err != nil || len(s.Domains) != 1 {
		t.Fatalf("status: %v, %+v", err, s)
	}
	return s.Domains[0]
}

// The ways in which Postfix asks.
var ways = []struct {
	name, charge string
	blocks       []string
}{
	{"policy service, charged at RCPT", atRcpt, []string{"policy"}},
	{"policy service, charged at the end", atEnd, []string{"policy", "end-of-message"}},
	{"milter", atEnd, []string{"milter"}},
	{"both, charged at RCPT", atRcpt, []string{"policy", "milter"}},
	{"both, charged at the end", atEnd, []string{"policy", "end-of-message", "milter"}},
}

// limitOfTwenty has one domain with a limit of 20 send 21:
//
//	client -> Postfix -> sluice: RCPT 1 ... 20 taken, RCPT 21 refused -> sink has 20
func (h *postfixHost) limitOfTwenty(t *testing.T) {
	t.Helper()
	h.Login(t, "news", "shop.example")
	c := h.Dial(t).Login("news@shop.example")
	c.Mail("news@shop.example")
	for i := 1; i <= 18; i++ {
		c.Want(c.Rcpt(fmt.Sprintf("u%d@far.example", i)), 250)
	}
	c.Want(c.Rcpt("alice@here.example"), 250)
	c.Want(c.Data(hosttest.Letter("x")), 250)
	c.Mail("news@shop.example") // another message of the connection
	c.Want(c.Rcpt("u19@far.example"), 250)
	c.Want(c.Rcpt("u20@far.example"), 250)
	c.WantPart(c.Rcpt("u21@far.example"), 450, "Domain shop.example has exceeded the max emails per hour (21/20 (105%)) allowed.  Message will be reattempted later")
	c.WantPart(c.Rcpt("u21@far.example"), 450, "(21/20 (105%))")
	c.Want(c.Data(hosttest.Letter("x")), 250)
	if got := h.sent(t, "shop.example"); got != 20 {
		t.Errorf("%d counted, want 20", got)
	}
	hosttest.Eventually(t, "20 delivered", func() bool { return h.Sink.Count() == 20 })
}

// What became of the mail, by a real Postfix's log:
//
//	client -> Postfix -> sink: taken, greylisted and taken later, refused
//	                  -> nobody: refused, and expired
//	                  -> no name server
func TestPostfixOutcomes(t *testing.T) {
	for _, charge := range []string{atRcpt, atEnd} {
		t.Run(charge, func(t *testing.T) {
			t.Parallel()
			h := postfixSite{charge: charge, limits: "[limits]\ndeferfail_percent = 0\n", blocks: []string{"policy", "end-of-message", "sendmail"}, settings: `
transport_maps = inline:{ {dead.example=smtp:[127.0.0.1]:1} {nodns.example=smtp:} }
virtual_alias_maps = inline:{ {team@far.example=member@far.example} }
minimal_backoff_time = 1s
queue_run_delay = 1s
`}.start(t)
			h.startSluice(t)
			h.Login(t, "news", "shop.example")
			h.Sink.Refuse("grey@far.example", 450, "greylisted, try again later")
			h.Sink.Refuse("gone@far.example", 550, "no such user")
			c := h.Dial(t).Login("news@shop.example")
			for _, to := range [][]string{
				{"u1@far.example", "u2@far.example", "alice@here.example"}, {"grey@far.example"}, {"gone@far.example", "u3@far.example"},
				{"x@dead.example"}, {"x@nodns.example"}, {"alice@here.example"}, {"team@far.example"},
			} {
				c.Want(c.Send("news@shop.example", hosttest.Letter("x"), to...), 250)
			}
			h.wantOutcomes(t, "shop.example", 8, 4, 3, 1)
			h.Sink.Accept("grey@far.example")
			h.Flush(t)
			h.wantOutcomes(t, "shop.example", 8, 5, 2, 1)
			h.wantCauses(t, "shop.example", "dns 1, no-such-address 1, unreachable 1")
			h.servedNode.stop()
			if err := os.Rename(h.Path("/var/log/mail.log"), h.Path("/var/log/mail.log.1")); err != nil {
				t.Fatal(err)
			}
			h.Run(t, "", "postconf", "-e", "maximal_queue_lifetime=1s", "bounce_queue_lifetime=1s")
			h.Run(t, "", "postfix", "reload")
			h.Flush(t)
			h.startSluice(t) // what is deferred is known over a restart and a rotation
			h.wantOutcomes(t, "shop.example", 8, 5, 0, 3)
			h.wantCauses(t, "shop.example", "dns 1, unreachable 1")
		})
	}
}

// wantCauses fails unless these causes are among those of a domain's bad sends.
func (h *postfixHost) wantCauses(t testing.TB, domain, want string) {
	t.Helper()
	var causes []string
	for _, c := range h.domain(t, domain).Causes {
		causes = append(causes, fmt.Sprint(c.Cause, " ", c.Count))
	}
	slices.Sort(causes)
	got := strings.Join(causes, ", ")
	for cause := range strings.SplitSeq(want, ", ") {
		if !slices.Contains(causes, cause) {
			t.Errorf("causes %s, want %s", got, want)
			return
		}
	}
}

// wantOutcomes waits until a domain has these. Postfix is told to try again now and
// then: what it skips as being delivered, over a reload, waits for minutes otherwise.
func (h *postfixHost) wantOutcomes(t testing.TB, domain string, want ...int64) {
	t.Helper()
	var d operator.DomainStatus
	var got []int64
	looks := 0
	hosttest.EventuallyOr(t, func() string {
		return fmt.Sprintf("%s: sent, delivered, deferred, failed are %v, want %v\n%s", domain, got, want, h.log)
	}, func() bool {
		d = h.domain(t, domain)
		got = []int64{d.Sent, d.Delivered, d.Deferred, d.Failed}
		if looks++; looks%400 == 0 {
			h.Flush(t)
		}
		return slices.Equal(got, want)
	})
}

// asPostfix asks on both sockets of the page as Postfix's smtpd does.
const asPostfix = `setpriv --reuid=postfix --regid=postfix --clear-groups perl -MIO::Socket::UNIX -e '
	chdir "/var/spool/postfix" or die $!;
	IO::Socket::UNIX->new("sluice/milter.sock") or die "milter: $!";
	my $policy = IO::Socket::UNIX->new("sluice/policy.sock") or die "policy: $!";
	print $policy "request=smtpd_access_policy\nprotocol_state=RCPT\ninstance=1.2.3\nsender=a\@shop.example\nsasl_username=a\@shop.example\nrecipient=b\@far.example\n\n";
	$policy->flush;
	print scalar <$policy>'`

// asksForPostfix does what docs/postfix.md says of sluice, beside the queue of a real
// Postfix, for whose user sluice then listens there, confined as it is by systemd.
func (o *newcomer) asksForPostfix(t *testing.T) {
	queue := filepath.Join(mtatest.Roots, "postfix/var/spool/postfix")
	if out, err := exec.Command("cp", "-a", queue, o.path("/var/spool")).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v\n%s", queue, err, out)
	}
	o.run(t, "useradd --system postfix\ncat >/etc/sluice/sluice.toml <<'END'\n"+snippet(t, "toml sluice.toml")+"END\nsluice config --check")
	o.run(t, snippet(t, "sh"))
	if got := o.run(t, asPostfix); got != "action=DUNNO\n" {
		t.Errorf("Postfix's user was answered %q", got)
	}
	if got := o.status(t, "shop.example"); got.Sent != 1 {
		t.Errorf("%d sends of shop.example counted, want 1", got.Sent)
	}
	o.reboot(t)
	if got := o.run(t, asPostfix); got != "action=DUNNO\n" {
		t.Errorf("after a boot Postfix's user was answered %q", got)
	}
}
