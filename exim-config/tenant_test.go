package eximconfig_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// Tenants of a shared host, with the real sidecar and an owner map:
//
//	alice: alice.example, shop.example        bob: bob.example
//	  │ PHP as web, in her home                 │
//	  └─→ sendmail, AUTH, loopback ─→ Exim ─→ sluice: her budget, whatever the sender says

// web is the web server's user: the PHP of all sites runs as it.
var web = login{"web", 2003}

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
	h.write(t, "/run/userdomains", "alice.example: alice\nshop.example: alice\nbob.example: bob\n*: nobody\n")
	h.write(t, "/run/trueuserdomains", "alice.example: alice\nbob.example: bob\n")
	h.startSluice(t, tenants+limits)
	return h
}

// php sends a message as the PHP of a user's site does.
func (h *host) php(t *testing.T, site login, from string, to ...string) {
	t.Helper()
	message := fmt.Sprintf("X-PHP-Originating-Script: %d:mailer.php\n%s", web.id, hosttest.Letter("from a site"))
	folder := "../" + site.name + "/public_html"
	if out, code := h.sendmail(t, web, folder, message, append([]string{"-oi", "-f", from}, to...)...); code != 0 {
		t.Fatalf("sendmail: exit %d\n%s", code, out)
	}
}

// Complaint: PHP mail of all tenants pooled under one empty key.
func TestPHPMailOfAllTenantsPooledUnderOneEmptyKey(t *testing.T) {
	t.Parallel()
	h := newSharedHost(t, "hourly = 2")
	for i := range 3 { // whoever the sender claims to be
		h.php(t, alice, "joe@bob.example", fmt.Sprintf("a%d@far.example", i))
	}
	h.php(t, alice, "eva@shop.example", "shop@far.example") // her addon domain has its own limit
	h.php(t, bob, "joe@bob.example", "b0@far.example")
	held := hourlyText("alice.example", 3, 2, laterText)
	hosttest.Eventually(t, "all but one are delivered", func() bool { return h.sink.Count() == 4 && h.heldLines(held) == 1 })

	h.queueRun(t, "-q") // from another directory
	for domain, want := range map[string]int64{"alice.example": 2, "shop.example": 1, "bob.example": 1, node: 0} {
		if got := h.status(t, domain); got.Sent != want {
			t.Errorf("%s was charged %d, want %d", domain, got.Sent, want)
		}
	}
	if got := h.status(t, "alice.example"); got.Held != 1 || h.sink.Count() != 4 {
		t.Errorf("after a queue run %d are held and %d delivered, want 1 and 4", got.Held, h.sink.Count())
	}

	h.run(t, h.sluice(t, "unlock", "alice.example")...)
	hosttest.Eventually(t, "what was held is delivered", func() bool { return h.sink.Count() == 5 && len(h.queue()) == 0 })
	if a, b := h.status(t, "alice.example").Sent, h.status(t, "bob.example").Sent; a != 1 || b != 1 {
		t.Errorf("after the release alice.example has %d and bob.example %d, want 1 each", a, b)
	}
}

// A script that speaks SMTP to sendmail -bs is told apart too, also where an
// alias is charged at delivery only.
func TestPHPMailOverAPipeIsNotPooled(t *testing.T) {
	t.Parallel()
	h := newSharedHost(t, "hourly = 5")
	c := h.as(t, web, "../alice/cgi").pipe(t, "/usr/sbin/sendmail", "-bs")
	c.Want(c.Send("joe@bob.example", hosttest.Letter("x"), "one@far.example"), 250)
	c.Want(c.Send("joe@bob.example", hosttest.Letter("x"), "forward@here.example"), 250)
	hosttest.Eventually(t, "both are delivered", func() bool { return h.sink.Count() == 2 && len(h.queue()) == 0 })
	if a, b := h.status(t, "alice.example").Sent, h.status(t, "bob.example").Sent; a != 2 || b != 0 {
		t.Errorf("alice.example was charged %d and bob.example %d, want 2 and 0", a, b)
	}
}

// What alice may try to spend bob's budget, and who is charged for it.
var forgeries = []struct {
	name  string
	payer string
	send  func(t *testing.T, h *host, to string)
}{
	{"sendmail -f", "alice.example", func(t *testing.T, h *host, to string) {
		h.sendmail(t, alice, "www", hosttest.Letter("x"), "-f", "joe@bob.example", to)
	}},
	{"a forged From", "alice.example", func(t *testing.T, h *host, to string) {
		h.sendmail(t, alice, "www", strings.ReplaceAll(hosttest.Letter("x"), "a@here.example", "joe@bob.example"), to)
	}},
	{"a null sender", "alice.example", func(t *testing.T, h *host, to string) {
		h.sendmail(t, alice, "www", hosttest.Letter("x"), "-f", "<>", to)
	}},
	{"her PHP", "alice.example", func(t *testing.T, h *host, to string) {
		h.php(t, alice, "joe@bob.example", to)
	}},
	{"AUTH and a foreign sender", "alice.example", func(t *testing.T, h *host, to string) {
		h.attempt(t, "alice", "joe@bob.example", to)
	}},
	{"AUTH by a mailbox and a foreign sender", "shop.example", func(t *testing.T, h *host, to string) {
		h.attempt(t, "eva@shop.example", "joe@bob.example", to)
	}},
	{"AUTH and a null sender", "alice.example", func(t *testing.T, h *host, to string) {
		h.attempt(t, "alice", "", to)
	}},
	{"SMTP to the loopback", node, func(t *testing.T, h *host, to string) {
		h.attempt(t, "", "joe@bob.example", to)
	}},
	{"PHP in nobody's folder", node, func(t *testing.T, h *host, to string) {
		h.sendmail(t, web, "tmp", hosttest.Letter("x"), "-f", "joe@bob.example", to)
	}},
}

// attempt sends by SMTP, where the recipient may be refused.
func (h *host) attempt(t *testing.T, id, from, to string) {
	t.Helper()
	c := h.dial(t)
	if id != "" {
		c.Login(id)
	}
	c.Mail(from)
	if c.Rcpt(to).Code == 250 {
		c.Data(hosttest.Letter("x"))
	}
	c.Want(c.Cmd("QUIT"), 221)
}

// Neither tenant spends or locks the other's budget.
func TestNoTenantSpendsAnothersBudget(t *testing.T) {
	t.Parallel()
	h := newSharedHost(t, "hourly = 2")
	h.startExim(t)
	for i, f := range forgeries {
		h.dropQueue(t)      // a reset would send what the one before left
		h.reset(t, f.payer) // fails where nothing is counted yet
		for n := range 3 {  // one over the limit
			f.send(t, h, fmt.Sprintf("r%d-%d@far.example", i, n))
		}
		hosttest.Eventually(t, f.name+": "+f.payer+" is locked", func() bool {
			return slices.Contains(h.locks(t), "max_hourly_"+f.payer)
		})
		if got := h.status(t, f.payer); got.Sent != 2 || got.Refused != 1 {
			t.Errorf("%s: %s was charged %d and refused %d, want 2 and 1", f.name, f.payer, got.Sent, got.Refused)
		}
		if got := h.status(t, "bob.example"); got.Sent != 0 || got.Refused != 0 {
			t.Fatalf("%s: bob.example was charged %d and refused %d", f.name, got.Sent, got.Refused)
		}
	}
	h.attempt(t, "joe@bob.example", "joe@bob.example", "bob-1@far.example")
	h.php(t, bob, "joe@bob.example", "bob-2@far.example")
	hosttest.Eventually(t, "bob sends all of his", func() bool {
		to := h.sink.Recipients()
		return slices.Contains(to, "bob-1@far.example") && slices.Contains(to, "bob-2@far.example")
	})
}

// dropQueue removes all messages.
func (h *host) dropQueue(t *testing.T) {
	t.Helper()
	hosttest.Eventually(t, "the queue is empty", func() bool {
		for _, id := range h.queue() {
			h.try(t, "exim4", "-Mrm", id) // fails while it is being delivered
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
		names = append(names, e.Name())
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
				"exempt_senders = [\"list-bounces@here.example\"]\n[limits]\ndefer_cutoff = 1000\n[limits.account.alice]\nhourly = 3\n")
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
			for domain, want := range map[string]int64{"shop.example": 2, "alice.example": 1, "bob.example": 1, "here.example": 4, node: 0} {
				if got := h.status(t, domain).Sent; got != want {
					t.Errorf("%s was charged %d, want %d", domain, got, want)
				}
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
