package engine_test

import (
	"context"
	"fmt"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/limit"
	"sluice/sidecar/logline"
)

// offer has news@a.example send a message the way an SMTP client does: each
// recipient is asked about, then those that passed are charged.
func (s *site) offer(recipients int) (passed int, last sidecar.Reply) {
	s.ids++
	data := authed(sidecar.StageData)
	data.ID = messageID(s.now)[:6] + fmt.Sprintf("-%06d-0q", s.ids)
	for i := range recipients {
		to := fmt.Sprintf("o%d-%d@far.example", s.ids, i)
		if r := s.rcpt(to, passed); r.Action != sidecar.Accept {
			last = r
			continue
		}
		passed++
		data.Recipients += to + ", "
	}
	if passed > 0 {
		s.want(s.Ask(context.Background(), s.now, data), sidecar.Accept, "")
	}
	return passed, last
}

// What is counted under a watched limit is what would be counted if it refused.
func TestWatchAndEnforceAgree(t *testing.T) {
	watched, enforced := newSite(t, limit20+"mode = \"watch\"\n"), newSite(t, limit20)
	for _, n := range []int{3, 7, 15, 1, 1, 4} {
		if passed, _ := watched.offer(n); passed != n {
			t.Fatalf("watched: %d of %d passed", passed, n)
		}
		enforced.offer(n)
	}
	w, e := watched.status("a.example").Domains[0], enforced.status("a.example").Domains[0]
	if w.Sent != 20 || w.Sent != e.Sent || w.Watch.Sends != 11 || e.Refused != 11 || w.Mode != limit.Watch {
		t.Errorf("watched: %d sent, %d would be refused; enforced: %d, %d were", w.Sent, w.Watch.Sends, e.Sent, e.Refused)
	}
	if w.Refused != 0 || e.Watch.Sends != 0 {
		t.Errorf("watched: %d are said to be refused; enforced: %d would be", w.Refused, e.Watch.Sends)
	}
	if n := watched.status("").Totals; n.Watched != 11 || n.Refused != 0 { // RCPT and DATA are one send
		t.Errorf("%+v", n)
	}
}

func TestAWatchedDomainGetsNoLockAndRouteAndLogAddNothing(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 3\n[limits.domain.\"a.example\"]\nmode = \"watch\"\n[limits.account.bob]\nhourly = 100\n")
	local := sidecar.Request{Stage: sidecar.StageLocal, ID: messageID(s.now), Submitter: sidecar.Submitter{Login: "bob"}, Sender: "bob@a.example",
		Recipients: "u1@far.example, u2@far.example, u3@far.example, u4@far.example"}
	if r := s.Ask(context.Background(), s.now, local); !r.Charged {
		t.Fatalf("%+v", r)
	}
	route := local
	for i := range 4 {
		route.Stage, route.Recipient = sidecar.StageRoute, fmt.Sprintf("u%d@far.example", i+1)
		s.want(s.Ask(context.Background(), s.now, route), sidecar.Accept, "")
		s.Record(context.Background(), s.now, []logline.Entry{{Kind: logline.Delivered, ID: local.ID, At: s.now,
			Attempt: logline.Attempt{Recipient: route.Recipient, Transport: "remote_smtp"}}})
	}
	status := s.status("")
	if d := status.Domains[0]; d.Sent != 3 || d.Delivered != 3 || d.Refused != 0 || d.Watch.Sends != 1 {
		t.Errorf("%+v", d)
	}
	if a := status.Scopes[0]; a.Scope != "account:bob" || a.Windows[0].Sent != 4 || a.Mode != limit.Enforce {
		t.Errorf("%+v", a)
	}
	if late := status.Totals.Late; late != 0 {
		t.Errorf("%d charged from the log", late)
	}
	s.Reconcile(t.Context(), s.now)
	if s.content(aLock) != "" {
		t.Error("a watched domain is locked")
	}
}

func TestOverLimit(t *testing.T) {
	for over, want := range map[string][2]sidecar.Action{ // of the first over the limit, and from the cutoff on
		"cutoff":  {sidecar.Defer, sidecar.Reject},
		"defer":   {sidecar.Defer, sidecar.Defer},
		"reject":  {sidecar.Reject, sidecar.Reject},
		"discard": {sidecar.Discard, sidecar.Discard},
	} {
		t.Run(over, func(t *testing.T) {
			s := newSite(t, limit20+fmt.Sprintf("[limits.mailbox.\"news@a.example\"]\nover_limit = %q\n", over))
			s.send(20)
			for i, action := range map[int]sidecar.Action{21: want[0], 25: want[1]} {
				what := "discarded. ["
				if action == sidecar.Defer {
					what = "will be reattempted later ["
				}
				for n := range i - 20 {
					s.rcpt(fmt.Sprintf("w%d@far.example", n), 0)
				}
				s.want(s.rcpt("w0@far.example", 0), action, fmt.Sprintf(hourlyText, fmt.Sprintf("%d/20 (%d%%)", i, i*5), what))
				s.Reset(context.Background(), s.now, "a.example", "root")
				s.send(20)
			}
		})
	}
}

// Where mail over the limit is dropped, what sendmail was given is dropped at
// the router, a recipient at a time: the others go out.
func TestDiscardOfALocalMessage(t *testing.T) {
	s := newSite(t, limit20+"over_limit = \"discard\"\n")
	s.send(19)
	local := sidecar.Request{Stage: sidecar.StageLocal, ID: messageID(s.now), Submitter: sidecar.Submitter{Login: "bob"}, Sender: "bob@a.example",
		Recipients: "u1@far.example, u2@far.example"}
	if r := s.Ask(context.Background(), s.now, local); r.Action != sidecar.Accept || r.Charged {
		t.Fatalf("%+v", r)
	}
	local.Stage, local.Recipient = sidecar.StageRoute, "u1@far.example"
	s.want(s.Ask(context.Background(), s.now, local), sidecar.Accept, "")
	local.Recipient = "u2@far.example"
	s.want(s.Ask(context.Background(), s.now, local), sidecar.Discard, "Domain a.example has exceeded the max emails per hour (22/20 (110%)) allowed.  Message discarded. [")
	s.sent("a.example", 20)
}

func TestNobodyPaysForAnExemptDomain(t *testing.T) {
	s := newSite(t, limit20+"[limits.domain.\"a.example\"]\nexempt = true\n[limits.mailbox.\"other@a.example\"]\nexempt = false\n")
	if passed, last := s.offer(30); passed != 30 {
		t.Fatalf("%d passed, then %+v", passed, last)
	}
	s.sent("a.example", 0)
	other := authed(sidecar.StageData)
	other.Auth, other.ID, other.Recipients = "other@a.example", messageID(s.now), "u@far.example"
	s.want(s.Ask(context.Background(), s.now, other), sidecar.Accept, "")
	s.sent("a.example", 1)
	if n := s.status("").Totals.Exempt; n != 30 {
		t.Errorf("%d exempt, want 30", n)
	}
	// The log adds nothing, and a hand stops it all the same.
	s.Record(context.Background(), s.now, []logline.Entry{{Kind: logline.Arrived, ID: "1xUzSN-0005dd-0q", At: s.now,
		Arrival: logline.Arrival{Sender: "news@a.example", Auth: "news@a.example", ClientAddress: "192.0.2.1"}}})
	s.Record(context.Background(), s.now, []logline.Entry{{Kind: logline.Delivered, ID: "1xUzSN-0005dd-0q", At: s.now, Attempt: logline.Attempt{Recipient: "x@far.example"}}})
	s.sent("a.example", 1)
	if _, err := s.Lock(context.Background(), s.now, "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.want(s.rcpt("u@far.example", 0), sidecar.Defer, "Domain a.example is locked.")
}

// A watched limit leaves room for all, and where another one refuses beside it,
// that one speaks.
func TestAWatchedLimitIsNoHintAndDoesNotSpeak(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 6\n[limits.mailbox.\"news@a.example\"]\nhourly = 3\nmode = \"watch\"\n[limits.domain.\"a.example\"]\nmode = \"enforce\"\n")
	s.send(3)
	if r := s.rcpt("u@far.example", 0); r.Action != sidecar.Accept || r.Room != 3 {
		t.Errorf("%+v, want room for the 3 that the domain has", r)
	}
	s.send(3)
	s.want(s.rcpt("v@far.example", 0), sidecar.Defer, "Domain a.example has exceeded the max emails per hour (7/6 (116%)) allowed.")
}
