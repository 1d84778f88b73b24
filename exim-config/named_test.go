package eximconfig_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// One mailbox uses up the limit of its domain, with the real sidecar:
//
//	HACKED@alice.example ─ 9 of 10 ─┐                  ┌─→ a colleague: mostly HACKED, 9 of 11
//	info@alice.example ─────────────┼─→ Exim ─ sluice ─┤
//	relay, login, script ───────────┘                  └─→ all others: nobody; the main log: HACKED
//
// Its name is what could do most harm in Exim, on the wire and in a log. (Of any login, quotes are undone,
// and escapes, which are shown as \x01.)
func TestOnlyColleaguesAreToldWhoItWas(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"perl", "tcp"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHostOf(t, "debian", way)
			h.addMacros(t, "MAIN_RELAY_NETS = : 192.0.2.0/24")
			h.write(t, "/run/userdomains", "alice.example: alice\nbob.example: bob\n")
			h.write(t, "/run/trueuserdomains", "alice.example: alice\nbob.example: bob\n")
			h.startSluice(t, strings.Replace(tenants, "[identity]", "[identity]\nrelay = [{host = \"192.0.2.18\", names = \"any\"}]", 1)+"hourly = 10\n")
			h.startExim(t)
			const hacked = `h"}${run{/bin/false}}$1{` + "\x01" + `log=x`
			const named = `; mostly h}${run{/bin/false}}$1{\x01log=x@alice.example, 9 of `
			c := h.dial(t).Login(hacked + "@alice.example")
			c.Want(c.Send("a@alice.example", hosttest.Letter("x"), numbered("r%d@far.example", 1, 9)...), 250)
			c = h.dial(t).Login("info@alice.example")
			c.Want(c.Send("info@alice.example", hosttest.Letter("x"), "r10@far.example"), 250)

			refused := func(who string, c *hosttest.Client, told bool) {
				t.Helper()
				to := who + "@far.example"
				c.Mail("info@alice.example")
				got := c.Rcpt(to)
				if short, _, _ := strings.Cut(got.Text, " ["); got.Code != 450 || !strings.HasPrefix(short, "4.7.1 Domain alice.example has exceeded the max emails per hour (") {
					t.Errorf("%s is told %v", who, got)
				}
				if strings.Contains(got.Text, named) != told || strings.Contains(got.Text, "log=x") != told {
					t.Errorf("%s is told who it was: %v; want that: %v", who, got, told)
				}
				if line := lineWith(h.mainlog(), "rejected RCPT <"+to+">"); !strings.Contains(line, named) {
					t.Errorf("the main log does not say who it was: %q", line)
				}
			}
			refused("colleague", c, true)
			refused("login", h.dial(t).Login("alice"), false)
			refused("relay", h.dialFrom(t, "192.0.2.18"), false)

			out, code := h.sendmail(t, alice, "www", hosttest.Letter("x"), "-f", "info@alice.example", "script@far.example")
			if code != 0 || strings.Contains(out, "run{") {
				t.Errorf("sendmail: exit %d, %s", code, out)
			}
			hosttest.Eventually(t, "it is held, and the log says for whom", func() bool {
				return strings.Contains(lineWith(h.mainlog(), "<script@far.example> R=sluice_hold"), named)
			})
			h.lockFilesNameNobody(t)
			if h.read("/var/log/exim4/paniclog") != "" {
				t.Errorf("panic log:\n%s", h.read("/var/log/exim4/paniclog"))
			}
		})
	}
}

// lineWith is the first line of a log with a text.
func lineWith(log, text string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// lockFilesNameNobody shows that a lock file, which every user of the host can read, is as
// it was.
func (h *host) lockFilesNameNobody(t *testing.T) {
	t.Helper()
	hosttest.Eventually(t, "there is a lock file", func() bool { return len(h.locks(t)) > 0 })
	for _, name := range h.locks(t) {
		file := filepath.Join(h.path(lockDir), name)
		if text, err := os.ReadFile(file); err != nil || strings.Contains(file+string(text), "mostly") || strings.Contains(file+string(text), "run{") {
			t.Errorf("%s: %v\n%s", file, err, text)
		}
	}
}

// How Exim logs what a refusal says to operators only. A responder stands in for Sluice:
//
//	client, sendmail ─→ Exim ─ RCPT, delivery ─→ responder: 450, and log=
//	                      └─→ client: the text; main log: log=

// What is logged of held mail is for operators: neither Exim's warnings nor its bounces tell
// whoever has sent it, who may be anybody.
func TestWarningsAndBouncesOfHeldMailNameNobody(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.addMacros(t, "delay_warning = 1s\nSLUICE_HOLD_RETRY = F,3s,1s")
	h.respond(t, func(q question) string {
		if q["stage"] == "route" {
			return "action=450 4.7.1 told\nlog=" + strings.Repeat("LOGGED", 150) + "\n\n"
		}
		return pass("100")(q)
	})
	h.sendmail(t, alice, "", hosttest.Letter("held"), "-f", "alice@here.example", "joe@far.example")
	logged := "R=sluice_hold defer: " + strings.Repeat("LOGGED", 150)
	hosttest.Eventually(t, "it is held, and logged", func() bool { return strings.Contains(h.mainlog(), logged) })
	hosttest.Eventually(t, "alice is warned, or it bounces", func() bool {
		h.queueRun(t, "-q")
		return strings.Contains(h.mailbox(alice), "returning message to sender")
	})
	if text := h.mailbox(alice); strings.Contains(text, "LOGGED") || strings.Contains(text, "told") {
		t.Errorf("alice is told:\n%s", text)
	}
}

// An older sluice says less and a newer one perhaps more: what Exim does not know is no answer, and
// its log is what the client is told where there is no more.
func TestRefusalsWithAndWithoutLog(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.respond(t, func(q question) string {
		to, _, _ := strings.Cut(q["recipient"]+q["recipients"], "@")
		switch {
		case to == "older":
			return "action=450 4.7.1 told\n\n"
		case to == "full":
			return "action=450 4.7.1 told\nlog=" + strings.Repeat("l", 900) + "\n\n"
		case to == "newer" && q["stage"] != "route":
			return "action=450 4.7.1 told\nlog=logged\ncolour=blue\n\n"
		}
		return pass("1")(q)
	})
	h.startExim(t)
	c := h.dial(t).Login("a@here.example")
	c.Want(c.Send("a@here.example", hosttest.Letter("x"), "newer@far.example"), 250)
	c.Mail("a@here.example")
	c.Want(c.Rcpt("older@far.example"), 450, "4.7.1 told")
	c.Want(c.Rcpt("full@far.example"), 450, "4.7.1 told")
	for _, line := range []string{"rejected RCPT <older@far.example>: told\n", "rejected RCPT <full@far.example>: " + strings.Repeat("l", 900) + "\n"} {
		if !strings.Contains(h.mainlog(), line) {
			t.Errorf("the main log has no %q", line)
		}
	}
}
