package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
)

// Who is named in refusals, and to whom:
//
//	hacked@a.example ─ 18 ─┐
//	info@a.example   ─  2 ─┴─→ 20 of 20: everybody of a.example is refused

// hacked has one mailbox of a domain use up its limit, and a colleague send twice.
func hacked(s *site, domain string) {
	s.t.Helper()
	s.sendAs("info@" + domain)
	s.sendAs("info@" + domain)
	for range 18 {
		s.want(s.sendAs("hacked@"+domain), sidecar.Accept, "")
	}
	s.Step(s.t.Context(), s.now)
}

const isNamed = "; mostly hacked@a.example, 18 of 2"

// The mailbox that is refused is told which other one of its domain it was; all others are
// told what they were told before, and Exim's log has it.
func TestRefusalsNameTheCulprit(t *testing.T) {
	for name, c := range map[string]struct {
		from         sidecar.Request
		owners       bool
		told, logged bool
	}{
		"a colleague":       {from: sidecar.Request{Sender: "info@a.example", Submitter: sidecar.Submitter{Auth: "info@a.example", ClientAddress: "192.0.2.1"}}, told: true, logged: true},
		"a relay":           {from: sidecar.Request{Sender: "x@a.example", Submitter: sidecar.Submitter{ClientAddress: "198.51.100.7"}}, logged: true},
		"a login":           {from: sidecar.Request{Sender: "x@a.example", Submitter: sidecar.Submitter{Auth: "bob", ClientAddress: "192.0.2.1"}}, logged: true},
		"who says so":       {from: sidecar.Request{Sender: "x@a.example", Submitter: sidecar.Submitter{Login: "eve", CWD: "/home/eve"}}},
		"a script of bob's": {from: sidecar.Request{Sender: "x@a.example", Submitter: sidecar.Submitter{Login: "bob", CWD: "/home/bob/www"}}, owners: true, logged: true},
	} {
		t.Run(name, func(t *testing.T) {
			const config = "[identity]\nrelay = [\"198.51.100.7\"]\n" + limit20
			s := newSite(t, config)
			if c.owners {
				s = ownedSite(t, map[string]string{"a.example": "bob"})
				s.set("a.example", "hourly=20")
			}
			hacked(s, "a.example")
			r := c.from
			r.Stage, r.ID, r.Recipient = sidecar.StageRoute, messageID(s.now), "u@far.example"
			if c.told {
				r.Stage = sidecar.StageRcpt
			}
			got := s.Ask(t.Context(), s.now, r)
			s.want(got, sidecar.Defer, "Domain a.example has exceeded the max emails per hour (21/20 (105%)) allowed.  Message will be reattempted later [")
			logged := got.Text
			if got.Log != "" {
				logged = got.Log
			}
			if strings.Contains(got.Text, isNamed) != c.told || strings.Contains(logged, isNamed) != c.logged || !c.told && strings.Contains(got.Text, "hacked") {
				t.Errorf("told %q, logged %q", got.Text, got.Log)
			}
		})
	}
}

// A trip names whose mail has failed, who need not be who has sent most. Greylisting and the
// like name nobody.
func TestATripNamesWhoseMailHasFailed(t *testing.T) {
	s := newSite(t, "[limits]\ndeferfail_min = 4\ndeferfail_percent = 25\n")
	for range 5 {
		s.sendAs("info@a.example")
	}
	for range 4 {
		s.sendAs("hacked@a.example")
		id := fmt.Sprintf("1xUzSN-%06d-0q", s.ids)
		s.tell(logline.Entry{Kind: logline.Arrived, ID: id, Arrival: logline.Arrival{Sender: "hacked@a.example", Auth: "hacked@a.example", ClientAddress: "192.0.2.1"}})
		s.failed(id, fmt.Sprintf("u%d@far.example", s.ids), noSuchUser)
	}
	s.Step(t.Context(), s.now)
	got := s.rcpt("u@far.example", 0)
	s.want(got, sidecar.Reject, "Domain a.example has exceeded the max defers and failures per hour (4/4 (44%)) allowed. Message discarded. [")
	if !strings.Contains(got.Text, "; mostly hacked@a.example, 4 of 4;") {
		t.Errorf("told %q", got.Text)
	}
	wantLogged(t, &s.log, `culprit=hacked@a.example culprit_sends="4 of 4"`)
}

// Operators are told who it was; lock files, which every user of the host can read, are not.
func TestEventsNameTheCulpritAndLockFilesDoNot(t *testing.T) {
	s := newSite(t, limit20)
	hacked(s, "a.example")
	wantLogged(t, &s.log, `sent="20/20 (100%)" culprit=hacked@a.example culprit_sends="18 of 20"`)
	if got := s.content("max_hourly_a.example"); got != "20/20 (100%)\n" && got != "20/20 (100%)" {
		t.Errorf("the lock file has %q", got)
	}
}

func wantLogged(t *testing.T, log *hosttest.Log, text string) {
	t.Helper()
	if !strings.Contains(log.String(), text) {
		t.Errorf("the log has no %s:\n%s", text, log.String())
	}
}
