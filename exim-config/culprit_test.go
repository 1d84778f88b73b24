package eximconfig_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/sidecar"
	"sluice/sidecar/attribution"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/usual"
)

// Only the culprit is stopped, by a real Exim and the real sidecar, in the ways perl and tcp:
//
//	eve@DOMAIN ─ floods, sends to nobody ─┐               ┌─→ 450, named
//	her colleagues, known for a week ─────┼─→ Exim ─ sluice ─→ delivered
//	a stranger ─ forwarder ───────────────┘               └─→ a forward is held, nobody is stopped

// knows has the sidecar, which does not run yet, know authors for a week, each with a busiest
// hour of ten sends.
func (h *host) knows(t *testing.T, mailboxes ...string) {
	t.Helper()
	dir := h.path("/run/sluice-store")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := journal.Open(dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Now()
	a := attribution.New(attribution.Options{Window: time.Hour, Clock: ratelimit.NewClock(now, store), Notes: store, Events: event.NewStream(),
		Rule: func(string, string) usual.Rule { return usual.Rule{Least: 50, Factor: 3} }})
	for days := 7; days > 0; days-- {
		for _, m := range mailboxes {
			_, domain, _ := strings.Cut(m, "@")
			a.Charged(now.AddDate(0, 0, -days), &attribution.Message{Subject: domain, Author: sidecar.Author{Key: m, Proof: sidecar.Proven}}, 10)
		}
	}
	a.Tick(t.Context(), now)
	a.Stop(t.Context(), now)
}

var colleagues = []string{"ann", "ben", "cid"}

func TestOnlyTheCulprit(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"perl", "tcp"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHostOf(t, "debian", way)
			h.write(t, "/etc/exim4/sinks", fmt.Sprintf("nobody.example: %s\nangry.example: %s\n*: %s\n",
				grim{"RCPT": "550 5.1.1 nobody of that name"}.listen(t), grim{"RCPT": "550 5.7.1 this is spam"}.listen(t), route(h.sink.Port)))
			h.write(t, "/etc/aliases", "forward: someone@angry.example\n")
			h.knows(t, "ann@flood.example", "ben@flood.example", "cid@flood.example", "ann@bad.example", "ben@bad.example", "cid@bad.example")
			h.startSluice(t, "[limits]\nhourly = 100\ndeferfail_min = 4\n")
			h.startExim(t)
			h.floodOfOne(t)
			h.badSendsOfOne(t)
			h.badSendsOfALoneMailbox(t)
			h.spamToAForwarder(t)
			for _, st := range h.all(t).Stops {
				if st.Scope != "eve@bad.example" {
					t.Errorf("%s is stopped: %+v", st.Scope, st)
				}
			}
			if log := h.read("/var/log/exim4/paniclog"); log != "" {
				t.Errorf("panic log:\n%s", log)
			}
		})
	}
}

// many sends a message to those before the first that is refused; it returns how many there
// are, and the last reply: a RCPT may pass by room that was told within the last second, and
// then DATA does not.
func many(c *hosttest.Client, from string, to ...string) (accepted int, last hosttest.Reply) {
	c.Mail(from)
	for _, rcpt := range to {
		if last = c.Rcpt(rcpt); last.Code != 250 {
			break
		}
		accepted++
	}
	if accepted > 0 {
		if r := c.Data(hosttest.Letter("x")); r.Code != 250 {
			return 0, r
		}
	} else {
		c.Cmd("RSET")
	}
	return accepted, last
}

// floodOfOne has a mailbox flood beside colleagues that send as much as they usually do.
func (h *host) floodOfOne(t *testing.T) {
	t.Helper()
	eve := h.dial(t).Login("eve@flood.example")
	clients := map[string]*hosttest.Client{}
	for _, name := range colleagues {
		clients[name] = h.dial(t).Login(name + "@flood.example")
	}
	sent := 0
	flood := func(round int) {
		n, last := many(eve, "eve@flood.example", numbered(fmt.Sprintf("f%d-%%d@far.example", round), 1, 60)...)
		sent += n
		if round > 0 {
			eve.WantPart(last, 450, "4.7.1 Mailbox eve@flood.example has exceeded the max emails per hour (")
			eve.WantPart(last, 450, " is 100 of flood.example less ")
		}
	}
	for round := range 3 {
		flood(round)
		for _, name := range colleagues {
			from := name + "@flood.example"
			clients[name].Want(clients[name].Send(from, hosttest.Letter("x"), numbered(fmt.Sprintf("%s%d-%%d@far.example", name, round), 1, 3)...), 250)
			sent += 3
		}
	}
	if got := h.status(t, "flood.example").Sent; got != int64(sent) || sent > 100 || sent < 87 {
		t.Errorf("flood.example has sent %d, %d were accepted, of at most 100", got, sent)
	}
	if named := h.senders(t, "flood.example"); len(named) != 4 || !strings.HasPrefix(named[0], "flood.example eve@flood.example proven ") {
		t.Errorf("who sends: %q", named)
	}
}

// badSendsOfOne has one of four send to addresses that do not exist.
func (h *host) badSendsOfOne(t *testing.T) {
	t.Helper()
	for _, name := range colleagues {
		c := h.dial(t).Login(name + "@bad.example")
		c.Want(c.Send(name+"@bad.example", hosttest.Letter("x"), name+"1@far.example", name+"2@far.example"), 250)
	}
	eve := h.dial(t).Login("eve@bad.example")
	hosttest.Eventually(t, "the others' is delivered", func() bool { return h.status(t, "bad.example").Delivered == 6 })
	eve.Want(eve.Send("eve@bad.example", hosttest.Letter("x"), numbered("n%d@nobody.example", 1, 8)...), 250)
	hosttest.Eventually(t, "eve alone is stopped", func() bool { return len(h.all(t).Stops) == 1 })
	_, r := many(eve, "eve@bad.example", "more@far.example")
	wantRefused(t, r, 450, "Mailbox eve@bad.example has exceeded the max defers and failures per hour (8/4 (100%)) allowed. Message will be reattempted later")
	for _, name := range colleagues {
		c := h.dial(t).Login(name + "@bad.example")
		c.Want(c.Send(name+"@bad.example", hosttest.Letter("x"), name+"3@far.example"), 250)
	}
	hosttest.Eventually(t, "the others go on", func() bool {
		to := h.sink.Recipients()
		return slices.Contains(to, "ann3@far.example") && slices.Contains(to, "ben3@far.example") && slices.Contains(to, "cid3@far.example")
	})
	if locks := h.locks(t); slices.ContainsFunc(locks, func(name string) bool { return strings.HasPrefix(name, "max_deferfail_") }) {
		t.Errorf("there are %v", locks)
	}
}

// badSendsOfALoneMailbox trips the domain, as there is nobody beside it, and names it.
func (h *host) badSendsOfALoneMailbox(t *testing.T) {
	t.Helper()
	c := h.dial(t).Login("lone@lone.example")
	c.Want(c.Send("lone@lone.example", hosttest.Letter("x"), numbered("n%d@nobody.example", 1, 4)...), 250)
	hosttest.Eventually(t, "the domain trips", func() bool { return h.hasLock("max_deferfail_lone.example") })
	other := h.dial(t).Login("other@lone.example")
	other.Mail("other@lone.example")
	r := other.Rcpt("x@far.example")
	// 4 of 4, or of 5: the bounce that tells of them is a send of the domain, too.
	other.WantPart(r, 550, "Domain lone.example has exceeded the max defers and failures per hour (4/4 (")
	other.WantPart(r, 550, "; mostly lone@lone.example, 4 of 4")
}

// spamToAForwarder holds forwards; the owner of the domain sends.
func (h *host) spamToAForwarder(t *testing.T) {
	t.Helper()
	stranger := h.dialFrom(t, "192.0.2.9")
	for range 4 {
		stranger.Want(stranger.Send("who@else.example", hosttest.Letter("x"), "forward@here.example"), 250)
	}
	hosttest.Eventually(t, "forwards are held", func() bool { return h.forwards(t, "here.example").Trip != nil })
	owner := h.dial(t).Login("owner@here.example")
	owner.Want(owner.Send("owner@here.example", hosttest.Letter("x"), "customer@far.example"), 250)
	hosttest.Eventually(t, "the owner's is delivered", func() bool { return slices.Contains(h.sink.Recipients(), "customer@far.example") })
}

// What alice, a tenant, tries so that bob's mailbox is charged, named or stopped, in which she
// changes her directory with each message:
//
//	alice ─ sendmail in "a\nb", "$(reboot)", 250 bytes ... ─┐
//	      ─ her script, as the web server ──────────────────┼─ -f joe@bob.example ─→ Exim ─→ nobody
//	      ─ AUTH ───────────────────────────────────────────┘
func TestATenantStopsNobodyButItself(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(t, "/etc/exim4/sinks", fmt.Sprintf("nobody.example: %s\n*: %s\n", grim{"RCPT": "550 5.1.1 nobody of that name"}.listen(t), route(h.sink.Port)))
	h.knows(t, "joe@bob.example", "ann@bob.example", "eva@alice.example")
	h.share(t, "hourly = 100\ndeferfail_min = 4\n")
	h.startExim(t)
	const header = "X-PHP-Originating-Script: 2002:../../bob/\x01\x1b]0;mailer.php\r\nX-Source-Dir: /run/home/bob/public_html\r\n"
	message := strings.ReplaceAll(header, "\r", "") + "X-PHP-Script: " + strings.Repeat("/run/home/bob/", 30) + "\n" +
		strings.ReplaceAll(hosttest.Letter("x"), "a@here.example", "joe@bob.example")
	for i, folder := range []string{"a\nb@bob.example", "\x01\x1b]0;joe@bob.example\x07", "$(reboot)`reboot`", "*", "joe@bob.example", strings.Repeat("d", 250)} {
		h.sendmail(t, alice, folder, message, "-f", "joe@bob.example", fmt.Sprintf("a%d@nobody.example", i))
		h.sendmail(t, web, "../alice/"+folder, message, "-f", "joe@bob.example", fmt.Sprintf("w%d@nobody.example", i))
		h.sendmail(t, web, "../alice/"+folder, strings.ReplaceAll(message, "2002:", "2001:"), "-f", "eva@alice.example", fmt.Sprintf("s%d@nobody.example", i))
	}
	c := h.dialAs(t, alice, h.ip).Login("alice")
	many(c, "joe@bob.example", numbered("p%d@nobody.example", 1, 4)...)
	var before, after map[string]tally
	hosttest.Eventually(t, "it is known what became of all", func() bool {
		before, after = after, h.tallies(t)
		return after["alice.example"].Failed >= 4 && after["service:web"].Failed >= 4 && fmt.Sprint(before) == fmt.Sprint(after)
	})
	for subject := range after {
		if !slices.Contains([]string{"alice.example", "web:alice", "service:web"}, subject) {
			t.Errorf("%s is charged: %+v", subject, after[subject])
		}
	}
	t.Logf("charged are %+v", after)
	hosttest.Eventually(t, "alice's domain trips, as it would have", func() bool { return h.hasLock("max_deferfail_alice.example") })
	if stops := h.all(t).Stops; len(stops) > 0 {
		t.Errorf("stopped are %+v", stops)
	}
	if named := h.senders(t, "account:bob"); len(named) > 0 {
		t.Errorf("of bob's there are %q", named)
	}
	for _, subject := range []string{"alice.example", "web:alice", "service:web"} {
		rows := h.senders(t, subject)
		t.Logf("%q", rows)
		for _, row := range rows {
			if strings.ContainsFunc(row, func(r rune) bool { return r < ' ' || r > '~' }) || len(row) > 300 {
				t.Errorf("%s: who has %q", subject, row)
			}
			if _, key, _ := strings.Cut(row, " "); !strings.HasPrefix(key, "script:/run/home/alice/") && !strings.HasPrefix(key, "login:alice ") && !strings.HasPrefix(key, "service:web ") {
				t.Errorf("%s: who names %q", subject, row)
			}
		}
	}
	for _, args := range [][]string{{"who"}, {"who", "account:alice"}, {"status"}, {"status", "alice.example"}, {"history"}} {
		if out, _ := h.try(t, h.sluice(t, args...)...); strings.ContainsAny(out, "\x01\x1b\x07") {
			t.Errorf("%v prints %q", args, out)
		}
	}
	for _, name := range h.locks(t) {
		if strings.Contains(name, "bob") {
			t.Errorf("there is %s", name)
		}
	}
	if files, err := os.ReadDir(h.path(lockDir + "/stopped")); err != nil || len(files) > 0 {
		t.Errorf("among the stopped are %v, %v", files, err)
	}
	joe := h.dial(t).Login("joe@bob.example")
	joe.Want(joe.Send("joe@bob.example", hosttest.Letter("x"), "customer@far.example"), 250)
	hosttest.Eventually(t, "bob's mail goes", func() bool { return slices.Contains(h.sink.Recipients(), "customer@far.example") })
	if log := h.read("/var/log/exim4/paniclog"); log != "" {
		t.Errorf("panic log:\n%s", log)
	}
}
