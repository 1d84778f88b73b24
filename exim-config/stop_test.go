package eximconfig_test

import (
	"fmt"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// Files of who is stopped, where nobody answers:
//
//	client ─→ Exim ─ RCPT, DATA, delivery ─→ ✗
//	             └─ exists ─→ email_send_limits/stopped/hacked@example.com

func TestTheFileOfAStoppedMailboxSpeaks(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.addMacros(t, "MAIN_RELAY_NETS = 198.51.100.0/24")
	for _, name := range []string{"hacked@here.example", "hacked@xn--bcher-kva.example", "login:joe", "login:alice"} {
		h.lock(t, "stopped/"+name)
	}
	h.lock(t, "other@here.example") // not in the directory
	h.startExim(t)
	as := func(id string) *hosttest.Client { return h.dial(t).Login(id) }
	for _, c := range []struct {
		name   string
		client *hosttest.Client
		title  string
	}{
		{"the mailbox", as("hacked@here.example"), "Mailbox hacked@here.example"},
		{"in capitals", as("Hacked@HERE.example"), "Mailbox hacked@here.example"},
		{"as panels write it", as("hacked+here.example"), "Mailbox hacked@here.example"},
		{"as panels write it, in capitals", as("Hacked%HERE.example."), "Mailbox hacked@here.example"},
		{"a dot and a space at the end", as("hacked@here.example. "), "Mailbox hacked@here.example"},
		{"a tab at the end", as("hacked@here.example\t"), "Mailbox hacked@here.example"},
		{"a line end, which Exim writes as a backslash and a letter", as("hacked@\there.example\n"), "Mailbox hacked@here.example"},
		{"a quoted local part", as(`"hacked"@here.example`), "Mailbox hacked@here.example"},
		{"a domain in UTF-8", as("hacked@b\u00fccher.example"), "Mailbox hacked@xn--bcher-kva.example"},
		{"a domain in UTF-8, in capitals", as("hacked@B\u00dcCHER.example"), "Mailbox hacked@xn--bcher-kva.example"},
		{"an id without a domain", as("joe"), "Login joe"},
		{"an id without a domain, a space at the end", as("Joe "), "Login joe"},
		{"a local user", h.as(t, alice, "").pipe(t, "/usr/sbin/sendmail", "-bs"), "Login alice"},
		{"a colleague", as("office@here.example"), ""},
		{"a path", as("../stopped/hacked@here.example"), ""},
		{"a path of its own", as("x/../hacked@here.example"), ""},
		{"the directory", as("."), ""},
		{"the directory above", as(".."), ""},
		{"a long name", as(strings.Repeat("x", 300) + "@here.example"), ""},
		{"another directory's file", as("../other@here.example"), ""},
		{"a client that has not logged in", h.dialFrom(t, "198.51.100.1"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := c.client.In(t)
			for _, sender := range []string{"hacked@here.example", ""} {
				client.Mail(sender)
				client.Want(client.Rcpt("bob@here.example"), 250)
				if c.title != "" {
					client.Want(client.Rcpt("x@far.example"), 450, "4.7.1 "+c.title+" is stopped.  Message will be reattempted later")
				} else {
					client.Want(client.Rcpt("x@far.example"), 250)
				}
				client.Want(client.Cmd("RSET"), 250)
			}
		})
	}
	// It speaks at DATA too, and ends with its file.
	c := as("late@here.example")
	c.Mail("late@here.example")
	c.Want(c.Rcpt("x@far.example"), 250)
	h.lock(t, "stopped/late@here.example")
	c.Want(c.Data(hosttest.Letter("x")), 450, "4.7.1 Mailbox late@here.example is stopped.  Message will be reattempted later")
	h.unlock(t, "stopped/late@here.example")
	c.Want(c.Send("late@here.example", hosttest.Letter("x"), "x@far.example"), 250)
	// sendmail goes on, and the router holds.
	if out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-f", "alice@here.example", "x@far.example"); code != 0 {
		t.Fatalf("sendmail: exit %d\n%s", code, out)
	}
	hosttest.Eventually(t, "it is held", func() bool {
		return strings.Contains(h.mainlog(), "R=sluice_hold defer: Login alice is stopped.  Message will be reattempted later")
	})
	h.unlock(t, "stopped/login:alice")
	h.queueRun(t, "-q")
	hosttest.Eventually(t, "it goes when the file has gone", func() bool { return h.sink.Count() == 2 && len(h.queue()) == 0 })
}

// A stop is in force with the next message of a client that is logged in, had told room and
// pipelines; an exempt and a null sender do not get it round that; colleagues go on. The file
// still speaks when sluice is killed.
//
//	client ─→ Exim ─→ sluice ←─ sluice stop hacked@here.example
func TestAStopWhileAClientIsLoggedIn(t *testing.T) {
	for _, way := range []string{"perl", "tcp"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHostOf(t, "debian", way)
			h.startExim(t)
			p := h.startSluice(t, "[[identity.exempt]]\nsender = \"owner@lists.example\"\nauth = \"hacked@here.example\"\n[limits]\nhourly = 100\n")
			hacked, office := h.dial(t).Login("hacked@here.example"), h.dial(t).Login("office@here.example")
			for i := range 3 {
				hacked.Want(hacked.Send("hacked@here.example", hosttest.Letter(fmt.Sprint(i)), "x@far.example"), 250)
			}
			hosttest.Eventually(t, "they are delivered", func() bool { return h.sink.Count() == 3 }) // else the stop holds them
			h.run(t, h.sluice(t, "stop", "hacked@here.example", "--why", "stolen")...)
			for _, sender := range []string{"hacked@here.example", "owner@lists.example", ""} {
				hacked.Mail(sender)
				r := hacked.Rcpt("y@far.example")
				if r.Code == 250 {
					r = hacked.Data(hosttest.Letter("no"))
				}
				wantRefused(t, r, 450, "Mailbox hacked@here.example is stopped.  Message will be reattempted later")
				if strings.Contains(r.Text, "stolen") {
					t.Errorf("the client is told why: %s", r.Text)
				}
				hacked.Want(hacked.Cmd("RSET"), 250)
			}
			office.Want(office.Send("office@here.example", hosttest.Letter("x"), "x@far.example"), 250)
			p.stop(t, "KILL")
			hacked.Mail("hacked@here.example")
			hacked.Want(hacked.Rcpt("z@far.example"), 450, "4.7.1 Mailbox hacked@here.example is stopped.  Message will be reattempted later")
			office.Want(office.Send("office@here.example", hosttest.Letter("x"), "x@far.example"), 250)
			hosttest.Eventually(t, "what was accepted is delivered", func() bool { return h.sink.Count() == 5 })
		})
	}
}
