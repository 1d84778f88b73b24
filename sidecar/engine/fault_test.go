package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/logline"
)

// Whose fault it is that mail is deferred or fails: what others share is held against
// nobody, and what is a sender's own stays the sender's.

const (
	tryAgain = "SMTP error from remote mail server after RCPT TO:<x@far.example>: 450 4.7.1 try again later"
	looksBad = "SMTP error from remote mail server after end of data: 550 5.7.1 this looks like spam"
	blocked  = "SMTP error from remote mail server after initial connection: 554 5.7.1 you are blocked"
	noLookup = "host lookup did not complete"
)

// to tells what became of a message to a recipient, with the host of H= where there is one.
func (s *site) to(kind logline.Kind, domain, recipient, host, text string) {
	s.t.Helper()
	s.tell(logline.Entry{Kind: kind, ID: s.arrived(domain), Attempt: logline.Attempt{Recipient: recipient, Router: "dnslookup", Transport: "remote_smtp", Host: host, Text: text}})
}

// action is what a client of a domain gets at RCPT.
func (s *site) action(domain string) sidecar.Action {
	r := authed(sidecar.StageRcpt)
	r.Sender, r.Auth, r.Recipient = "x@"+domain, "x@"+domain, "y@elsewhere.example"
	return s.Ask(context.Background(), s.now, r).Action
}

// wantHeldAgainst looks after what was told how many bad sends are held against a domain, of
// how many that are left out, and whether it is tripped.
func (s *site) wantHeldAgainst(domain string, bad, leftOut int64, action sidecar.Action) {
	s.t.Helper()
	s.Reconcile(context.Background(), s.now)
	d := s.outcomes(domain)
	var out int64
	for _, l := range d.LeftOut {
		out += l.Count
	}
	if got := d.Deferred + d.Failed - out; got != bad || out != leftOut {
		s.t.Errorf("%s: %d held against it and %d left out, want %d and %d: %+v", domain, got, out, bad, leftOut, d)
	}
	if got := s.action(domain); got != action {
		s.t.Errorf("%s is answered %d, want %d: %+v", domain, got, action, d)
	}
	if locked := s.content("max_deferfail_"+domain) != ""; locked != (action != sidecar.Accept) {
		s.t.Errorf("%s has a lock: %v", domain, locked)
	}
}

// ownedSite is a site with an owner map: the account of each domain. more is of its table identity.
func ownedSite(t *testing.T, owners map[string]string, more ...string) *site {
	t.Helper()
	file := filepath.Join(t.TempDir(), "userdomains")
	var text strings.Builder
	for domain, account := range owners {
		fmt.Fprintf(&text, "%s: %s\n", domain, account)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return newSite(t, quarter+fmt.Sprintf("[identity]\nowners = %q\nmain_domains = %q\n%s", file, file+".main", strings.Join(more, "\n")))
}

// one relay host answers 450 to five tenants, each with five recipients at domains of
// their own. The first ones trip until the others show that it is not their fault.
func TestASmarthostThatDefersEverybodyLocksNobody(t *testing.T) {
	s := newSite(t, quarter)
	for u := 1; u <= 5; u++ {
		for n := range 5 {
			s.to(logline.Deferred, fmt.Sprintf("u%d.example", u), fmt.Sprintf("a@u%d-%d.example", u, n), "relay.provider.example", tryAgain)
			s.Reconcile(t.Context(), s.now)
		}
		if u == 1 {
			s.wantHeldAgainst("u1.example", 5, 0, sidecar.Defer)
		}
	}
	for u := 1; u <= 5; u++ {
		domain := fmt.Sprintf("u%d.example", u)
		s.wantHeldAgainst(domain, 0, 5, sidecar.Accept)
		if l := s.outcomes(domain).LeftOut; len(l) != 1 || l[0].Destination != "relay.provider.example" || l[0].Cause != sidecar.RemoteDefer {
			t.Errorf("%s: %+v", domain, l)
		}
	}
	if told := s.log.String(); !strings.Contains(told, "the defers and failures are a fault that others have too, domain released\" domain=u1.example") {
		t.Error(told)
	}
}

// sends has each of these domains deliver something somewhere, so that they are known.
func (s *site) sends(domains ...string) {
	for _, domain := range domains {
		s.to(logline.Delivered, domain, "x@elsewhere.example", "mx.elsewhere.example", "")
	}
	s.now = s.now.Add(time.Second)
}

// What gets no answer is left out where two other accounts get none either: at a host, at a
// domain, or anywhere at all while nothing is delivered.
func TestNoAnswer(t *testing.T) {
	own := func(u, n int) string { return fmt.Sprintf("x@d%d-%d.example", u, n) }
	for name, at := range map[string]struct {
		host, text string
		to         func(u, n int) string
	}{
		"a host of many domains": {"mx.big.example", "(110): Connection timed out H=mx.big.example [192.0.2.1]: SMTP timeout after initial connection", own},
		"a domain":               {"", refused, func(int, int) string { return "x@big.example" }},
		"the resolver":           {"", noLookup, own},
		"a transport":            {"", "Child process of remote_smtp transport (running command) was terminated by signal 9", own},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, quarter)
			s.sends("u1.example", "u2.example", "u3.example")
			for u := 1; u <= 3; u++ {
				for n := range 5 {
					s.to(logline.Deferred, fmt.Sprintf("u%d.example", u), at.to(u, n), at.host, at.text)
				}
				if u < 3 {
					s.wantHeldAgainst("u1.example", 5, 0, sidecar.Defer)
				}
			}
			for u := 1; u <= 3; u++ {
				s.wantHeldAgainst(fmt.Sprintf("u%d.example", u), 0, 5, sidecar.Accept)
			}
		})
	}
}

// Where fewer than three accounts have sent in the last days, and the owner map has no more,
// all there are must get no answer.
func TestNoAnswerOnASmallHost(t *testing.T) {
	s := newSite(t, quarter)
	for range 5 {
		s.to(logline.Deferred, "u1.example", "x@big.example", "", refused)
	}
	s.wantHeldAgainst("u1.example", 0, 5, sidecar.Accept)
	s.sends("u2.example")
	for range 6 {
		s.to(logline.Deferred, "u1.example", "x@other.example", "", refused)
	}
	s.wantHeldAgainst("u1.example", 6, 5, sidecar.Defer)
	s.to(logline.Deferred, "u2.example", "x@other.example", "", refused)
	s.wantHeldAgainst("u1.example", 0, 11, sidecar.Accept)

	s = ownedSite(t, map[string]string{"u1.example": "u1", "u2.example": "u2", "u3.example": "u3"})
	for range 5 {
		s.to(logline.Deferred, "u1.example", "x@big.example", "", refused)
	}
	s.wantHeldAgainst("u1.example", 5, 0, sidecar.Defer)
}

// An address or a domain that does not exist is the sender's own fault, whoever else has it.
func TestAddressesThatDoNotExistAreNobodyElsesFault(t *testing.T) {
	s := newSite(t, quarter)
	for u := range 4 {
		for n := range 5 {
			text := []string{noSuchUser, "Unrouteable address", "all relevant MX records point to non-existent hosts"}[n%3]
			s.to(logline.Failed, fmt.Sprintf("u%d.example", u), "x@big.example", "", text)
		}
	}
	for u := range 4 {
		s.wantHeldAgainst(fmt.Sprintf("u%d.example", u), 5, 0, sidecar.Reject)
	}
}

// The senders behind a relay may name any domain that is no tenant's: three of those are no
// three accounts, and do not excuse each other.
func TestTheDomainsBehindARelayExcuseNobody(t *testing.T) {
	s := ownedSite(t, map[string]string{"u1.example": "u1", "u2.example": "u2", "u3.example": "u3"}, `relay = ["192.0.2.0/24"]`)
	for u := 1; u <= 3; u++ {
		for n := range 5 {
			id := fmt.Sprintf("%s-%06d-0q", messageID(s.now)[:6], 10*u+n)
			s.tell(logline.Entry{Kind: logline.Arrived, ID: id, Arrival: logline.Arrival{Sender: fmt.Sprintf("x@made%d.example", u), ClientAddress: "192.0.2.7"}})
			s.tell(logline.Entry{Kind: logline.Deferred, ID: id, Attempt: logline.Attempt{Recipient: "x@dead.example", Router: "dnslookup", Transport: "remote_smtp", Text: refused}})
		}
	}
	for u := 1; u <= 3; u++ {
		s.wantHeldAgainst(fmt.Sprintf("made%d.example", u), 5, 0, sidecar.Defer)
	}
}

// Three addon domains are one tenant: what all of them get is no fault of others.
func TestThreeDomainsOfOneAccountExcuseNobody(t *testing.T) {
	s := ownedSite(t, map[string]string{"s1.example": "sam", "s2.example": "sam", "s3.example": "sam", "u1.example": "u1", "u2.example": "u2", "u3.example": "u3"})
	for u := 1; u <= 3; u++ {
		for range 5 {
			s.to(logline.Deferred, fmt.Sprintf("s%d.example", u), "x@dead.example", "", refused)
			s.to(logline.Failed, fmt.Sprintf("s%d.example", u), "x@big.example", "mx.big.example", looksBad)
		}
	}
	for u := 1; u <= 3; u++ {
		s.wantHeldAgainst(fmt.Sprintf("s%d.example", u), 10, 0, sidecar.Defer)
	}
}

// A spammer gets this host blocked at a large provider. The others are excused by that, and
// he is not: he makes more than half of what is bad there.
func TestWhoGotTheHostBlockedIsNotExcusedByThat(t *testing.T) {
	s := newSite(t, quarter)
	for range 20 {
		s.to(logline.Failed, "sam.example", "x@big.example", "mx.big.example", blocked)
	}
	for u := 1; u <= 3; u++ {
		for range 5 {
			s.to(logline.Failed, fmt.Sprintf("u%d.example", u), "y@big.example", "mx.big.example", blocked)
		}
	}
	for u := 1; u <= 3; u++ {
		s.wantHeldAgainst(fmt.Sprintf("u%d.example", u), 0, 5, sidecar.Accept)
	}
	s.wantHeldAgainst("sam.example", 20, 0, sidecar.Reject)
}

// Where a host takes the mail of most and refuses that of two spammers, it is their fault,
// and what it refuses of others is theirs.
func TestInnocentsBesideASpammer(t *testing.T) {
	s := newSite(t, quarter)
	for n := range 60 {
		s.to(logline.Failed, []string{"sam.example", "tom.example"}[n%2], "x@big.example", "mx.big.example", looksBad)
		s.to(logline.Delivered, fmt.Sprintf("u%d.example", n%3), "y@big.example", "mx.big.example", "")
	}
	for n := range 3 {
		s.wantHeldAgainst(fmt.Sprintf("u%d.example", n), 0, 0, sidecar.Accept)
	}
	s.wantHeldAgainst("sam.example", 30, 0, sidecar.Reject)
	s.wantHeldAgainst("tom.example", 30, 0, sidecar.Reject)
}

// Greylisting defers the first messages of a new host, and trips nobody.
func TestGreylistingOfANewHostTripsNobody(t *testing.T) {
	s := newSite(t, quarter)
	for n := range 8 {
		s.to(logline.Deferred, "u1.example", fmt.Sprintf("x@d%d.example", n), fmt.Sprintf("mx.d%d.example", n), greylisted)
		s.wantHeldAgainst("u1.example", 0, int64(n+1), sidecar.Accept)
	}
}

// What was found out survives a restart.
func TestFaultsOfOthersSurviveARestart(t *testing.T) {
	s := newSite(t, quarter)
	s.sends("u1.example", "u2.example", "u3.example", "u4.example", "u5.example", "u6.example")
	for n := range 5 {
		for u := 1; u <= 2; u++ {
			s.to(logline.Deferred, fmt.Sprintf("u%d.example", u), fmt.Sprintf("x@d%d.example", n), "relay.example", "Connection timed out")
			s.to(logline.Deferred, fmt.Sprintf("u%d.example", u+3), fmt.Sprintf("x@d%d.example", n), "relay2.example", tryAgain)
		}
	}
	for _, domain := range []string{"u1.example", "u2.example", "u4.example", "u5.example"} {
		s.wantHeldAgainst(domain, 5, 0, sidecar.Defer)
	}
	s.now = s.now.Add(11 * time.Second) // by then it is saved
	s.Reconcile(t.Context(), s.now)
	s.restart()
	for range 2 {
		s.to(logline.Deferred, "u3.example", "x@d9.example", "relay.example", "Connection timed out")
		s.to(logline.Deferred, "u6.example", "x@d9.example", "relay2.example", tryAgain)
	}
	for _, domain := range []string{"u1.example", "u2.example", "u4.example", "u5.example"} {
		s.wantHeldAgainst(domain, 0, 5, sidecar.Accept)
	}
}

// What is held against somebody is looked at again though nothing of his own is new.
func TestWhatOthersHaveLaterExplainsWhatWasBefore(t *testing.T) {
	s := newSite(t, quarter)
	s.sends("u1.example", "u2.example", "u3.example")
	for n := 1; n <= 3; n++ {
		s.to(logline.Deferred, fmt.Sprintf("u%d.example", n), "x@big.example", "", refused)
		s.wantHeldAgainst("u1.example", 1, 0, sidecar.Accept)
	}
	s.ShowUsage(s.now) // every ten seconds
	s.wantHeldAgainst("u1.example", 0, 1, sidecar.Accept)
}

// A success in between ends an outage: what was before it and what comes behind it are no
// common fault.
func TestASuccessThereEndsAnOutage(t *testing.T) {
	s := newSite(t, quarter)
	fail := func(domain string, n int) {
		for range n {
			s.to(logline.Deferred, domain, "x@big.example", "mx.big.example", refused)
		}
	}
	fail("u1.example", 3)
	fail("u2.example", 1)
	s.now = s.now.Add(time.Second)
	s.to(logline.Delivered, "u3.example", "x@big.example", "mx.big.example", "")
	s.now = s.now.Add(time.Second)
	fail("u3.example", 5)
	fail("u1.example", 2)
	s.wantHeldAgainst("u3.example", 5, 0, sidecar.Defer)
	s.wantHeldAgainst("u1.example", 5, 0, sidecar.Defer)
	fail("u2.example", 1) // the third account since the success
	s.wantHeldAgainst("u3.example", 0, 5, sidecar.Accept)
	s.wantHeldAgainst("u1.example", 3, 2, sidecar.Accept) // three of five of before the success
	s.wantHeldAgainst("u2.example", 1, 1, sidecar.Accept)
}
