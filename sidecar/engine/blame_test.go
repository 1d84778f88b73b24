package engine_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/logline"
	"sluice/sidecar/typed"
)

// sendsOf has mailboxes send a message each, all of which end alike.
func (s *site) sendsOf(end func(id, to, text string), text string, mailboxes ...string) {
	s.t.Helper()
	for _, mailbox := range mailboxes {
		s.ids++
		r := s.from(mailbox, sidecar.StageData, s.now.Add(time.Duration(s.ids)*time.Millisecond))
		r.ID = r.ID[:7] + strings.Repeat("0", 3) + string(rune('A'+s.ids/26%26)) + string(rune('A'+s.ids%26)) + "0-0q"
		s.ask(r)
		s.tell(logline.Entry{Kind: logline.Arrived, ID: r.ID, Arrival: logline.Arrival{Sender: mailbox, Auth: mailbox, ClientAddress: "192.0.2.1"}})
		end(r.ID, r.Recipients, text)
	}
}

func (s *site) delivers(mailboxes ...string) {
	s.sendsOf(func(id, to, _ string) { s.gotThrough(id, to) }, "", mailboxes...)
}

// newColleagues is a site of a domain with two colleagues who sent yesterday too.
func newColleagues(t *testing.T) *site {
	s := newSite(t, quarter)
	s.colleagues()
	return s
}

func (s *site) colleagues() {
	s.t.Helper()
	s.delivers("ann@a.example", "ben@a.example")
	s.now = s.now.Add(25 * time.Hour)
	s.delivers("ann@a.example", "ben@a.example", "ann@a.example", "ben@a.example")
}

func repeat(s string, n int) []string { return strings.Fields(strings.Repeat(s+" ", n)) }

// Who alone sends to addresses that do not exist is stopped alone, until that is out of the
// window, and not for what it had sent before.
func TestOnlyTheCulpritOfBadSendsIsStopped(t *testing.T) {
	s := newColleagues(t)
	s.sendsOf(s.failed, noSuchUser, repeat("eve@a.example", 10)...)
	late := s.from("eve@a.example", sidecar.StageData, s.now.Add(time.Second))
	s.want(s.ask(late), sidecar.Accept, "")
	s.tell(logline.Entry{Kind: logline.Arrived, ID: late.ID, At: s.now.Add(-time.Second), Arrival: logline.Arrival{Sender: late.Sender, Auth: late.Auth, ClientAddress: "192.0.2.1"}})
	s.Reconcile(t.Context(), s.now)
	const text = "Mailbox eve@a.example has exceeded the max defers and failures per hour (10/5 (90%)) allowed. Message will be reattempted later"
	alone := func(when string, want sidecar.Action) {
		t.Helper()
		for _, stage := range []sidecar.Stage{sidecar.StageRcpt, sidecar.StageData, sidecar.StagePostfixRcpt} {
			if got := s.ask(s.from("eve@a.example", stage, s.now.Add(time.Hour))); got.Action != want {
				t.Errorf("%s, %s: the culprit is answered %+v", when, stage, got)
			}
			s.want(s.ask(s.from("ann@a.example", stage, s.now.Add(2*time.Hour))), sidecar.Accept, "")
		}
		if _, err := os.Stat(s.lockPath("max_deferfail_a.example")); err == nil {
			t.Errorf("%s: the domain has a lock file", when)
		}
	}
	alone("stopped", sidecar.Defer)
	s.want(s.ask(s.from("eve@a.example", sidecar.StageRcpt, s.now)), sidecar.Defer, text)
	if st := s.ask(s.from("eve@a.example", sidecar.StageRcpt, s.now)).Log; !strings.Contains(st, "stopped by sluice") || !strings.Contains(st, "of all of a.example 10/5 (") {
		t.Errorf("the stop: %s", st)
	}
	s.failed(late.ID, "u@far.example", noSuchUser) // of what it had sent before
	s.Reconcile(t.Context(), s.now)
	alone("a late failure", sidecar.Defer)
	s.restart()
	alone("a restart", sidecar.Defer)
	s.now = s.now.Add(30 * time.Minute)
	s.delivers(repeat("ben@a.example", 3)...)
	s.Reconcile(t.Context(), s.now)
	alone("after half an hour", sidecar.Defer)
	s.now = s.now.Add(32 * time.Minute)
	s.Forget(s.now)
	s.Reconcile(t.Context(), s.now)
	alone("when it is out of the window", sidecar.Accept)
}

// Whoever sends alone has nobody beside it whose mail would go on: the domain trips.
func TestALoneCulpritTripsItsDomain(t *testing.T) {
	s := newSite(t, quarter)
	s.sendsOf(s.failed, noSuchUser, repeat("eve@a.example", 10)...)
	s.Reconcile(t.Context(), s.now)
	s.want(s.ask(s.from("ann@a.example", sidecar.StageRcpt, s.now)), sidecar.Reject, "Domain a.example has exceeded the max defers and failures")
}

const rejected = "SMTP error from remote mail server after RCPT TO:<x@far.example>: 550 5.7.1 rejected by policy"

// Where everybody's mail goes wrong, or for a reason that blames nobody, nobody is the culprit.
func TestNoCulpritWithoutProof(t *testing.T) {
	for text, who := range map[string]string{noSuchUser: "ann@a.example ben@a.example eve@a.example", rejected: "eve@a.example"} {
		s := newColleagues(t)
		for _, mailbox := range strings.Fields(who) {
			s.sendsOf(s.failed, text, repeat(mailbox, 9)...)
		}
		s.Reconcile(t.Context(), s.now)
		s.want(s.ask(s.from("new@a.example", sidecar.StageRcpt, s.now)), sidecar.Reject, "Domain a.example has exceeded the max defers and failures")
	}
}

// A command of an operator outweighs what Sluice did by itself.
func TestAnOperatorStartsACulprit(t *testing.T) {
	s := newColleagues(t)
	s.sendsOf(s.failed, noSuchUser, repeat("eve@a.example", 10)...)
	s.Reconcile(t.Context(), s.now)
	s.want(s.ask(s.from("eve@a.example", sidecar.StageRcpt, s.now)), sidecar.Defer, "")
	s.start("eve@a.example", false)
	s.Reconcile(t.Context(), s.now)
	s.want(s.ask(s.from("eve@a.example", sidecar.StageRcpt, s.now)), sidecar.Accept, "")
	s.now = s.now.Add(time.Minute)
	s.sendsOf(s.failed, noSuchUser, repeat("eve@a.example", 10)...)
	s.Reconcile(t.Context(), s.now)
	s.want(s.ask(s.from("eve@a.example", sidecar.StageRcpt, s.now)), sidecar.Defer, "")
	s.want(s.ask(s.from("ann@a.example", sidecar.StageRcpt, s.now)), sidecar.Accept, "")
}

// What a culprit has sent is known to the node that has stopped it. The others let it send
// again only when all of that has left the window.
func TestOnlyTheNodeThatBlamesForgives(t *testing.T) {
	for node, wait := range map[string]time.Duration{"node1": time.Minute, "node2": 61 * time.Minute} {
		b := &awayBoard{values: map[string][]byte{}}
		s := sharing(t, b)
		s.config = parsed(t, quarter)
		s.restart()
		s.colleagues()
		since := s.now
		mark := fmt.Sprintf("%013d-ABCDEFGHIJKL", since.UnixMilli())
		stop := fmt.Sprintf(`{"mark":%q,"scope":"eve@a.example","since":%q,"cause":"deferfail","who":"sluice","node":%q,"of":"a.example"}`, mark, since.Format(time.RFC3339), node)
		if _, err := b.Post(t.Context(), "stop/"+mark, []byte(stop)); err != nil {
			t.Fatal(err)
		}
		for i, want := range []sidecar.Action{sidecar.Defer, sidecar.Accept} {
			s.now = since.Add(wait + time.Duration(i)*time.Second)
			s.Reconcile(t.Context(), s.now)
			s.want(s.ask(s.from("eve@a.example", sidecar.StageRcpt, s.now)), want, "")
		}
	}
}

// Of a domain three are stopped at most. Where a fourth sends like them it is no accident any
// more, and the domain trips.
func TestADomainOfCulpritsTrips(t *testing.T) {
	s := newColleagues(t)
	for i, eve := range []string{"eve1@a.example", "eve2@a.example", "eve3@a.example", "eve4@a.example"} {
		s.sendsOf(s.failed, noSuchUser, repeat(eve, 8<<i)...)
		s.Reconcile(t.Context(), s.now)
		if i < 3 {
			s.want(s.ask(s.from(eve, sidecar.StageRcpt, s.now)), sidecar.Defer, "Mailbox "+eve)
			s.want(s.ask(s.from("ann@a.example", sidecar.StageRcpt, s.now)), sidecar.Accept, "")
		}
	}
	s.want(s.ask(s.from("ann@a.example", sidecar.StageRcpt, s.now)), sidecar.Reject, "Domain a.example has exceeded the max defers and failures")
}

// An operator says whose mail it was: the trip of the domain ends, and what comes of the author
// is refused, until that is taken back.
func TestAnOperatorLeavesACulpritOut(t *testing.T) {
	for also, want := range map[string]sidecar.Action{"": sidecar.Accept, "ann@a.example": sidecar.Reject} {
		s := newSite(t, quarter)
		s.sendsOf(s.failed, noSuchUser, repeat("eve@a.example "+also, 10)...)
		s.Reconcile(t.Context(), s.now)
		ann, eve := s.from("ann@a.example", sidecar.StageRcpt, s.now), s.from("eve@a.example", sidecar.StageRcpt, s.now)
		s.want(s.ask(ann), sidecar.Reject, "Domain a.example has exceeded the max defers and failures")
		st, err := s.LeaveOut(t.Context(), s.now, "eve@a.example", "a.example", "bob")
		if err != nil {
			t.Fatal(err)
		}
		s.Reconcile(t.Context(), s.now)
		if s.want(s.ask(ann), want, ""); want == sidecar.Reject {
			continue // her own mail fails too
		}
		s.want(s.ask(eve), sidecar.Defer, "Mailbox eve@a.example is stopped")
		if _, err := s.LeaveOut(t.Context(), s.now, "eve@a.example", "a.example", "bob"); !errors.Is(err, typed.ErrNotFound) {
			t.Errorf("of a domain that is not tripped: %v", err)
		}
		if _, err := s.EndStop(t.Context(), s.now, "eve@a.example", st.Mark, "bob"); err != nil {
			t.Fatal(err)
		}
		s.want(s.ask(eve), sidecar.Accept, "")
		if _, err := s.EndStop(t.Context(), s.now, "eve@a.example", st.Mark, "bob"); !errors.Is(err, typed.ErrNotFound) {
			t.Errorf("a stop that is over: %v", err)
		}
	}
}
