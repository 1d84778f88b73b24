package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/delivery"
	"sluice/sidecar/logline"
)

// pfTell tells a site one line of Postfix's log.
func (s *site) pfTell(e logline.Entry) {
	s.t.Helper()
	e.Postfix = true
	if e.At.IsZero() {
		e.At = s.now
	}
	e.Line = fmt.Sprint(e)
	s.Record(context.Background(), s.now, []logline.Entry{e})
}

// logArrived tells that an smtpd took a message of news@a.example.
func (s *site) logArrived(queue, process string) {
	s.pfTell(logline.Entry{Kind: logline.Arrived, ID: queue, Process: process, Arrival: logline.Arrival{Auth: "news@a.example", ClientAddress: "192.0.2.1"}})
	s.pfTell(logline.Entry{Kind: logline.Sender, ID: queue, Arrival: logline.Arrival{Sender: "news@a.example"}})
}

// logOutcome tells what became of a recipient; original is empty unless an alias
// was expanded.
func (s *site) logOutcome(kind logline.Kind, queue, to, original string) {
	s.pfTell(logline.Entry{Kind: kind, ID: queue, Attempt: logline.Attempt{Recipient: to, Original: original, Transport: "smtp", Text: "host mx said: 450 4.2.0 later"}})
}

// Each recipient of a message that RCPT charged gets its outcome, whatever of the
// queue id was known when: here none before the message was logged.
func TestPostfixOutcomesFindWhatRcptCharged(t *testing.T) {
	s := newSite(t, limit20)
	m := s.pfMessage()
	for _, to := range []string{"one@far.example", "two@far.example", "team@far.example"} {
		s.want(m.rcpt(to), sidecar.Accept, "")
		m.queue = ""
	}
	s.logArrived("Q77", "208") // d0 in hexadecimal
	s.logOutcome(logline.Deferred, "Q77", "two@far.example", "")
	s.logOutcome(logline.Delivered, "Q77", "one@far.example", "")
	s.logOutcome(logline.Delivered, "Q77", "member@far.example", "team@far.example")
	s.wantOutcomes("a.example", 3, 2, 1, 0)
	for range 2 { // as a retry, and as read again
		s.logOutcome(logline.Delivered, "Q77", "two@far.example", "")
		s.logOutcome(logline.Delivered, "Q77", "one@far.example", "")
		s.logOutcome(logline.Deferred, "Q77", "one@far.example", "")
		s.wantOutcomes("a.example", 3, 3, 0, 0)
	}
}

// One smtpd takes many messages in a second, some of which another rule refused.
func TestPostfixMessagesAreJoinedByProcessAndTime(t *testing.T) {
	s := newSite(t, limit20)
	for i := range 5 {
		s.want(s.pfMessage().rcpt(fmt.Sprintf("u%d@far.example", i)), sidecar.Accept, "")
	}
	s.now = s.now.Add(2 * time.Second)
	s.want(s.pfMessage().rcpt("u5@far.example"), sidecar.Accept, "")
	at := s.now.Add(-2 * time.Second)
	for i := range 5 {
		queue := fmt.Sprintf("Q%d", i)
		s.pfTell(logline.Entry{Kind: logline.Arrived, ID: queue, Process: "208", Arrival: logline.Arrival{Auth: "news@a.example", ClientAddress: "192.0.2.1"}, At: at})
		s.logOutcome(logline.Delivered, queue, fmt.Sprintf("u%d@far.example", i), "")
	}
	s.logArrived("Q5", "208")
	s.logOutcome(logline.Delivered, "Q5", "u5@far.example", "")
	s.wantOutcomes("a.example", 6, 6, 0, 0)

	s.now = s.now.Add(time.Minute)
	s.want(s.pfMessage().rcpt("refused-later@far.example"), sidecar.Accept, "") // no line follows
	s.now = s.now.Add(time.Minute)
	s.want(s.pfMessage().rcpt("u6@far.example"), sidecar.Accept, "")
	s.logArrived("Q6", "209")
	s.logOutcome(logline.Delivered, "Q6", "u6@far.example", "") // of another process
	s.wantOutcomes("a.example", 8, 6, 0, 0)
	s.logArrived("Q7", "208")
	s.logOutcome(logline.Delivered, "Q7", "u6@far.example", "")
	s.wantOutcomes("a.example", 8, 7, 0, 0)
}

// With postfix.charge = "rcpt" the log never charges; in the other mode it charges
// what was missed, dated by the arrival, and nothing twice.
func TestPostfixLogChargesWhatWasMissed(t *testing.T) {
	for config, sent := range map[string]int64{limit20: 0, atEnd: 2} {
		s := newSite(t, config)
		for range 2 { // read twice
			s.logArrived("Q1", "1")
			s.logOutcome(logline.Deferred, "Q1", "u1@far.example", "")
			s.logOutcome(logline.Deferred, "Q1", "u1@far.example", "")
			s.logOutcome(logline.Delivered, "Q1", "u1@far.example", "")
			s.logOutcome(logline.Failed, "Q1", "u2@far.example", "")
			s.logOutcome(logline.Delivered, "Q1", "u3@far.example", "info@local.example")
			s.logOutcome(logline.Delivered, "Q1", "x@local.example", "")
			s.pfTell(logline.Entry{Kind: logline.Delivered, ID: "Q1", Attempt: logline.Attempt{Recipient: "y@far.example", Transport: "pipe"}})
			s.pfTell(logline.Entry{Kind: logline.Completed, ID: "Q1"})
		}
		d := s.outcomes("a.example")
		if d.Sent != sent || sent > 0 && (d.Delivered != 1 || d.Failed != 1 || d.Deferred != 0) {
			t.Errorf("%q: %+v", config, d)
		}
		if got := s.counted("forward:local.example"); got.Sent != sent/2 || got.Delivered != sent/2 {
			t.Errorf("%q: forwards: %+v", config, got)
		}
		// The queue id is used again.
		s.now = s.now.Add(10 * time.Minute)
		s.logArrived("Q1", "1")
		s.logOutcome(logline.Delivered, "Q1", "other@far.example", "")
		// Nobody knows whose this is: it came in while nothing was read.
		s.logOutcome(logline.Delivered, "QX", "other@far.example", "")
		s.sent("a.example", sent+sent/2)
	}
}

// A message is asked about at its end only, as many recipients as Postfix counts.
func TestPostfixOutcomesOfWhatWasCountedByNumber(t *testing.T) {
	for _, config := range []string{limit20, atEnd} {
		s := newSite(t, config)
		m := s.pfMessage()
		m.queue, m.taken = "Q1", 3
		s.want(m.end(""), sidecar.Accept, "")
		s.logArrived("Q1", "208")
		s.logOutcome(logline.Deferred, "Q1", "a@far.example", "")
		s.logOutcome(logline.Delivered, "Q1", "b@far.example", "")
		if err := s.Checkpoint(s.now, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		s.restart()
		s.logOutcome(logline.Delivered, "Q1", "a@far.example", "")
		s.logOutcome(logline.Failed, "Q1", "c@far.example", "")
		s.wantOutcomes("a.example", 3, 2, 0, 1)
	}
}

// An expired message names no recipient: those that were deferred have failed, also
// those that were never tried.
func TestPostfixMessagesExpire(t *testing.T) {
	s := newSite(t, limit20)
	m := s.pfMessage()
	for _, to := range []string{"a@far.example", "b@far.example", "c@far.example"} {
		s.want(m.rcpt(to), sidecar.Accept, "")
	}
	s.logArrived(m.queue, "208")
	s.logOutcome(logline.Deferred, m.queue, "a@far.example", "")
	s.logOutcome(logline.Delivered, m.queue, "b@far.example", "")
	suspended := logline.Entry{Kind: logline.Deferred, ID: m.queue, Attempt: logline.Attempt{Recipient: "c@far.example", Transport: "error", Text: "delivery temporarily suspended: connect to far.example: Connection refused"}}
	s.pfTell(suspended)
	s.pfTell(logline.Entry{Kind: logline.Deferred, ID: m.queue, Attempt: logline.Attempt{Recipient: "x@far.example", Transport: "local", Text: "mailbox full"}})
	s.wantOutcomes("a.example", 3, 1, 1, 0)
	if err := s.Checkpoint(s.now, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	s.restart()
	for range 2 {
		s.pfTell(logline.Entry{Kind: logline.Expired, ID: m.queue, Arrival: logline.Arrival{Sender: "news@a.example"}, Attempt: logline.Attempt{Text: "expired, returned to sender"}})
		s.wantOutcomes("a.example", 3, 1, 0, 2)
	}
}

// Both logs of a node with two MTAs are followed, each from its own place.
func TestPostfixLogHasItsOwnPosition(t *testing.T) {
	s := newSite(t, limit20)
	of := delivery.PostfixLog{Recorder: s.Recorder}
	if err := s.Checkpoint(s.now, []byte(`"exim"`)); err != nil {
		t.Fatal(err)
	}
	if got := of.Position(); got != nil {
		t.Errorf("position %s before the first checkpoint", got)
	}
	if err := of.Checkpoint(s.now, []byte(`"postfix"`)); err != nil {
		t.Fatal(err)
	}
	s.restart()
	if got, exim := string(delivery.PostfixLog{Recorder: s.Recorder}.Position()), string(s.Position()); got != `"postfix"` || exim != `"exim"` {
		t.Errorf("positions %s and %s", got, exim)
	}
}
