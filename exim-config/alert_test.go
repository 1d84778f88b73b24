package eximconfig_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// Notices by mail pass whatever is locked, stopped and over its limit:
//
//	incident ─→ sluice ─→ exim -t -f alarm@alice.example, root ─ local, route ─→ sluice: nobody pays
//	alice ─→ sendmail -f alarm@alice.example ──────────────────────────────────→ sluice: held

// The sender is a tenant's domain, and that is locked: the worst case.
const alarm = "alarm@alice.example"

const told = `[alert]
from = "` + alarm + `"
[[alert.to]]
mail = "ops@away.example"
`

// notices are the subjects of what the operator was sent.
func (h *host) notices() (subjects []string) {
	for _, m := range h.sink.Received() {
		if m.From == alarm && slices.Contains(m.To, "ops@away.example") {
			subjects = append(subjects, m.Header("Subject"))
		}
	}
	return subjects
}

func TestNoticesPassWhateverIsLocked(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startExim(t)
	h.share(t, "hourly = 1\n"+told)
	h.run(t, h.sluice(t, "set", "system", "hourly=1")...)
	c := h.dial(t).Login("eva@alice.example")
	c.Want(c.Send("eva@alice.example", hosttest.Letter("x"), "one@far.example"), 250)
	if out, code := h.root().try(t, hosttest.Letter("x"), "/usr/sbin/sendmail", "-f", "root@"+node, "two@far.example"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	hosttest.Eventually(t, "the two are sent", func() bool { return h.sink.Count() == 2 })
	h.run(t, h.sluice(t, "lock", "alice.example")...)
	h.run(t, h.sluice(t, "stop", "account:alice")...)
	before := fmt.Sprint(h.sent(t))

	if out := h.run(t, h.sluice(t, "alert", "test")...); out != "mail (ops@away.example): delivered\n" {
		t.Errorf("alert test: %s", out)
	}
	hosttest.Eventually(t, "the notice arrives", func() bool { return len(h.notices()) == 1 })
	if want := "[sluice " + node + "] a test: this is how you are told of incidents"; h.notices()[0] != want {
		t.Errorf("subject %q, want %q", h.notices()[0], want)
	}
	// To an alias, as out of the box: root@ and what it stands for.
	message := "To: forward@here.example\nSubject: a notice\n\nx\n"
	if out, code := h.root().try(t, message, "/usr/sbin/exim4", "-t", "-oi", "-f", alarm); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	hosttest.Eventually(t, "what an alias makes of a notice arrives too", func() bool { return h.sink.Count() == 4 })
	if now := fmt.Sprint(h.sent(t)); now != before {
		t.Errorf("charged %s, and before the notices %s", now, before)
	}

	// Nobody gains anything by that sender.
	for _, u := range []login{alice, bob, web} {
		h.sendmail(t, u, "", hosttest.Letter("x"), "-f", alarm, u.name+"1@far.example", u.name+"2@far.example", u.name+"3@far.example")
	}
	c = h.dial(t).Login("eva@alice.example")
	c.Mail(alarm)
	c.WantPart(c.Rcpt("four@far.example"), 450, "is stopped")
	c = h.dialAs(t, alice, h.ip)
	c.Mail(alarm)
	c.WantPart(c.Rcpt("five@far.example"), 450, "is stopped")
	h.root().try(t, hosttest.Letter("x"), "/usr/sbin/sendmail", "-f", "root@"+node, "six@far.example") // over the limit of system
	h.queueRun(t, "-q")
	passed := map[string]int{}
	for _, m := range h.sink.Received() {
		if by, _, far := strings.Cut(m.To[0], "@far.example"); m.From == alarm && far {
			passed[strings.TrimRight(by, "123")]++
		}
	}
	delete(passed, "someone") // of the alias
	if passed["alice"]+passed["four"]+passed["five"]+passed["six"] > 0 || passed["bob"] > 1 || passed["web"] > 1 {
		t.Errorf("in the notices' sender passed %v, and bob and web may send one at their own expense", passed)
	}
}

// A domain trips, and the operator is told who it was, through the real Exim, at once.
func TestATripIsTold(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startExim(t)
	h.share(t, "hourly = 100\ndeferfail_min = 3\n"+told)
	c := h.dial(t).Login("eva@shop.example")
	for n := range 5 {
		to := fmt.Sprintf("r%d@far.example", n)
		h.sink.Refuse(to, 550, "5.1.1 no such user")
		c.Want(c.Send("eva@shop.example", hosttest.Letter("x"), to), 250)
	}
	hosttest.Eventually(t, "the operator is told", func() bool { return len(h.notices()) > 0 })
	for _, m := range h.sink.Received() {
		if m.From != alarm {
			continue
		}
		if subject := m.Header("Subject"); !strings.HasPrefix(subject, "[sluice "+node+"] shop.example: too much fails, the domain is stopped") ||
			!strings.HasSuffix(subject, "(incident "+node+"-1)") {
			t.Errorf("subject %q", subject)
		}
		for _, part := range []string{"sluice who shop.example", "sluice incident " + node + "-1", "no such user"} {
			if !strings.Contains(m.Data, part) {
				t.Errorf("%q is not in\n%s", part, m.Data)
			}
		}
		_, attached, _ := strings.Cut(m.Data, "filename=\""+node+"-1.txt\"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
		encoded, _, _ := strings.Cut(attached, "\r\n--")
		card, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(encoded, "\r\n", ""))
		if err != nil || !strings.HasPrefix(string(card), "shop.example   ") || !strings.Contains(string(card), "CAUSE     deferfail") {
			t.Errorf("the card is %q, %v, of\n%s", card, err, m.Data)
		}
	}
}
