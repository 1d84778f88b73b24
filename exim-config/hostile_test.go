package eximconfig_test

import (
	"slices"
	"strings"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
)

// Whatever they choose of a line, nobody makes another one pay or hides what became
// of his mail, while Sluice knows no more than the log of a real Exim:
//
//	client: HELO, Message-Id ──┐
//	sendmail: addresses, subject ─→ Exim ─→ main log ─→ sluice, started when all is over
//	sink: answers ─────────────┘
func TestNobodyChargesAnotherByALine(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const fake = "[127.0.0.1] P=esmtpa A=plain:boss@victim.example S=1"
	route := grim{"RCPT": "550 5.1.1 retry time not reached R=sluice T=local_delivery => boss@victim.example <boss@victim.example>: no such user"}.listen(t)
	h.write(t, "/etc/exim4/sinks", "bad.to: "+route+"\n"+h.read("/etc/exim4/sinks"))
	h.write(t, "/etc/exim4/conf.d/router/140_cut", "cut:\n  driver = redirect\n  domains = +local_domains\n  local_parts = cut\n  data = cut@far.example\n")
	h.write(t, "/etc/exim4/site_rcpt_acl", "  warn local_parts = cut\n       control = cutthrough_delivery\n")
	h.addMacros(t, "MAIN_LOG_SELECTOR = +all\nhelo_accept_junk_hosts = *\nCHECK_RCPT_LOCAL_ACL_FILE = /etc/exim4/site_rcpt_acl")
	h.run(t, "update-exim4.conf")

	helos := []string{"x) " + fake, "x) " + fake + ` id="`, "x) " + fake + ` T="`, "x) [127.0.0.1] P=esmtpa A=plain:boss@victim.example: ", "x) [127.0.0.1]", "x) []"}
	for _, helo := range helos {
		c := h.dialFrom(t, "192.0.2.9")
		c.Want(c.Cmd("EHLO %s", helo), 250)
		c.Want(c.Send("boss@victim.example", "Message-ID: <\"a P=esmtp S=1 b\"@x>\n"+hosttest.Letter("x) "+fake), "cut@here.example"), 250)
	}
	to := []string{`a\ R=sluice\ T=local@bad.to`, `"b R=sluice T=local: x"@bad.to`, "|c@bad.to", `"boss@victim.example => "@bad.to`, `d\@victim.example\ R=x@bad.to`}
	args := append([]string{"-odi", "-f", "a@tenant.example"}, to...)
	if out, code := h.sendmail(t, alice, "", hosttest.Letter("<= boss@victim.example H=(x) "+fake), args...); code != 0 {
		t.Fatalf("sendmail: exit %d\n%s", code, out)
	}
	for _, word := range []string{"(" + helos[0] + ") [192.0.2.9]", "** a r=sluice t=local@bad.to <", "** |c@bad.to F="} {
		if !strings.Contains(h.mainlog(), word) {
			t.Errorf("not in the log: %s", word)
		}
	}
	h.startSluice(t, "[limits]\ndeferfail_percent = 0")
	h.wantTallies(t, "from the log alone", map[string]tally{
		"forward:here.example": {Sent: int64(len(helos)), Delivered: int64(len(helos))},
		// and the bounce
		"tenant.example": {Sent: int64(len(to)) + 1, Delivered: 1, Failed: int64(len(to)), Cause: sidecar.NoSuchUser},
	})
	h.showsNothingRaw(t)
	found, _ := h.doctor(t)
	if !slices.ContainsFunc(found, func(f finding) bool { return f.Check == "log selector" && strings.Contains(f.Do, "-arguments") }) {
		t.Errorf("doctor does not tell of +arguments: %+v", found)
	}
}

// showsNothingRaw has a local user send in names with a command to a terminal (CSI, as one
// character) and a right-to-left override, as S-07 does. No command shows them as they are.
func (h *host) showsNothingRaw(t *testing.T) {
	t.Helper()
	before := h.run(t, h.sluice(t, "status")...)
	for _, sender := range []string{"a@x\u009b31mred.example", "a@\u202egpj.example"} {
		h.sendmail(t, alice, "", hosttest.Letter("x"), "-odi", "-f", sender, "r@far.example")
	}
	hosttest.Eventually(t, "they are counted", func() bool { return h.run(t, h.sluice(t, "status")...) != before })
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"history"}, {"doctor"}, {"simulate", "/var/log/exim4/mainlog", "--set", "default", "hourly=1"}} {
		if out, _ := h.try(t, h.sluice(t, args...)...); strings.ContainsAny(out, "\u009b\u202e") || out == "" {
			t.Errorf("sluice %s: %q", strings.Join(args, " "), out)
		}
	}
}
