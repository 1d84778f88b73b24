package eximconfig_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/sidecar/hosttest"
)

// What Exim makes of the replies. A responder stands in for Sluice:
//
//	client ─→ Exim ─ RCPT, DATA, delivery ─→ responder: a reply of each kind
//	             └─→ client, main log, queue

// everyCharacter has all that a text could do harm with: Exim's expansions, its
// redirect lists and conditions, formats, quotes, shell, and bytes over 127.
const everyCharacter = `!"#$%&'()*+,-./0123456789:;<=>?@ABCXYZ[\]^_` + "`" + `abcxyz{|}~ ` +
	`${run{/bin/false}} $acl_m_sluice_sent ${if %s %n %100s :fail: no :blackhole: "|/bin/false" ` +
	`two  spaces, a@b.example, \n \N \x00 $1 caf` + "\xc3\xa9 \xff" + ` 550 5.1.1 freeze`

func TestTextsAreLiteral(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var stage atomic.Value
	h.respond(t, func(q question) string {
		switch {
		case q["stage"] != stage.Load():
			return pass("100")(q)
		case q["stage"] == "local":
			return "action=550 5.7.1 " + everyCharacter + "\n\n"
		default:
			return "action=450 4.7.1 " + everyCharacter + "\n\n"
		}
	})
	h.startExim(t)
	c := h.dial(t).Login("a@here.example")

	stage.Store("rcpt")
	c.Mail("a@here.example")
	c.Want(c.Rcpt("x@far.example"), 450, "4.7.1 "+everyCharacter)
	stage.Store("data")
	c.Want(c.Rcpt("x@far.example"), 250)
	c.Want(c.Data(hosttest.Letter("x")), 450, "4.7.1 "+everyCharacter)
	stage.Store("local")
	out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-oep", "x@far.example")
	if code != 1 || !strings.Contains(unspaced(out), unspaced(everyCharacter)) {
		t.Errorf("sendmail: exit %d\n%s", code, out)
	}
	hosttest.Eventually(t, "the bounce is delivered", func() bool { return len(h.queue()) == 0 })
	stage.Store("route")
	c.Want(c.Send("a@here.example", hosttest.Letter("x"), "x@far.example"), 250)
	// Here Exim's log escapes what is not ASCII.
	escaped := strings.NewReplacer("\xc3\xa9", `\303\251`, "\xff", `\377`).Replace(everyCharacter)
	held := "R=sluice_hold defer: " + escaped + "\n"
	hosttest.Eventually(t, "it is held", func() bool { return strings.Contains(h.mainlog(), held) })
	for _, refused := range []string{"rejected RCPT <x@far.example>: ", "rejected after DATA: ", "rejected by non-SMTP ACL: "} {
		if !strings.Contains(h.mainlog(), refused+everyCharacter) {
			t.Errorf("not in the main log: %s%s", refused, everyCharacter)
		}
	}
	if !strings.Contains(h.mainlog(), "<x@far.example> R=sluice_hold") {
		t.Error("the main log does not name the held recipient")
	}
}

// unspaced is a text without the line ends and spaces that folding changes.
func unspaced(s string) string { return strings.Join(strings.Fields(s), "") }

// A reply that is not wholly one of ours is no answer: the mail goes on.
func TestOddRepliesAreNoAnswer(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var reply atomic.Value
	h.respond(t, func(question) string { return reply.Load().(string) })
	h.startExim(t)
	c := h.dial(t).Login("a@here.example")
	refusal := "action=550 5.7.1 no"
	odd := []string{
		"action=\n\n", "action=FREEZE\n\n", "action=OK\n\n", "action=dunno\n\n", "DUNNO\n\n",
		refusal + "\n" + refusal + "\n\n", " " + refusal + "\n\n", refusal + "\r\n\r\n\n", "x" + refusal + "\n\n",
		refusal + "\nroom=x\n\n", refusal + "\nroom=12345678\n\n", refusal + "\ncharged=yes\n\n",
		"action=550 no code\n\n", "action=550 5.7.0 no\n\n", "action=250 2.7.1 no\n\n", "action=450 5.7.1 no\n\n",
		"action=550 5.7.1 \n\n", "action=550 5.7.1 a\tb\n\n", "action=550 5.7.1 a\x00b\n\n", "action=550 5.7.1 a\x7fb\n\n",
		"action=550 5.7.1 " + strings.Repeat("x", 2001) + "\n\n",
		"action=DISCARD\n\n", "action=DISCARD \n\n", "action=DUNNO\nroom=-1\n\n", "action=DUNNO\ncharged=no\n\n",
		"action=DUNNO\n\naction=DUNNO\n\n", refusal + "\n\n" + refusal + "\n\n",
		"action=:fail:\n\n", "action=postmaster@here.example\n\n", "action=${run{/bin/false}}\n\n",
	}
	// One without an end, which costs a deadline, is under "answers half" in TestMailFirst.
	sent := 0
	for i, text := range odd {
		reply.Store(text)
		c.Want(c.Send("a@here.example", hosttest.Letter("x"), fmt.Sprintf("r%d@far.example", i)), 250)
		sent++
		if i%4 > 0 && !hosttest.Soak() {
			continue // sendmail's ACL looks for the same answers
		}
		sent++
		if out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), fmt.Sprintf("s%d@far.example", i)); code != 0 {
			t.Errorf("%q: sendmail: exit %d\n%s", text, code, out)
		}
	}
	h.queueRun(t, "-q") // after ten messages of one connection Exim leaves the rest to it
	hosttest.Eventually(t, "all is delivered", func() bool { return h.sink.Count() == sent && len(h.queue()) == 0 })
	if log := h.mainlog(); strings.Contains(log, "R=sluice") || strings.Contains(log, "**") {
		t.Errorf("something was held or failed:\n%s", log)
	}
	if paniclog := h.read("/var/log/exim4/paniclog"); paniclog != "" {
		t.Errorf("panic log:\n%s", paniclog)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.respond(t, func(q question) string {
		stage, verdict, _ := strings.Cut(strings.Split(q["sender"], "@")[0], ".")
		if q["stage"] != stage {
			return pass("1")(q)
		}
		return map[string]string{
			"450":     "action=450 4.7.1 later\nlog=later [for operators]\n\n",
			"550":     "action=550 5.7.1 never\nlog=never [for operators]\n\n",
			"discard": "action=DISCARD gone\n\n",
		}[verdict]
	})
	h.startExim(t)
	c := h.dial(t).Login("a@here.example")
	for sender, want := range map[string]hosttest.Reply{
		"rcpt.450":     {Code: 450, Text: "4.7.1 later"},
		"rcpt.550":     {Code: 550, Text: "5.7.1 never"},
		"rcpt.discard": {Code: 250, Text: "Accepted"},
	} {
		c.Mail(sender + "@here.example")
		c.Want(c.Rcpt("bob@here.example"), 250)
		c.Want(c.Rcpt("x@far.example"), want.Code, want.Text)
		c.Want(c.Cmd("RSET"), 250)
	}
	c.Want(c.Send("data.450@here.example", hosttest.Letter("x"), "x@far.example"), 450, "4.7.1 later")
	c.Want(c.Send("data.550@here.example", hosttest.Letter("x"), "x@far.example"), 550, "5.7.1 never")
	c.Want(c.Send("data.discard@here.example", hosttest.Letter("x"), "x@far.example"), 250)
	c.Want(c.Send("route.discard@here.example", hosttest.Letter("x"), "x@far.example"), 250)
	// A refusal at delivery would bounce what was accepted.
	c.Want(c.Send("route.550@here.example", hosttest.Letter("x"), "delivered@far.example"), 250)
	// sendmail has no 450. For a discard Exim itself exits 1, but makes no bounce.
	for sender, want := range map[string]int{"local.450": 0, "local.550": 1, "local.discard": 1} {
		rcpt := strings.Replace(sender, ".", "-", 1) + "@far.example"
		out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-oep", "-f", sender+"@here.example", rcpt)
		if code != want || strings.Contains(out, "for operators") {
			t.Errorf("%s: sendmail: exit %d, want %d\n%s", sender, code, want, out)
		}
	}
	for _, line := range []string{"rejected RCPT <x@far.example>: later", "rejected RCPT <x@far.example>: never", "rejected after DATA: later", "rejected by non-SMTP ACL: never"} {
		if !strings.Contains(h.mainlog(), line+" [for operators]") {
			t.Errorf("the main log has no %q", line+" [for operators]")
		}
	}
	hosttest.Eventually(t, "all is delivered", func() bool { return h.sink.Count() == 2 })
	if got := h.sink.Recipients(); !slices.Equal(got, []string{"delivered@far.example", "local-450@far.example"}) {
		t.Errorf("delivered to %v", got)
	}
}

// The site's own ACLs come first: what they refuse is never asked about.
func TestSiteComesFirst(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(t, "/etc/exim4/conf.d/acl/50_site", `
site_rcpt:
  deny     local_parts = denied
           message     = the site says no
  defer    local_parts = deferred
           message     = 452 4.2.2 the site says later
  discard  local_parts = discarded
  drop     local_parts = dropped
  accept   acl         = acl_check_rcpt
site_data:
  discard  condition   = ${if eq{$h_Subject:}{discarded}}
  require  acl         = acl_check_data
  accept
site_not_smtp:
  deny     condition   = ${if eq{$h_Subject:}{denied}}
           message     = the site says no
  accept
`)
	h.addMacros(t, "MAIN_ACL_CHECK_RCPT = site_rcpt\nMAIN_ACL_CHECK_DATA = site_data\nSLUICE_SITE_NOT_SMTP = site_not_smtp")
	h.run(t, "update-exim4.conf")
	r := h.respond(t, pass("1"))
	h.startExim(t)
	c := h.dial(t).Login("a@here.example")
	c.Mail("a@here.example")
	c.Want(c.Rcpt("denied@far.example"), 550, "the site says no")
	c.Want(c.Rcpt("deferred@far.example"), 452, "4.2.2 the site says later")
	c.Want(c.Rcpt("discarded@far.example"), 250)
	c.Want(c.Rcpt("dropped@far.example"), 550)
	if qs := r.asked(""); len(qs) > 0 {
		t.Errorf("asked about what the site refused: %v", qs)
	}
	c = h.dial(t).Login("a@here.example")
	c.Want(c.Send("a@here.example", hosttest.Letter("forbidden by the site"), "x@far.example"), 550, "the site does not like this")
	c.Want(c.Send("a@here.example", hosttest.Letter("discarded"), "x@far.example"), 250)
	if out, code := h.sendmail(t, alice, "", hosttest.Letter("denied"), "-oep", "x@far.example"); code != 1 || !strings.Contains(out, "the site says no") {
		t.Errorf("sendmail: exit %d\n%s", code, out)
	}
	if qs := append(r.asked("data"), r.asked("local")...); len(qs) > 0 {
		t.Errorf("asked to charge what the site refused: %v", qs)
	}
	c.Want(c.Send("a@here.example", hosttest.Letter("good"), "x@far.example"), 250)
	hosttest.Eventually(t, "the good one is delivered", func() bool { return h.sink.Count() == 1 })
}
