package eximconfig_test

import (
	"fmt"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// Header lines that are asked about. Whoever sends chooses them, a responder stands in for
// Sluice:
//
//	client, sendmail: Subject, X-PHP-Script ─→ Exim ─ DATA, acl_not_smtp ─→ responder

// hostileSubject decodes to what would end a question, and the one before: RFC 2047.
const hostileSubject = "=?UTF-8?Q?a=0A=0Anumber=3D1=0A=00?= " + everyCharacter

func TestHeadersBreakNoQuestion(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHostOf(t, "debian", way)
			r := h.respond(t, pass("100"))
			h.startExim(t)
			c := h.dial(t).Login("a@here.example")
			long := strings.Repeat("s", 300)
			c.Want(c.Send("a@here.example", "Subject: "+hostileSubject+"\nX-Source-Dir: "+everyCharacter+"\n\nx\n", "r0@far.example"), 250)
			c.Want(c.Send("a@here.example", "Subject: "+long+"\nX-PHP-Originating-Script:\nX-PHP-Script: p\nX-Source-Dir: d\n\nx\n", "r1@far.example"), 250)
			c.Want(c.Send("a@here.example", "From: a@here.example\n\nx\n", "r2@far.example"), 250)
			for _, q := range r.asked("") {
				if q["malformed"] != "" || q["sender"] != "a@here.example" || q["auth"] != "a@here.example" {
					t.Errorf("asked %v", q)
				}
			}
			want := []question{
				{"subject": ("a\n\nnumber=1\n? " + everyCharacter)[:200], "script": everyCharacter},
				{"subject": long[:200], "script": "p"},
				{"subject": "", "script": ""},
			}
			for i, q := range r.asked("data") {
				for name, value := range want[i] {
					if got, known := q[name]; got != value || !known {
						t.Errorf("message %d was asked about with %s\n%q, want\n%q", i, name, got, value)
					}
				}
				if to := fmt.Sprintf("r%d@far.example", i); q["recipients"] != to {
					t.Errorf("message %d was asked about with recipients=%s", i, q["recipients"])
				}
			}
			if log := h.mainlog(); strings.Contains(log, "failed to expand") || h.read("/var/log/exim4/paniclog") != "" {
				t.Errorf("Exim complains:\n%s%s", log, h.read("/var/log/exim4/paniclog"))
			}
		})
	}
}

// A site may name other headers, and keep subjects to itself.
func TestHeadersThatASiteChooses(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.addMacros(t, "SLUICE_SCRIPT_HEADERS = X-Ours\nSLUICE_SUBJECT =")
	r := h.respond(t, pass("100"))
	h.sendmail(t, alice, "", "X-PHP-Originating-Script: 2001:a.php\nX-Ours: ours\n"+hosttest.Letter("secret"), "joe@far.example")
	if q := r.asked("local"); len(q) != 1 || q[0]["script"] != "ours" || q[0]["subject"] != "" {
		t.Errorf("asked %v", q)
	}
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 1 && len(h.queue()) == 0 })
}
