package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/milter/mtatest"
)

// sendmailConfig is a sluice.toml of a Sendmail node, with all files in a directory.
const sendmailConfig = `alert.to = []
[listen]
policy = ["unix:%[1]s/sluice/policy.sock"]
milter = ["unix:%[1]s/sluice/milter.sock"]
admin = "unix:%[1]s/sluice/admin.sock"
[store]
node = "sm.example"
dir = "%[1]s/ledger"
[locks]
dir = "%[1]s/locks"
[exim]
mainlog = ""
binary = "/usr/sbin/exim4"
[postfix]
charge = "end-of-message"
local_domains = ["here.example"]
[identity]
relay = ["127.0.0.1"]
[limits]
hourly = 20
[limits.domain."free.example"]
hourly = 0
[limits.domain."tiny.example"]
hourly = 2
`

// startSendmail starts a real Sendmail that asks the milter, as docs/postfix.md
// says: make test-sendmail. A patient one waits longer for sluice than the page has
// it: a busy machine may stall for a second, and what passed unasked is not counted.
func startSendmail(t *testing.T, patient bool) (s *mtatest.Sendmail, config string) {
	t.Helper()
	if os.Getenv("SLUICE_SENDMAIL") == "" {
		t.Skip("make test-sendmail runs it")
	}
	lines := snippet(t, "m4 sendmail.mc") // /run/sluice is in its root
	if patient {
		lines = regexp.MustCompile(`T=[^']*`).ReplaceAllString(lines, "T=C:20s;S:20s;R:20s;E:20s")
	}
	s = mtatest.NewSendmail(t, lines)
	s.Start(t)
	return s, fmt.Sprintf(sendmailConfig, s.Path("/run"))
}

const twentyFirst = "Domain %s has exceeded the max emails per hour (21/20 (105%%)) allowed.  Message will be reattempted later"

// client -> Sendmail -> sluice: RCPT 1 ... 20 taken, RCPT 21 refused -> sink has 20
func TestSendmailLimit(t *testing.T) {
	s, config := startSendmail(t, true)
	n := startServeWith(t, s.Path("/run"), config)
	c := s.Dial(t)
	c.Mail("news@shop.example")
	for i := 1; i <= 18; i++ {
		c.Want(c.Rcpt(fmt.Sprintf("u%d@far.example", i)), 250)
	}
	c.Want(c.Rcpt("root@here.example"), 250)
	c.Want(c.Cmd("RSET"), 250) // aborted: counts nothing
	c.Want(c.Send("news@shop.example", hosttest.Letter("x"), recipients(1, 18)...), 250)
	c.Mail("news@shop.example")
	c.Want(c.Rcpt("u19@far.example"), 250)
	c.Want(c.Rcpt("u20@far.example"), 250)
	c.WantPart(c.Rcpt("u21@far.example"), 450, fmt.Sprintf(twentyFirst, "shop.example"))
	c.Want(c.Data(hosttest.Letter("x")), 250)
	n.wantSent(t, "shop.example", 20)
	hosttest.Eventually(t, "20 delivered", func() bool { return s.Sink.Count() == 20 })
}

// Each kind of message, and what it counts.
func TestSendmailCountsEachOnce(t *testing.T) {
	s, config := startSendmail(t, true)
	n := startServeWith(t, s.Path("/run"), config)
	c := s.Dial(t)
	c.Write("MAIL FROM:<a@pipe.example>\r\nRCPT TO:<p1@far.example>\r\nRCPT TO:<p2@far.example>\r\nRCPT TO:<root@here.example>\r\nDATA\r\n")
	for _, code := range []int{250, 250, 250, 250, 354} {
		c.Want(c.Reply(), code)
	}
	c.Write("Subject: x\r\n\r\nx\r\n.\r\nMAIL FROM:<a@pipe.example>\r\nRCPT TO:<p3@far.example>\r\nRSET\r\n")
	for range 4 {
		c.Want(c.Reply(), 250)
	}
	n.wantSent(t, "pipe.example", 2)

	c.Mail("a@tiny.example")
	for i, code := range []int{250, 553, 250, 550, 550, 250} {
		c.Want(c.Rcpt([]string{"t1@far.example", "<<", "t2@far.example", "t3@far.example", "t4@far.example", "root@here.example"}[i]), code)
	}
	c.Want(c.Data(hosttest.Letter("x")), 250)
	n.wantSent(t, "tiny.example", 2)

	c.Want(c.Send("a@free.example", hosttest.Letter("x"), recipients(1, 100)...), 250)
	n.wantSent(t, "free.example", 100)
	for range 3 { // on one connection
		c.Want(c.Send("a@many.example", hosttest.Letter("x"), "m@far.example"), 250)
	}
	n.wantSent(t, "many.example", 3)
	hosttest.Eventually(t, "107 delivered", func() bool { return s.Sink.Count() == 107 })
}

// Who has logged in pays, whoever the sender is:
//
//	news@shop.example, AUTH -> Sendmail -> sluice
func TestSendmailLogin(t *testing.T) {
	s, config := startSendmail(t, true)
	n := startServeWith(t, s.Path("/run"), config)
	s.Login(t, "news", "shop.example")
	c := s.Dial(t).Login("news@shop.example")
	c.Want(c.Send("other@unlisted.example", hosttest.Letter("x"), recipients(1, 17)...), 250)
	for i := 18; i <= 20; i++ { // of later messages of the connection too
		c.Want(c.Send("news@shop.example", hosttest.Letter("x"), recipients(i, i)...), 250)
	}
	n.wantSent(t, "shop.example", 20)
	n.wantSent(t, "unlisted.example", 0)
	c.Mail("other@unlisted.example")
	c.WantPart(c.Rcpt("u21@far.example"), 450, fmt.Sprintf(twentyFirst, "shop.example"))
	hosttest.Eventually(t, "20 delivered", func() bool { return s.Sink.Count() == 20 })
}

// Mail from the command is submitted by SMTP, and what is over the limit waits in
// the queue of the command until the domain is released:
//
//	alice: sendmail -> Sendmail -> sluice
func TestSendmailCommand(t *testing.T) {
	s, config := startSendmail(t, true)
	n := startServeWith(t, s.Path("/run"), config)
	submit := func(to ...string) {
		t.Helper()
		if out, code := s.Sendmail(t, hosttest.Letter("x"), append([]string{"-f", "alice@shop.example"}, to...)...); code != 0 {
			t.Fatalf("sendmail: exit %d\n%s", code, out)
		}
	}
	submit(append(recipients(1, 18), "root@here.example")...)
	n.wantSent(t, "shop.example", 18)
	submit(recipients(19, 20)...)
	n.wantSent(t, "shop.example", 20)
	submit("u21@far.example")
	hosttest.Eventually(t, "20 delivered", func() bool { return s.Sink.Count() == 20 })
	waits := func() bool {
		queued, _ := filepath.Glob(s.Path("/var/spool/clientmqueue/qf*"))
		return len(queued) == 1
	}
	if !waits() {
		t.Fatal("the message over the limit does not wait in the queue of sendmail")
	}
	if out, code := n.sluice(t, "reset", "shop.example"); code != exitDone {
		t.Fatalf("reset: exit %d\n%s", code, out)
	}
	s.Run(t, "", "/usr/libexec/sendmail/sendmail", "-Ac", "-q")
	hosttest.Eventually(t, "21 delivered", func() bool { return s.Sink.Count() == 21 && !waits() })
	n.wantSent(t, "shop.example", 1)
}

// While sluice is killed, hung or flapping, all mail flows; in the soak, no later than
// the page says.
func TestSendmailMailFirst(t *testing.T) {
	s, config := startSendmail(t, false)
	writeFile(t, s.Path("/run/sluice.toml"), config)
	sent := 0
	defer throughTrouble(t, s.Path("/run/sluice.toml"), 8*time.Second, func(what string, atMost time.Duration) {
		t.Helper()
		began := time.Now()
		c := s.Dial(t)
		c.Want(c.Send("news@free.example", hosttest.Letter("x"), recipients(sent+1, sent+2)...), 250)
		hosttest.NotLonger(t, what+": a message", time.Since(began), atMost)
		sent += 2
		hosttest.Eventually(t, what+": delivered", func() bool { return s.Sink.Count() == sent })
	})()
	c := s.Dial(t)
	c.Want(c.Send("news@shop.example", hosttest.Letter("x"), recipients(1, 20)...), 250)
	c.Mail("news@shop.example")
	c.WantPart(c.Rcpt("u21@far.example"), 450, "has exceeded")
}

// recipients are those from first to last.
func recipients(first, last int) (all []string) {
	for i := first; i <= last; i++ {
		all = append(all, fmt.Sprintf("u%d@far.example", i))
	}
	return all
}
