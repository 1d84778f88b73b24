package eximconfig_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
)

// Tenants of a shared host, with the real sidecar and an owner map:
//
//	alice: alice.example, shop.example        bob: bob.example
//	  │ PHP as web, in her home                 │
//	  └─→ sendmail, AUTH, loopback ─→ Exim ─→ sluice: her budget, whatever the sender says

// Programs of the host that send mail. As web runs the PHP of all sites.
var (
	web     = login{"web", 2003}
	proxy   = login{"haproxy", 2004}
	filter  = login{"amavis", 2005}
	mailman = login{"mailman", 2006}
)

const tenants = `
[identity]
owners = "/run/userdomains"
main_domains = "/run/trueuserdomains"
[limits]
defer_cutoff = 10000
`

// newSharedHost makes a host that alice and bob share. limits is the rest of
// the sidecar's configuration.
func newSharedHost(t *testing.T, limits string) *host {
	t.Helper()
	h := newHost(t)
	h.share(t, limits)
	return h
}

// share starts the sidecar of a host that alice and bob share.
func (h *host) share(t *testing.T, limits string) {
	t.Helper()
	h.shareWith(t, "", limits)
}

// shareWith is share with more of the configuration's section [identity].
func (h *host) shareWith(t *testing.T, identity, limits string) *process {
	t.Helper()
	h.write(t, "/run/userdomains", "alice.example: alice\nshop.example: alice\nxn--bcher-kva.example: alice\nbob.example: bob\n*: nobody\n")
	h.write(t, "/run/trueuserdomains", "alice.example: alice\nbob.example: bob\n")
	return h.startSluice(t, strings.Replace(tenants, "[identity]\n", "[identity]\n"+identity, 1)+limits)
}

// php sends a message as the PHP of a user's site does.
func (h *host) php(t *testing.T, site login, from string, to ...string) {
	t.Helper()
	h.phpIn(t, site, site, from, to...)
}

// phpIn sends a message as PHP does that runs a script of one user in the folder of another.
func (h *host) phpIn(t *testing.T, site, script login, from string, to ...string) {
	t.Helper()
	message := fmt.Sprintf("X-PHP-Originating-Script: %d:mailer.php\n%s", script.id, hosttest.Letter("from a site"))
	if out, code := h.sendmail(t, web, "../"+site.name+"/public_html", message, append([]string{"-oi", "-f", from}, to...)...); code > 1 {
		t.Fatalf("sendmail: exit %d\n%s", code, out)
	}
}

// Complaint: PHP mail of all tenants pooled under one empty key.
func TestPHPMailOfAllTenantsPooledUnderOneEmptyKey(t *testing.T) {
	t.Parallel()
	h := newSharedHost(t, "hourly = 2")
	for i, from := range []string{"joe@alice.example", "joe@shop.example", "joe@free.example"} {
		h.php(t, alice, from, fmt.Sprintf("a%d@far.example", i))
	}
	h.php(t, bob, "joe@bob.example", "b0@far.example")
	held := hourlyText("web:alice", 3, 2, laterText)
	hosttest.Eventually(t, "all but one are delivered", func() bool { return h.sink.Count() == 3 && h.heldLines(held) == 1 })

	h.queueRun(t, "-q") // from another directory
	want := map[string]int64{"web:alice": 2, "web:bob": 1}
	if got := h.sent(t); !maps.Equal(got, want) {
		t.Errorf("charged %v, want %v", got, want)
	}
	if h.sink.Count() != 3 || len(h.queue()) != 1 || len(h.locks(t)) > 0 {
		t.Errorf("after a queue run %d are delivered, and there are %d in the queue and the locks %v", h.sink.Count(), len(h.queue()), h.locks(t))
	}

	if err := h.reset(t, "web:alice"); err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, "what was held is delivered", func() bool { return h.sink.Count() == 4 && len(h.queue()) == 0 })
	want["web:alice"] = 1
	if got := h.sent(t); !maps.Equal(got, want) {
		t.Errorf("after the release charged %v, want %v", got, want)
	}
}

// sent is how many sends of each domain and special subject are counted, of which there are
// any.
func (h *host) sent(t *testing.T) map[string]int64 {
	t.Helper()
	sent := map[string]int64{}
	s := h.all(t)
	for _, d := range s.Domains {
		sent[d.Domain] = d.Sent
	}
	for _, sc := range s.Scopes {
		if sidecar.IsSpecial(sc.Scope) {
			sent[sc.Scope] = sc.Sent
		}
	}
	maps.DeleteFunc(sent, func(_ string, n int64) bool { return n == 0 })
	return sent
}

// A script that speaks SMTP to sendmail -bs is told apart too. What the host's alias makes
// of its mail is the alias's.
func TestPHPMailOverAPipeIsNotPooled(t *testing.T) {
	t.Parallel()
	h := newSharedHost(t, "hourly = 5")
	c := h.as(t, web, "../alice/cgi").pipe(t, "/usr/sbin/sendmail", "-bs")
	c.Want(c.Send("joe@free.example", hosttest.Letter("x"), "one@far.example"), 250)
	c.Want(c.Send("joe@free.example", hosttest.Letter("x"), "forward@here.example"), 250)
	hosttest.Eventually(t, "both are delivered", func() bool { return h.sink.Count() == 2 && len(h.queue()) == 0 })
	if got, want := h.sent(t), map[string]int64{"web:alice": 1, "forward:here.example": 1}; !maps.Equal(got, want) {
		t.Errorf("charged %v, want %v", got, want)
	}
}

// An attack is how a tenant, or who is in a tenant's place, tries to send at another's
// cost or at nobody's. It is tried three times with a limit of two.
type attack struct {
	name  string
	payer string
	send  func(t *testing.T, h *host, n int, to string)
}

// forgedSender is an address that only the list software's login may exempt, and auth the
// mailbox that the panel has suspended.
const (
	forgedSender = "ann-bounces+x=y@lists.example"
	suspended    = "sam@shop.example"
)

const exemptions = `
[[identity.exempt]]
sender = "*-bounces*@lists.example"
login = "mailman"
[[identity.exempt]]
sender = "*-bounces*@lists.example"
auth = "` + suspended + `"
`

// bySendmail is an attack of alice by sendmail.
func bySendmail(args ...string) func(*testing.T, *host, int, string) {
	return func(t *testing.T, h *host, _ int, to string) {
		h.sendmail(t, alice, "www", hosttest.Letter("x"), append(args, to)...)
	}
}

// bySMTP is an attack by a program of alice that logs in as each of some ids in turn, or not
// at all.
func bySMTP(from string, ids ...string) func(*testing.T, *host, int, string) {
	return func(t *testing.T, h *host, n int, to string) {
		id := ""
		if len(ids) > 0 {
			id = ids[n%len(ids)]
		}
		h.attempt(t, id, from, to)
	}
}

var attacks = []attack{
	{"sendmail -f a neighbour", "alice.example", bySendmail("-f", "joe@bob.example")},
	{"a forged From", "alice.example", func(t *testing.T, h *host, _ int, to string) {
		h.sendmail(t, alice, "www", strings.ReplaceAll(hosttest.Letter("x"), "a@here.example", "joe@bob.example"), to)
	}},
	{"null sender by sendmail", "alice.example", bySendmail("-f", "<>")},
	{"null sender by AUTH", "alice.example", bySMTP("", "alice")},
	{"null sender over the loopback (S-01)", "alice.example", bySMTP("")},
	{"a neighbour's sender over the loopback", "alice.example", bySMTP("joe@bob.example")},
	{"AUTH and a neighbour's sender", "alice.example", bySMTP("joe@bob.example", "alice")},
	{"AUTH by a mailbox and a neighbour's sender", "shop.example", bySMTP("joe@bob.example", "eva@shop.example")},
	{"forged exempt sender by sendmail (S-04)", "alice.example", bySendmail("-f", forgedSender)},
	{"forged exempt sender by AUTH (S-04)", "shop.example", bySMTP(forgedSender, "eva@shop.example")},
	{"forged exempt sender over the loopback", "alice.example", bySMTP(forgedSender)},
	{"chdir into a neighbour (S-05)", "service:web", func(t *testing.T, h *host, _ int, to string) {
		h.phpIn(t, bob, alice, "eva@alice.example", to)
	}},
	{"chdir into a neighbour, in his name", "service:web", func(t *testing.T, h *host, _ int, to string) {
		h.phpIn(t, bob, alice, "joe@bob.example", to)
	}},
	{"PHP in the name of a neighbour", "service:web", func(t *testing.T, h *host, _ int, to string) {
		h.php(t, alice, "joe@bob.example", to)
	}},
	{"PHP in nobody's folder", "service:web", func(t *testing.T, h *host, _ int, to string) {
		h.sendmail(t, web, "tmp", hosttest.Letter("x"), "-f", "joe@bob.example", to)
	}},
	{"other forms of a login (A-05)", "shop.example", bySMTP("x@free.example", "eva@shop.example", "eva+shop.example", "Eva%Shop.example", "eva:shop.example")},
	{"other spellings of a domain", "shop.example", bySMTP("x@free.example", "eva@shop.example", "eva@SHOP.example..", "eva@shop\u3002example\uff0e")},
	{"an IDN login (A-04)", "xn--bcher-kva.example", bySMTP("", "eva@xn--bcher-kva.example", "eva@b\u00fccher.example", "eva@B\u00dcCHER.example")},
	{"a name that folds to nothing", "service:eva", bySMTP("x@bob.example", "eva@\u00ad", "eva@\u3002", "eva@..")},
}

// attempt sends by SMTP, where the recipient may be refused.
func (h *host) attempt(t *testing.T, id, from, to string) {
	t.Helper()
	c := h.dialAs(t, alice, h.ip)
	if id != "" {
		c.Login(id)
	}
	c.Mail(from)
	if c.Rcpt(to).Code == 250 {
		c.Data(hosttest.Letter("x"))
	}
	c.Want(c.Cmd("QUIT"), 221)
}

// Whatever is tried, the payer is charged to the last recipient, and nobody else.
func TestNoTenantSpendsAnothersBudget(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.addMacros(t, "MAIN_TRUSTED_USERS = uucp : web\n") // as on hosts where PHP may choose its sender
	h.share(t, "hourly = 2"+exemptions)
	h.startExim(t)
	for i, a := range slices.Concat(attacks, submissions) {
		h.dropQueue(t)      // a reset would send what the one before left
		h.reset(t, a.payer) // fails where nothing is counted yet
		want := h.sent(t)
		want[a.payer] = 2
		for n := range 3 { // one over the limit
			a.send(t, h, n, fmt.Sprintf("r%d-%d@far.example", i, n))
		}
		hosttest.Eventually(t, a.name+": "+a.payer+" is refused the third", func() bool { return h.counts(t, a.payer).Refused == 1 })
		if got := h.sent(t); !maps.Equal(got, want) {
			t.Fatalf("%s: charged %v, want %v", a.name, got, want)
		}
		if locked := slices.Contains(h.locks(t), "max_hourly_"+a.payer); locked != sidecar.IsDomain(a.payer) {
			t.Errorf("%s: %s has a lock file: %v", a.name, a.payer, locked)
		}
	}
	h.attempt(t, "joe@bob.example", "joe@bob.example", "bob-1@far.example")
	h.sendmail(t, bob, "www", hosttest.Letter("x"), "-f", "joe@bob.example", "bob-2@far.example")
	hosttest.Eventually(t, "bob sends all of his", func() bool {
		to := h.sink.Recipients()
		return slices.Contains(to, "bob-1@far.example") && slices.Contains(to, "bob-2@far.example")
	})
	if out, code := h.root().try(t, hosttest.Letter("x"), "/usr/sbin/sendmail", "-f", "root@"+node, "a@far.example", "b@far.example", "c@far.example"); code != 0 {
		t.Errorf("an alarm is refused: exit %d\n%s", code, out)
	}
	if got := h.counts(t, "system"); got.Sent != 3 {
		t.Errorf("system: %+v, want 3 sends", got)
	}
}

// A mailbox that the panel has suspended stays refused, also if it writes a sender that
// would be exempt.
func TestASuspendedMailboxWithAnExemptSender(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(t, "/etc/outgoing_mail_suspended_users", suspended+"\n")
	h.startSluice(t, exemptions)
	h.startExim(t)
	c := h.dial(t).Login(suspended)
	c.Mail(forgedSender)
	c.WantPart(c.Rcpt("r@far.example"), 550, "Mailbox "+suspended+" has been suspended from sending.")
	if got := h.all(t).Totals; got.Exempt != 0 || got.Refused != 1 {
		t.Errorf("%+v", got)
	}
}

// dropQueue removes all messages.
func (h *host) dropQueue(t *testing.T) {
	t.Helper()
	hosttest.Eventually(t, "the queue is empty", func() bool {
		if ids := h.queue(); len(ids) > 0 {
			h.try(t, append([]string{"exim4", "-Mrm"}, ids...)...) // fails for one that is being delivered
		}
		return len(h.queue()) == 0
	})
}

// locks are the files in the lock directory.
func (h *host) locks(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(h.path(lockDir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() { // of the stopped
			names = append(names, e.Name())
		}
	}
	return names
}

// Hosts of the panels have owner maps of the panel's, mailboxes, forwarders, lists
// and list software. Who is charged there, by domain.
func TestPanelHostsChargeTheOwner(t *testing.T) {
	for layout, maps := range map[string]struct{ owners, main string }{
		"cpanel":      {"/etc/userdomains", "/etc/trueuserdomains"},
		"directadmin": {"/etc/virtual/domainowners", ""},
	} {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			h := newHostOf(t, layout, "perl")
			h.write(t, maps.owners, "alice.example: alice\nshop.example: alice\nbob.example: bob\nhere.example: carol\n")
			if maps.main != "" {
				h.write(t, maps.main, "alice.example: alice\nbob.example: bob\nhere.example: carol\n")
			}
			h.startSluice(t, fmt.Sprintf("[identity]\nowners = %q\nmain_domains = %q\n", maps.owners, maps.main)+
				"[[identity.exempt]]\nsender = \"list-*@here.example\"\nlogin = \"mail\"\n[limits]\ndefer_cutoff = 1000\n[limits.account.alice]\nhourly = 3\n")
			h.startExim(t)
			h.attempt(t, "eva@shop.example", "eva@shop.example", "mailbox@far.example")
			h.attempt(t, "alice", "any@shop.example", "addon@far.example")
			h.attempt(t, "alice", "joe@bob.example", "foreign@far.example")
			c := h.dial(t).Login("alice")
			c.Mail("any@alice.example")
			wantRefused(t, c.Rcpt("fourth@far.example"), 450, strings.Replace(hourlyText("alice", 4, 3, laterText), "Domain", "Account", 1))
			if out, code := h.sendmail(t, bob, "www", hosttest.Letter("x"), "-f", "joe@bob.example", "script@far.example"); code != 0 {
				t.Fatalf("sendmail: exit %d\n%s", code, out)
			}
			outside := h.dialFrom(t, "192.0.2.9")
			for _, to := range []string{"forward", "list", "listserv"} {
				outside.Want(outside.Send("who@else.example", hosttest.Letter("x"), to+"@here.example"), 250)
			}
			// The forward is one, the list three, and the list software two, which is exempt.
			hosttest.Eventually(t, "all are delivered", func() bool { return h.sink.Count() == 4+1+3+2 && len(h.queue()) == 0 })
			want := map[string]int64{"shop.example": 2, "alice.example": 1, "bob.example": 1, "forward:here.example": 4}
			if got := h.sent(t); len(got) != len(want) || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("charged %v, want %v", got, want)
			}
			if got := h.status(t, "shop.example").Account; got != "alice" {
				t.Errorf("shop.example is shown as %q's", got)
			}
		})
	}
}

// Attack: a local user has Exim test what it would say to a neighbour who has logged in
// (exim -bh, -bhc with -oMai). Our ACLs run as Exim's user there, and the neighbour would
// pay for mail that nobody sends.
//
//	alice: exim -bh 192.0.2.1 -oMai joe@bob.example ─→ ACLs ─✗ sluice
func TestATestSessionAsksNothing(t *testing.T) {
	for _, way := range []string{"perl", "tcp"} { // with and without a pause of Exim's own
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHostOf(t, "debian", way)
			h.startSluice(t, "[limits]\nhourly = 2")
			session := "EHLO pc\r\n"
			for i := range 4 {
				session += fmt.Sprintf("MAIL FROM:<joe@bob.example>\r\nRCPT TO:<r%d@far.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n", i)
			}
			for _, test := range []string{"-bh", "-bhc"} {
				out, _ := h.as(t, alice, "").try(t, session+"QUIT\r\n",
					"/usr/sbin/exim4", test, "192.0.2.1", "-oMaa", "plain", "-oMai", "joe@bob.example")
				if strings.Count(out, "250 OK id=") != 4 {
					t.Errorf("%s did not get through:\n%s", test, out)
				}
			}
			if got := h.status(t, "bob.example"); got.Sent != 0 || got.Refused != 0 || len(got.Locks) > 0 {
				t.Errorf("bob.example pays for a test: %+v", got)
			}
			h.startExim(t) // a real session does ask
			c := h.dial(t).Login("joe@bob.example")
			c.Want(c.Send("joe@bob.example", hosttest.Letter("x"), "r1@far.example"), 250)
			if got := h.status(t, "bob.example"); got.Sent != 1 {
				t.Errorf("a real session was charged %d, want 1", got.Sent)
			}
		})
	}
}
