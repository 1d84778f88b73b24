package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/milter/mtatest"
)

// A real Sendmail that asks the milter, as docs/postfix.md says: make
// test-sendmail.
//
//	client -> Sendmail -> sluice: RCPT 1 ... 20 taken, RCPT 21 refused -> sink has 20
func TestSendmail(t *testing.T) {
	if os.Getenv("SLUICE_SENDMAIL") == "" {
		t.Skip("make test-sendmail runs it")
	}
	line := snippet(t, "m4 sendmail.mc")
	s := mtatest.NewSendmail(t, line) // /run/sluice is in its root
	dir := s.Path("/run")
	config := fmt.Sprintf(`
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
`, dir)
	s.Start(t)
	n := startServeWith(t, dir, config)
	c := s.Dial(t)
	c.Mail("news@shop.example")
	for i := 1; i <= 18; i++ {
		c.Want(c.Rcpt(fmt.Sprintf("u%d@far.example", i)), 250)
	}
	c.Want(c.Rcpt("root@here.example"), 250)
	c.Want(c.Cmd("RSET"), 250) // aborted: counts nothing
	c.Send("news@shop.example", hosttest.Letter("x"), recipients(1, 18)...)
	c.Mail("news@shop.example")
	c.Want(c.Rcpt("u19@far.example"), 250)
	c.Want(c.Rcpt("u20@far.example"), 250)
	c.WantPart(c.Rcpt("u21@far.example"), 450, "Domain shop.example has exceeded the max emails per hour (21/20 (105%)) allowed.  Message will be reattempted later")
	c.Want(c.Data(hosttest.Letter("x")), 250)
	if d := n.domain(t, "shop.example"); d.Sent != 20 {
		t.Errorf("%d counted, want 20", d.Sent)
	}
	hosttest.Eventually(t, "20 delivered", func() bool { return s.Sink.Count() == 20 })

	n.stop()
	sent := 20
	defer throughTrouble(t, s.Path("/run/sluice.toml"), 8*time.Second, func(what string, atMost time.Duration) {
		t.Helper()
		began := time.Now()
		c := s.Dial(t)
		c.Want(c.Send("news@free.example", hosttest.Letter("x"), recipients(sent+1, sent+2)...), 250)
		if took := time.Since(began); took > atMost {
			t.Errorf("%s: a message took %v, want at most %v", what, took, atMost)
		}
		sent += 2
		hosttest.Eventually(t, what+": delivered", func() bool { return s.Sink.Count() == sent })
	})()
	c = s.Dial(t)
	c.Mail("news@shop.example")
	c.WantPart(c.Rcpt("u26@far.example"), 450, "has exceeded")
}

// recipients are those from first to last.
func recipients(first, last int) (all []string) {
	for i := first; i <= last; i++ {
		all = append(all, fmt.Sprintf("u%d@far.example", i))
	}
	return all
}
