package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sluice/sidecar"
)

// A pfMessage is one message on its way into Postfix, as its questions name it.
type pfMessage struct {
	*site
	instance, queue string
	taken           int
}

var instances int

func (s *site) pfMessage() *pfMessage {
	instances++
	return &pfMessage{site: s, instance: fmt.Sprintf("d0.%x.802cf.%x", s.now.Unix(), instances)}
}

func (m *pfMessage) question(stage sidecar.Stage) sidecar.Request {
	return sidecar.Request{Stage: stage, Postfix: sidecar.Postfix{Instance: m.instance}, Connection: sidecar.Connection{ClientPort: "4711"}, ID: m.queue, Sender: "news@a.example", Submitter: sidecar.Submitter{Auth: "news@a.example", ClientAddress: "192.0.2.1"}}
}

// rcpt asks as Postfix does at RCPT, which has no queue id before the first
// recipient was taken.
func (m *pfMessage) rcpt(to string) sidecar.Reply {
	r := m.question(sidecar.StagePostfixRcpt)
	r.Recipient = to
	reply := m.Ask(context.Background(), m.now, r)
	if reply.Action == sidecar.Accept {
		m.taken++
		m.queue = fmt.Sprintf("822E89%05d", instances)
	}
	return reply
}

// end asks as Postfix does at END-OF-MESSAGE.
func (m *pfMessage) end(only string) sidecar.Reply {
	r := m.question(sidecar.StagePostfixEnd)
	r.Count, r.Recipient = m.taken, only
	return m.Ask(context.Background(), m.now, r)
}

const atEnd = limit20 + "[postfix]\ncharge = \"end-of-message\"\nlocal_domains = [\"pf.example\"]\n"

func TestPostfixChargesAtRcptAndNotAgainAtTheEnd(t *testing.T) {
	s := newSite(t, limit20)
	m := s.pfMessage()
	for i := range 3 {
		for range 2 { // Postfix asks again where its first question broke
			s.want(m.rcpt(fmt.Sprintf("u%d@far.example", i)), sidecar.Accept, "")
		}
	}
	s.want(m.rcpt("x@local.example"), sidecar.Accept, "")
	s.want(m.end(""), sidecar.Accept, "")
	s.sent("a.example", 3)
	s.restart() // the ledger knows that it was charged
	s.want(m.end(""), sidecar.Accept, "")
	s.sent("a.example", 3)
	aborted := s.pfMessage()
	s.want(aborted.rcpt("y@far.example"), sidecar.Accept, "")
	s.sent("a.example", 4)
	onlyLocal := s.pfMessage()
	s.want(onlyLocal.rcpt("x@local.example"), sidecar.Accept, "")
	s.want(onlyLocal.end("x@local.example"), sidecar.Accept, "")
	s.sent("a.example", 4)
}

func TestPostfixTheTwentyFirstRecipientIsDeferredAndTheTwentyFifthRejected(t *testing.T) {
	for _, config := range []string{limit20, atEnd} {
		s := newSite(t, config)
		m := s.pfMessage()
		for i := range 20 {
			s.want(m.rcpt(fmt.Sprintf("u%d@far.example", i)), sidecar.Accept, "")
		}
		for i := 21; i <= 26; i++ {
			action, what := sidecar.Defer, "will be reattempted later ["
			if i >= 25 {
				action, what = sidecar.Reject, "discarded. ["
			}
			s.want(m.rcpt(fmt.Sprintf("v%d@far.example", i)), action, fmt.Sprintf(hourlyText, fmt.Sprintf("%d/20 (%d%%)", i, i*5), what))
		}
		s.want(m.end(""), sidecar.Accept, "")
		s.sent("a.example", 20)
	}
}

// END-OF-MESSAGE alone counts what Postfix counts.
func TestPostfixChargesAtTheEndWhatRcptDidNotAsk(t *testing.T) {
	for _, config := range []string{limit20, atEnd} {
		s := newSite(t, config)
		for range 2 {
			m := s.pfMessage()
			m.queue, m.taken = fmt.Sprintf("Q%d", instances), 9
			for range 2 {
				s.want(m.end(""), sidecar.Accept, "")
			}
		}
		s.sent("a.example", 18)
		m := s.pfMessage()
		m.queue, m.taken = "Qlast", 9
		s.want(m.end(""), sidecar.Defer, "Domain a.example has exceeded")
		m.taken = 1
		s.want(m.end("x@local.example"), sidecar.Accept, "")
		s.want(m.end("x@far.example"), sidecar.Accept, "")
		s.sent("a.example", 19)
	}
}

func TestPostfixAbortedMessagesAreNotChargedAtTheEnd(t *testing.T) {
	s := newSite(t, atEnd)
	for range 30 {
		m := s.pfMessage()
		s.want(m.rcpt("u@far.example"), sidecar.Accept, "")
		s.want(m.rcpt("x@pf.example"), sidecar.Accept, "")
	}
	s.sent("a.example", 0)
	m := s.pfMessage()
	for i := range 12 {
		s.want(m.rcpt(fmt.Sprintf("u%d@far.example", i)), sidecar.Accept, "")
	}
	other := s.pfMessage()
	for i := range 12 {
		s.want(other.rcpt(fmt.Sprintf("w%d@far.example", i)), sidecar.Accept, "")
	}
	s.want(m.end(""), sidecar.Accept, "")
	s.want(other.end(""), sidecar.Defer, fmt.Sprintf(hourlyText, "24/20 (120%)", "will be reattempted later"))
	s.sent("a.example", 12)
}

// The same Postfix asks by its policy protocol and as a milter.
func TestPostfixWithTheMilterTooIsChargedOnce(t *testing.T) {
	for _, config := range []string{limit20, atEnd} {
		s := newSite(t, config)
		for n := 1; n <= 2; n++ {
			m := s.pfMessage()
			for i := range 10 {
				to := fmt.Sprintf("u%d@far.example", i)
				s.want(m.rcpt(to), sidecar.Accept, "")
				look := m.question(sidecar.StageMilterRcpt)
				look.Instance, look.Recipient, look.Sent = "", to, i
				s.want(s.Ask(context.Background(), s.now, look), sidecar.Accept, "")
			}
			s.want(m.end(""), sidecar.Accept, "")
			data := m.question(sidecar.StageMilterEnd)
			data.Instance = ""
			for i := range 10 {
				data.Recipients += fmt.Sprintf("u%d@far.example, ", i)
			}
			s.want(s.Ask(context.Background(), s.now, data), sidecar.Accept, "")
			s.sent("a.example", int64(10*n))
		}
	}
}

func TestPostfixIsRefusedByLocksAndTrips(t *testing.T) {
	s := running(t, quarter)
	for i := range 8 {
		s.failed(s.arrived("a.example"), fmt.Sprintf("x%d@far.example", i), noSuchUser)
	}
	s.wantTripped("a.example", true)
	s.want(s.pfMessage().rcpt("u@far.example"), sidecar.Reject, "Domain a.example has exceeded the max defers and failures")
	m := s.pfMessage()
	m.queue, m.taken = "Q", 2
	s.want(m.end(""), sidecar.Reject, "Domain a.example has exceeded the max defers and failures")
}

// What nobody is charged for passes.
func TestPostfixInboundMailIsNobodys(t *testing.T) {
	s := newSite(t, limit20)
	r := s.pfMessage().question(sidecar.StagePostfixRcpt)
	r.Auth, r.Recipient = "", "u@far.example"
	for range 30 {
		s.want(s.Ask(context.Background(), s.now, r), sidecar.Accept, "")
	}
	s.sent("a.example", 0)
}

// A transaction that goes on for hours, among very many others.
func TestPostfixTransactionsAreForgottenInTime(t *testing.T) {
	s := newSite(t, atEnd)
	m, old := s.pfMessage(), s.pfMessage()
	s.want(old.rcpt("u@far.example"), sidecar.Accept, "")
	for i := range 5 {
		s.want(m.rcpt(fmt.Sprintf("u%d@far.example", i)), sidecar.Accept, "")
		s.now = s.now.Add(20 * time.Minute)
	}
	s.want(m.end(""), sidecar.Accept, "")
	s.sent("a.example", 5)
}
