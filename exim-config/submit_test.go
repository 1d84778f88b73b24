package eximconfig_test

import (
	"fmt"
	"testing"

	"sluice/sidecar/hosttest"
)

// Ways to submit mail, for TestNoTenantSpendsAnothersBudget. web is one whom Exim trusts: it
// may say whose the mail is and where it comes from, and is not believed.

// by is an attack by a program of a user, which runs sendmail with these arguments.
func by(u login, args ...string) func(*testing.T, *host, int, string) {
	return func(t *testing.T, h *host, _ int, to string) {
		h.sendmail(t, u, "www", hosttest.Letter("x"), append(args, to)...)
	}
}

// batch is an attack by SMTP without replies, or over a pipe.
func batch(u login, from string, args ...string) func(*testing.T, *host, int, string) {
	return func(t *testing.T, h *host, _ int, to string) {
		h.sendmail(t, u, "www", overSMTP(from, to), args...)
	}
}

// overSMTP is all that a client says.
func overSMTP(from, to string) string {
	return "EHLO pc\nMAIL FROM:<" + from + ">\nRCPT TO:<" + to + ">\nDATA\nSubject: x\n\nx\n.\nQUIT\n"
}

// subordinate is the first of the user ids that are lent to alice, see subuid(5).
const subordinate = 200000

var submissions = []attack{
	{"sendmail -t, blind copies too", "alice.example", func(t *testing.T, h *host, n int, to string) {
		h.sendmail(t, alice, "www", "Bcc: "+to+"\n"+hosttest.Letter("x"), "-t", "-f", "joe@bob.example", "a@here.example") // who is named is left out
	}},
	{"sendmail -bS", "alice.example", batch(alice, "joe@bob.example", "-bS")},
	{"sendmail -bS, null sender", "alice.example", batch(alice, "", "-bS")},
	{"sendmail -bs", "alice.example", batch(alice, "joe@bob.example", "-bs")},
	{"sendmail -bs from elsewhere", "alice.example", batch(alice, "joe@bob.example", "-bs", "-oMa", "192.0.2.9", "-oMaa", "plain", "-oMai", "joe@bob.example")},
	{"sendmail -oMai without trust", "alice.example", by(alice, "-oMa", "192.0.2.9", "-oMaa", "plain", "-oMai", "joe@bob.example")},
	{"sendmail -oMr -oMt", "alice.example", by(alice, "-oMr", "esmtpsa", "-oMt", "bob", "-oMs", "bob.example", "-f", "joe@bob.example")},
	{"sendmail -E, as if it were a bounce", "alice.example", by(alice, "-E1xUzSN-0005dd-0q", "-f", "<>")},
	{"trusted: -oMai", "service:web", by(web, "-oMaa", "plain", "-oMai", "joe@bob.example")},
	{"trusted: -bs -oMai", "service:web", batch(web, "joe@bob.example", "-bs", "-oMaa", "plain", "-oMai", "joe@bob.example")},
	{"trusted: -oMt", "service:web", by(web, "-oMt", "bob", "-f", "joe@bob.example")},
	{"trusted: -oMa", "service:web", by(web, "-oMa", "192.0.2.9", "-f", "joe@bob.example")},
	{"trusted: -oMa of this host", "service:web", by(web, "-oMa", "127.0.0.1", "-f", "joe@bob.example")},
	{"trusted: -oMa -oMai", "service:web", by(web, "-oMa", "192.0.2.9", "-oMaa", "plain", "-oMai", "joe@bob.example")},
	{"trusted: -bS -oMa -oMai", "service:web", batch(web, "joe@bob.example", "-bS", "-oMa", "192.0.2.9", "-oMaa", "plain", "-oMai", "joe@bob.example")},
	{"trusted: -bs -oMa -oMai", "service:web", batch(web, "joe@bob.example", "-bs", "-oMa", "192.0.2.9", "-oMaa", "plain", "-oMai", "joe@bob.example")},
	{"a login in a neighbour's folder (S-05)", "alice.example", func(t *testing.T, h *host, n int, to string) {
		in := h.as(t, alice, "")
		in.folder = "/run/home/bob"
		in.try(t, hosttest.Letter("x"), "/usr/sbin/sendmail", "-f", "joe@bob.example", to)
	}},
	{"PHP over a pipe, in a neighbour's folder and alice's name (S-05)", "service:web", func(t *testing.T, h *host, n int, to string) {
		in := h.as(t, web, "")
		in.folder = "/run/home/bob"
		in.try(t, overSMTP("eva@alice.example", to), "/usr/sbin/sendmail", "-bs")
	}},
	{"PHP with a header of alice's, in a neighbour's folder (S-05)", "service:web", func(t *testing.T, h *host, n int, to string) {
		in := h.as(t, web, "")
		in.folder = "/run/home/bob"
		in.try(t, fmt.Sprintf("X-PHP-Originating-Script: %d:x.php\nTo: %s\n%s", alice.id, to, hosttest.Letter("x")), "/usr/sbin/sendmail", "-t", "-f", "joe@bob.example")
	}},
	{"a subordinate uid of alice's (rootless containers)", "alice.example", func(t *testing.T, h *host, n int, to string) {
		c := h.dialAs(t, login{"", subordinate + n}, h.ip)
		c.Mail("joe@bob.example")
		if c.Rcpt(to).Code == 250 {
			c.Data(hosttest.Letter("x"))
		}
	}},
}
