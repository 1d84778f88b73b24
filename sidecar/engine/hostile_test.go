package engine_test

import (
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/logline"
)

// What servers answer, and how senders spell addresses, hides no outcome and
// chooses no cause.
func TestNobodyHidesAnOutcome(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want sidecar.Cause
	}{
		"an answer like one of Exim's texts":    {"(-44) H=mx.far.example [192.0.2.7]: SMTP error from remote mail server after RCPT TO:<x@far.example>: 450 retry time not reached", sidecar.RemoteDefer},
		"an answer that says it is no attempt":  {"SMTP error from remote mail server after DATA: 451 (0): retry time not reached", sidecar.RemoteDefer},
		"an address like an answer":             {`SMTP error from remote mail server after RCPT TO:<"a: 450 greylisted"@far.example>: 550 5.7.1 no`, sidecar.RemoteReject},
		"an address like an answer, with marks": {`SMTP error from remote mail server after RCPT TO:<a\>:\ 450\ greylisted@far.example>: 550 5.7.1 no`, sidecar.RemoteReject},
		"an address, and no answer":             {`(110): Connection timed out H=mx.far.example [192.0.2.7]: SMTP timeout after RCPT TO:<"a: 450 greylisted"@far.example>`, sidecar.Unreachable},
	} {
		s := newSite(t, quarter)
		s.now = time.Now()
		s.deferred(s.arrived("a.example"), "x@far.example", c.text)
		s.wantOutcomes("a.example", 1, 0, 1, 0)
		if d := s.outcomes("a.example"); len(d.Causes) != 1 || d.Causes[0].Cause != c.want {
			t.Errorf("%s: causes %+v, want %s", name, d.Causes, c.want)
		}
	}
}

// Deferrals without an attempt are none, whatever their number is, if they have one.
func TestWhatIsNotAttemptedIsNoDeferral(t *testing.T) {
	s := newSite(t, quarter)
	s.now = time.Now()
	id := s.arrived("a.example")
	for _, text := range []string{
		"retry time not reached", "(-52): retry time not reached", "(-54): retry time not reached for any host for 'far.example'",
		"(-53): reusing SMTP connection skips previous routing defer", "(0): SMTP delivery explicitly queued",
		"(-1): first-pass only routing due to -odqs, queue_smtp_domains or control=queue", "(-20): domain is held",
		"(-54): connection limit reached for all hosts for 'far.example'",
		"(-54): some host address lookups failed and retry time not reached for other hosts or connection limit reached for 'far.example'",
	} {
		s.deferred(id, "x@far.example", text)
	}
	s.wantOutcomes("a.example", 0, 0, 0, 0)
}

// A line that a server may have made up moves a send that is known, and charges none.
func TestADoubtfulLineChargesNobody(t *testing.T) {
	s := newSite(t, quarter)
	s.now = time.Now()
	id := s.arrived("a.example")
	s.deferred(id, "y@far.example", refused)
	for _, to := range []string{"x@far.example", "y@far.example"} {
		s.tell(logline.Entry{Kind: logline.Failed, ID: id, Attempt: logline.Attempt{Recipient: to, Transport: "remote_smtp", Text: noSuchUser}, Doubtful: true})
	}
	s.wantOutcomes("a.example", 1, 0, 0, 1)
}
