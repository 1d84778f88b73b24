package eximconfig_test

import (
	"fmt"
	"testing"

	"sluice/sidecar/hosttest"
)

// Mailman posts by SMTP to the loopback, without AUTH (its SMTPDirect), one message a member,
// whose sender has the member in it (VERP):
//
//	mailman ─ club-bounces+ann=far.example@ ─→ Exim ─→ sluice ─ sock_diag ─→ exempt
//	alice's program ─ the same sender ─────────→ Exim ─→ sluice ─ sock_diag ─→ alice
func TestListSoftwareOverSMTP(t *testing.T) {
	const members = 60
	verp := func(n int) string { return fmt.Sprintf("club-bounces+m%d=far.example@club.example", n) }
	for _, test := range []struct{ name, identity, more string }{
		{"identity.exempt", "", "[[identity.exempt]]\nsender = \"*-bounces*@club.example\"\nlogin = \"mailman\"\n"},
		{"cPanel's count_mailman", "", "[panel]\nfollow = true\nroot = \"/run/panel\"\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.write(t, "/run/panel/var/cpanel/cpanel.config", "maxemailsperhour=50\nemail_send_limits_count_mailman=0\n")
			h.share(t, "hourly = 50\n"+test.more)
			h.startExim(t)
			c := h.dialAs(t, mailman, "127.0.0.1")
			for n := range members {
				c.Want(c.Send(verp(n), hosttest.Letter("a post"), fmt.Sprintf("m%d@far.example", n)), 250)
			}
			h.queueRun(t, "-q") // Exim delivers ten of a connection at once
			hosttest.Eventually(t, "all members have it", func() bool { return h.sink.Count() == members && len(h.queue()) == 0 })
			h.wantSent(t, "nobody is charged", map[string]int64{})
			if got := h.all(t).Totals; got.Exempt != members || got.Refused != 0 || len(h.locks(t)) > 0 {
				t.Errorf("%+v, locks %v", got, h.locks(t))
			}

			// Attack: the sender alone exempts nobody.
			c = h.dialAs(t, alice, "127.0.0.1")
			for n := range 50 {
				c.Want(c.Send(verp(n), hosttest.Letter("x"), fmt.Sprintf("spam%d@far.example", n)), 250)
			}
			c.Mail(verp(50))
			wantRefused(t, c.Rcpt("spam50@far.example"), 450, hourlyText("alice.example", 51, 50, laterText))
			h.wantSent(t, "alice pays", map[string]int64{"alice.example": 50})
			if got := h.all(t).Totals; got.Exempt != members {
				t.Errorf("%d are exempt", got.Exempt)
			}
		})
	}
}
