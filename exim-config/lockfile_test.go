package eximconfig_test

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// Lock files, where nobody answers:
//
//	client ─→ Exim ─ RCPT, DATA, delivery ─→ ✗
//	             └─ exists ─→ email_send_limits/max_hourly_DOMAIN

const lockedText = "4.7.1 Domain %s is locked.  Message will be reattempted later"

func (h *host) lock(t *testing.T, name string) {
	t.Helper()
	h.write(t, lockDir+"/"+name, "20/20 (100%)")
}

func (h *host) unlock(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(h.path(lockDir + "/" + name)); err != nil {
		t.Fatal(err)
	}
}

// Whose lock counts: the domain of the id, else of a sender that can be
// believed. Mail from elsewhere that claims the domain is not refused.
func TestWhoseLockFileSpeaks(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.addMacros(t, "SLUICE_RELAY_HOSTS = 203.0.113.0/28\nMAIN_RELAY_NETS = 127.0.0.0/8 : ::::1 : 203.0.113.0/28 : 198.51.100.0/24 : "+ownAddress(t)+
		"\nMAIN_LOCAL_INTERFACES = 0.0.0.0") // Exim counts as its own those on which it may listen
	h.lock(t, "max_hourly_locked.example")
	h.lock(t, "max_deferfail_failing.example")
	h.lock(t, "max_hourly_xn--bcher-kva.example")
	h.startExim(t)
	as := func(id string) *hosttest.Client { return h.dial(t).Login(id) }
	for _, c := range []struct {
		name           string
		client         *hosttest.Client
		sender, locked string
	}{
		{"the id's domain", as("joe@locked.example"), "joe@free.example", "locked.example"},
		{"a failing one", as("joe@failing.example"), "joe@failing.example", "failing.example"},
		{"in capitals", as("joe@LOCKED.Example"), "joe@free.example", "locked.example"},
		{"an id without one", as("joe"), "joe@locked.example", "locked.example"},
		{"not the sender's", as("joe@free.example"), "joe@locked.example", ""},
		{"a path", as("joe@../email_send_limits"), "joe@free.example", ""},
		{"a relay host", h.dialFrom(t, "203.0.113.1"), "joe@locked.example", "locked.example"},
		{"a host the site relays for, but no [identity] relay", h.dialFrom(t, "198.51.100.1"), "joe@locked.example", ""},
		{"a local user", h.as(t, alice, "").pipe(t, "/usr/sbin/sendmail", "-bs"), "joe@locked.example", "locked.example"},
		{"a program on this host, without AUTH", h.dial(t), "joe@locked.example", "locked.example"},
		{"a program on this host, by IPv6", h.dialFrom(t, "::1"), "joe@locked.example", "locked.example"},
		{"a program at an address of this host", h.dialFrom(t, ownAddress(t)), "joe@locked.example", "locked.example"},
		{"a program on this host, another sender", h.dial(t), "joe@free.example", ""},
		{"an id that comes in octal", as("joe@b\u00fccher.example"), "joe@free.example", "xn--bcher-kva.example"},
		{"an id that comes in octal, in a panel's form", as("joe+B\u00dcCHER.example"), "joe@free.example", "xn--bcher-kva.example"},
		{"an id in octal of another domain", as("joe@k\u00fcche.example"), "joe@locked.example", ""},
		{"a null sender", as("joe"), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := c.client.In(t)
			client.Mail(c.sender)
			client.Want(client.Rcpt("bob@here.example"), 250)
			if c.locked != "" {
				client.Want(client.Rcpt("x@far.example"), 450, fmt.Sprintf(lockedText, c.locked))
			} else {
				client.Want(client.Rcpt("x@far.example"), 250)
			}
		})
	}
	// From elsewhere, to a local recipient.
	c := h.dialFrom(t, "203.0.113.77")
	c.Want(c.Send("joe@locked.example", hosttest.Letter("x"), "alice@here.example"), 250)
}

// ownAddress is an address of this machine that is not the loopback's, if it has any.
func ownAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if ip := a.(*net.IPNet).IP; ip.To4() != nil && !ip.IsLoopback() {
			return ip.String()
		}
	}
	return "127.0.0.2"
}

// While nobody answers, the router holds too what a program on this host has sent without
// AUTH, and what a login has whose id comes in octal; and it loses nothing.
//
//	program, AUTH joe@b\303\274cher.example ─→ Exim ─→ queue ─→ lock ─→ router: held ─→ rm ─→ sink
func TestLockFilesHoldForProgramsAndIDNLogins(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.addMacros(t, "queue_only")
	h.startExim(t)
	c := h.dial(t)
	c.Want(c.Send("php@locked.example", hosttest.Letter("x"), "one@far.example", "two@far.example"), 250)
	c = h.dial(t).Login("joe@b\u00fccher.example")
	c.Want(c.Send("joe@free.example", hosttest.Letter("x"), "three@far.example"), 250)
	c = h.dialFrom(t, "203.0.113.1") // in the name of a domain that is locked
	c.Want(c.Send("joe@locked.example", hosttest.Letter("x"), "list@here.example"), 250)
	h.lock(t, "max_hourly_locked.example")
	h.lock(t, "max_deferfail_xn--bcher-kva.example")
	h.queueRun(t, "-qf")
	if got := h.sink.Recipients(); !slices.Equal(got, []string{"one@far.example", "three@far.example", "two@far.example"}) {
		t.Errorf("delivered to %v, want those of the list", got)
	}
	for domain, held := range map[string]int{"locked.example": 2, "xn--bcher-kva.example": 1} {
		if n := h.heldLines("Domain " + domain + " is locked.  Message will be reattempted later"); n != held {
			t.Errorf("%d recipients of %s are held, want %d", n, domain, held)
		}
	}
	h.unlock(t, "max_hourly_locked.example")
	h.unlock(t, "max_deferfail_xn--bcher-kva.example")
	h.queueRun(t, "-q")
	if len(h.queue()) != 0 || h.sink.Count() != 6 || strings.Contains(h.mainlog(), "**") {
		t.Errorf("after the locks: delivered to %v, %d in the queue", h.sink.Recipients(), len(h.queue()))
	}
}

// Lock files have A-labels in their names. A domain in UTF-8 comes only from a
// sender: Exim writes bytes over 127 in $authenticated_id as \303.
func TestLockFileOfAnInternationalDomain(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.addMacros(t, "MAIN_SMTPUTF8_ADVERTISE_HOSTS = *")
	h.lock(t, "max_hourly_xn--bcher-kva.example")
	h.startExim(t)
	c := h.dial(t).Login("joe")
	for domain, want := range map[string]int{
		"b\u00fccher.example": 450, "B\u00dcCHER.example": 450, "xn--bcher-kva.example": 450,
		"k\u00fcche.example": 250, "\U0001f600.example": 250,
	} {
		c.Want(c.Cmd("MAIL FROM:<joe@%s> SMTPUTF8", domain), 250)
		if r := c.Rcpt("x@far.example"); r.Code != want {
			t.Errorf("%s: %v, want %d", domain, r, want)
		}
		c.Want(c.Cmd("RSET"), 250)
	}
}

// No id that anybody can think of makes the router fail, which would defer the
// recipient for all.
func TestStrangeIdsAreRouted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startExim(t)
	ids := []string{
		"joe@\U0001f600.example", "joe@b\xff.example", "joe@-\u00fc.example", "joe@" + strings.Repeat("\u00fc", 80),
		`joe@x\303`, `joe@\777.example`, `joe@\000\\303.example`, "joe@../../etc/passwd", "joe@a;b{c}$d", "joe@", "@", "a b@c d", `"joe@here.example"`, "joe@x:y|z",
	}
	r := h.respond(t, pass("100"))
	sent := 0
	for _, id := range ids {
		c := h.dial(t).Login(id)
		c.Want(c.Send("a@here.example", hosttest.Letter("x"), "x@far.example"), 250)
		c.Want(c.Cmd("QUIT"), 221)
		sent++
	}
	hosttest.Eventually(t, "all is delivered while somebody answers", func() bool { return h.sink.Count() == sent && len(h.queue()) == 0 })
	r.die()
	for _, id := range ids {
		c := h.dial(t).Login(id)
		c.Mail("a@here.example")
		switch r := c.Rcpt("x@far.example"); r.Code {
		case 250:
			c.Want(c.Data(hosttest.Letter("x")), 250)
			sent++
		case 451: // no domain at all
		default:
			t.Errorf("%q: %v", id, r)
		}
		c.Want(c.Cmd("QUIT"), 221)
	}
	hosttest.Eventually(t, "all is delivered while nobody does", func() bool { return h.sink.Count() == sent && len(h.queue()) == 0 })
	if keys := h.retryKeys(t); len(keys) > 0 {
		t.Errorf("there are retry records %v", keys)
	}
}

// A lock that comes between RCPT and DATA speaks at DATA.
func TestLockFileSpeaksAtData(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startExim(t)
	c := h.dial(t).Login("joe@locked.example")
	c.Mail("joe@locked.example")
	c.Want(c.Rcpt("x@far.example"), 250)
	h.lock(t, "max_deferfail_locked.example")
	c.Want(c.Data(hosttest.Letter("x")), 450, fmt.Sprintf(lockedText, "locked.example"))
	h.unlock(t, "max_deferfail_locked.example")
	c.Want(c.Send("joe@locked.example", hosttest.Letter("x"), "x@far.example"), 250)
}

// sendmail always goes on; the router holds for max_deferfail_, and for
// max_hourly_ what was not charged.
func TestLockFilesHold(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	send := func(from, to string) {
		t.Helper()
		if out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-f", from, to); code != 0 {
			t.Fatalf("sendmail: exit %d\n%s", code, out)
		}
	}
	wantHeld := func(n int) {
		t.Helper()
		hosttest.Eventually(t, fmt.Sprintf("%d held", n), func() bool {
			return strings.Count(h.mainlog(), "R=sluice_hold defer: Domain locked.example is locked.  Message will be reattempted later") == n
		})
	}
	// Charged, but not delivered yet when the server dies.
	r := h.respond(t, pass("100"))
	h.run(t, "sh", "-c", "exim4 -odq -f charged@locked.example x@far.example </dev/null")
	r.die()

	h.lock(t, "max_hourly_locked.example")
	send("uncharged@locked.example", "x@far.example")
	wantHeld(1)
	h.queueRun(t, "-q")
	hosttest.Eventually(t, "the charged one is delivered", func() bool { return h.sink.Count() == 1 })
	c := h.dialFrom(t, "203.0.113.1")
	c.Want(c.Send("who@locked.example", hosttest.Letter("x"), "forward@here.example"), 250)
	hosttest.Eventually(t, "mail from elsewhere is forwarded", func() bool { return h.sink.Count() == 2 })

	h.unlock(t, "max_hourly_locked.example")
	h.lock(t, "max_hourly_here.example")
	c.Want(c.Send("who@else.example", hosttest.Letter("x"), "forward@here.example"), 250)
	hosttest.Eventually(t, "forwards are held for their domain", func() bool {
		return strings.Contains(h.mainlog(), "<forward@here.example> R=sluice_hold defer: Domain here.example is locked.")
	})
	h.unlock(t, "max_hourly_here.example")
	h.queueRun(t, "-q")
	hosttest.Eventually(t, "all is delivered", func() bool { return h.sink.Count() == 4 && len(h.queue()) == 0 })
}
