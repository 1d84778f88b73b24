package eximconfig_test

import (
	"fmt"
	"os"
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
	h.addMacros(t, "SLUICE_RELAY_HOSTS = 192.0.2.0/24\nMAIN_RELAY_NETS = 192.0.2.0/24 : 198.51.100.0/24")
	h.lock(t, "max_hourly_locked.example")
	h.lock(t, "max_deferfail_failing.example")
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
		{"a relay host", h.dialFrom(t, "192.0.2.1"), "joe@locked.example", "locked.example"},
		{"a host the site relays for, but no [identity] relay", h.dialFrom(t, "198.51.100.1"), "joe@locked.example", ""},
		{"a local user", h.as(t, alice, "").pipe(t, "/usr/sbin/sendmail", "-bs"), "joe@locked.example", "locked.example"},
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
	c := h.dialFrom(t, "203.0.113.1")
	c.Want(c.Send("joe@locked.example", hosttest.Letter("x"), "alice@here.example"), 250)
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
		"joe@../../etc/passwd", "joe@a;b{c}$d", "joe@", "@", "a b@c d", `"joe@here.example"`, "joe@x:y|z",
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
