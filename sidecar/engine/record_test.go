package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/logline"
	"sluice/sidecar/operator"
)

// log tells a site one line of its log.
func (s *site) tell(e logline.Entry) {
	s.t.Helper()
	if e.At.IsZero() {
		e.At = s.now
	}
	e.Line = fmt.Sprint(e)
	s.Record(context.Background(), s.now, []logline.Entry{e})
}

// arrived tells of a message of news@DOMAIN that nobody had asked about.
func (s *site) arrived(domain string) (id string) {
	s.ids++
	id = fmt.Sprintf("%s-%06d-0q", messageID(s.now)[:6], s.ids)
	s.tell(logline.Entry{Kind: logline.Arrived, ID: id, Arrival: logline.Arrival{Sender: "news@" + domain, Auth: "news@" + domain, ClientAddress: "192.0.2.1"}})
	return id
}

const (
	greylisted = "SMTP error from remote mail server after RCPT TO:<x@far.example>: 450 4.2.0 greylisted, try again later"
	noSuchUser = "SMTP error from remote mail server after RCPT TO:<x@far.example>: 550 5.1.1 no such user"
	refused    = "Connection refused"
)

func (s *site) deferred(id, to, text string) {
	s.tell(logline.Entry{Kind: logline.Deferred, ID: id, Attempt: logline.Attempt{Recipient: to, Router: "dnslookup", Transport: "remote_smtp", Text: text}})
}

func (s *site) failed(id, to, text string) {
	s.tell(logline.Entry{Kind: logline.Failed, ID: id, Attempt: logline.Attempt{Recipient: to, Router: "dnslookup", Transport: "remote_smtp", Text: text}})
}

func (s *site) gotThrough(id, to string) {
	s.tell(logline.Entry{Kind: logline.Delivered, ID: id, Attempt: logline.Attempt{Recipient: to, Router: "dnslookup", Transport: "remote_smtp"}})
}

// outcomes is the status of one domain; of one that is not known, the zero value.
func (s *site) outcomes(domain string) operator.DomainStatus {
	st, err := s.Status(context.Background(), s.now, domain)
	if err != nil || len(st.Domains) == 0 {
		return operator.DomainStatus{}
	}
	return st.Domains[0]
}

// counted is what is counted of a subject in the window of hourly limits.
func (s *site) counted(subject string) ratelimit.Counts {
	for _, w := range s.store.Standing(s.now, subject).Windows {
		return w.Counts
	}
	return ratelimit.Counts{}
}

func (s *site) wantOutcomes(domain string, sent, delivered, deferred, failed int64) {
	s.t.Helper()
	d := s.outcomes(domain)
	if got, want := [4]int64{d.Sent, d.Delivered, d.Deferred, d.Failed}, [4]int64{sent, delivered, deferred, failed}; got != want {
		s.t.Errorf("%s: sent, delivered, deferred, failed are %v, want %v", domain, got, want)
	}
}

// outcomes: [limits] of the tests below, with a window that the loops need not
// wait for.
const quarter = "[limits]\nhourly = 1000\ndeferfail_percent = 25\ndeferfail_min = 5\n"

func (s *site) tripped(domain string) bool {
	r := authed(sidecar.StageRcpt)
	r.Sender, r.Auth, r.Recipient = "news@"+domain, "news@"+domain, "x@far.example"
	return s.Ask(context.Background(), s.now, r).Action != sidecar.Accept
}

// settle waits until the loops have looked at what was told.
func (s *site) wantTripped(domain string, want bool) {
	s.t.Helper()
	_, err := os.Stat(s.lockPath("max_deferfail_" + domain))
	if !want && (s.tripped(domain) || err == nil) {
		s.t.Errorf("%s is refused: %+v", domain, s.outcomes(domain))
	} else if want {
		s.eventually(domain+" is refused", func() bool { return s.tripped(domain) })
		s.eventually("its lock", func() bool { return s.content("max_deferfail_"+domain) != "" })
	}
}

func running(t *testing.T, config string) *site {
	s := newSite(t, config)
	s.now = time.Now()
	s.run()
	return s
}

// Greylisting and forwards trip it, operators say of what they have today.
func TestGreylistingAndForwardsTripIt(t *testing.T) {
	s := running(t, quarter)
	var waiting []string
	for range 50 {
		waiting = append(waiting, s.arrived("a.example"))
	}
	for _, id := range waiting[:4] { // never as many at once as would trip
		s.deferred(id, "x@far.example", greylisted)
		s.gotThrough(id, "x@far.example")
	}
	for _, id := range waiting[4:] {
		s.gotThrough(id, "x@far.example")
	}
	s.wantOutcomes("a.example", 50, 50, 0, 0)
	s.wantTripped("a.example", false)

	// Mail from elsewhere to an address here that is forwarded: greylisted, then taken.
	for n := range 12 {
		id := s.arrived("else.example")
		s.tell(logline.Entry{Kind: logline.Arrived, ID: id, Arrival: logline.Arrival{Sender: "who@else.example", ClientAddress: "192.0.2.9"}})
		forward := logline.Entry{Kind: logline.Deferred, ID: id, Attempt: logline.Attempt{Recipient: fmt.Sprintf("x%d@far.example", n), Original: "bob@local.example", Router: "dnslookup", Transport: "remote_smtp", Text: greylisted}}
		s.tell(forward)
		forward.Kind, forward.Text = logline.Delivered, ""
		s.tell(forward)
	}
	if got := s.counted("forward:local.example"); got.Sent != 12 || got.Delivered != 12 || got.Bad() != 0 {
		t.Errorf("forwards: %+v", got)
	}
	s.wantTripped("local.example", false)
}

func TestQueueRetriesAloneTripIt(t *testing.T) {
	s := running(t, quarter)
	id := s.arrived("a.example")
	for range 20 {
		s.deferred(id, "x@dead.example", refused)
		s.deferred(id, "x@dead.example", "retry time not reached for any host for 'dead.example'")
	}
	s.wantOutcomes("a.example", 1, 0, 1, 0)
	s.failed(id, "x@dead.example", "retry timeout exceeded")
	s.wantOutcomes("a.example", 1, 0, 0, 1)
	s.wantTripped("a.example", false)
	if d := s.outcomes("a.example"); len(d.Causes) != 1 || d.Causes[0].Cause != sidecar.Unreachable || d.Causes[0].Count != 1 {
		t.Errorf("causes %+v", d.Causes)
	}
}

func TestFiveBadAddressesOfFiveAre100Percent(t *testing.T) {
	s := running(t, quarter)
	bad := func(n int) {
		for range n {
			s.failed(s.arrived("a.example"), "x@far.example", noSuchUser)
		}
	}
	bad(4) // 4 of 4, below deferfail_min
	s.wantTripped("a.example", false)
	for range 6 {
		s.gotThrough(s.arrived("a.example"), "x@far.example")
	}
	s.wantTripped("a.example", false)
	bad(1) // 5 of 11
	s.wantTripped("a.example", true)
	if got := s.content("max_deferfail_a.example"); !strings.HasPrefix(got, "5/5 (45%)") {
		t.Errorf("lock %q", got)
	}
	r := authed(sidecar.StageRcpt)
	r.Recipient = "x@far.example"
	want := "Domain a.example has exceeded the max defers and failures per hour (5/5 (45%)) allowed. Message discarded."
	if got := s.Ask(context.Background(), s.now, r); got.Action != sidecar.Reject || !strings.HasPrefix(got.Text, want+" [") {
		t.Errorf("%+v", got)
	}
	r.Stage, r.ID = sidecar.StageRoute, messageID(s.now)
	want = "Domain a.example has exceeded the max defers and failures per hour (5/5 (45%)) allowed. Message will be reattempted later"
	if got := s.Ask(context.Background(), s.now, r); got.Action != sidecar.Defer || !strings.HasPrefix(got.Text, want+" [") {
		t.Errorf("%+v", got)
	}
}

// All 200 are charged before any of them has an outcome, as at SMTP time.
func TestFiveOfTwoHundredDoNotTripInAnyOrder(t *testing.T) {
	order := rand.New(rand.NewPCG(1, 200)).Perm(200)
	for name, bad := range map[string]func(i int) bool{
		"first":    func(i int) bool { return i < 5 },
		"last":     func(i int) bool { return i >= 195 },
		"spread":   func(i int) bool { return i%40 == 39 },
		"shuffled": func(i int) bool { return order[i] < 5 },
	} {
		t.Run(name, func(t *testing.T) {
			s := running(t, quarter)
			s.send(200)
			n := s.ids
			id := fmt.Sprintf("1xUzSN-%06d-0q", n)
			s.tell(logline.Entry{Kind: logline.Arrived, ID: id, Arrival: logline.Arrival{Sender: "news@a.example", Auth: "news@a.example", ClientAddress: "192.0.2.1"}})
			for i := range 200 {
				to := fmt.Sprintf("u%d-%d@far.example", n, i)
				if !bad(i) {
					s.gotThrough(id, to)
					continue
				}
				s.failed(id, to, noSuchUser)
				s.wantTripped("a.example", false)
			}
			s.wantOutcomes("a.example", 200, 195, 0, 5)
			s.wantTripped("a.example", false)
		})
	}
}

// What was refused or held by a limiter, what is local and what nobody attempted
// are no outcomes.
func TestOurOwnRefusalsAddNothing(t *testing.T) {
	s := running(t, quarter)
	id := s.arrived("a.example")
	for _, e := range []logline.Entry{
		{Kind: logline.Deferred, Attempt: logline.Attempt{Recipient: "1xUzSN-abc@hold.sluice.invalid", Original: "x@far.example", Router: "sluice_hold", Text: "Domain a.example has"}},
		{Kind: logline.Failed, Attempt: logline.Attempt{Recipient: "x@far.example", Router: "enforce_mail_permissionsHG", Text: "Domain a.example has exceeded"}},
		{Kind: logline.Deferred, Attempt: logline.Attempt{Recipient: "x@far.example", Text: "retry time not reached"}},
		{Kind: logline.Failed, Attempt: logline.Attempt{Recipient: "bob@local.example", Transport: "remote_smtp", Text: "mailbox full"}},
		{Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "x@far.example", Transport: "local_delivery"}},
		{Kind: logline.Failed, Attempt: logline.Attempt{Recipient: "|/bin/false", Original: "p@local.example", Transport: "address_pipe"}},
	} {
		e.ID = id
		s.tell(e)
	}
	s.wantOutcomes("a.example", 0, 0, 0, 0)
}

// A send that was charged over the socket, one that was not, and both told again.
func TestReadingAgainChangesNothing(t *testing.T) {
	s := running(t, quarter)
	s.send(2)
	n := s.ids
	id := fmt.Sprintf("1xUzSN-%06d-0q", n)
	lines := func() {
		s.tell(logline.Entry{Kind: logline.Arrived, ID: id, Arrival: logline.Arrival{Sender: "news@a.example", Auth: "news@a.example", ClientAddress: "192.0.2.1"}})
		s.gotThrough(id, fmt.Sprintf("U%d-0@Far.example", n)) // the log's case is not the client's
		s.deferred(id, fmt.Sprintf("u%d-1@far.example", n), refused)
	}
	late := s.arrived("a.example")
	for range 3 {
		lines()
		s.failed(late, "y@far.example", noSuchUser)
		s.deferred(late, "y@far.example", refused)
	}
	s.wantOutcomes("a.example", 3, 1, 1, 1)
	if err := s.Checkpoint(s.now, []byte(`{"at":1}`)); err != nil {
		t.Fatal(err)
	}
}

// An old part of the log is read again, when its sends have left all windows.
func TestReadingAgainBehindTheWindowsChangesNothing(t *testing.T) {
	s := newSite(t, quarter+"daily = 5000\n")
	s.now = time.Now()
	began, old, recent := s.now, s.arrived("a.example"), ""
	lines := func() {
		for _, e := range []logline.Entry{
			{Kind: logline.Arrived, Arrival: logline.Arrival{Sender: "news@a.example", Auth: "news@a.example", ClientAddress: "192.0.2.1"}},
			{Kind: logline.Deferred, Attempt: logline.Attempt{Recipient: "x@far.example", Transport: "remote_smtp", Text: refused}},
			{Kind: logline.Failed, Attempt: logline.Attempt{Recipient: "x@far.example", Transport: "remote_smtp", Text: noSuchUser}},
			{Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "y@far.example", Transport: "remote_smtp"}},
			{Kind: logline.Completed},
		} {
			e.ID, e.At = old, began
			s.tell(e)
		}
	}
	day := func() (sent int64) {
		for _, w := range s.outcomes("a.example").Windows {
			sent = max(sent, w.Sent)
		}
		return sent
	}
	lines()
	s.wantOutcomes("a.example", 2, 1, 0, 1)
	s.now = began.Add(90 * time.Minute) // out of the hour, not of the day
	recent = s.arrived("a.example")
	s.gotThrough(recent, "z@far.example")
	lines()
	s.wantOutcomes("a.example", 1, 1, 0, 0)
	if sent := day(); sent != 3 {
		t.Errorf("%d sent in the day, want 3", sent)
	}
	s.now = began.Add(25 * time.Hour) // out of both
	recent = s.arrived("a.example")
	s.gotThrough(recent, "z@far.example")
	lines()
	s.restart()
	lines()
	s.wantOutcomes("a.example", 1, 1, 0, 0)
	if sent := day(); sent != 2 {
		t.Errorf("%d sent in the day, want 2", sent)
	}
}

func TestOutcomesAndArrivalsSurviveARestart(t *testing.T) {
	s := newSite(t, quarter)
	s.now = time.Now()
	id := s.arrived("a.example")
	s.deferred(id, "x@far.example", greylisted)
	if err := s.Checkpoint(s.now, []byte("here")); err != nil {
		t.Fatal(err)
	}
	s.Reconcile(context.Background(), s.now) // saves why, within ten seconds
	s.restart()
	if got := string(s.Position()); got != "here" {
		t.Errorf("position %q", got)
	}
	if d := s.outcomes("a.example"); len(d.Causes) != 1 || d.Causes[0].Cause != sidecar.Greylist {
		t.Errorf("causes %+v", d.Causes)
	}
	s.failed(id, "second@far.example", noSuchUser) // charged to whom the arrival named
	s.gotThrough(id, "x@far.example")
	s.wantOutcomes("a.example", 2, 1, 0, 1)
}

// Cutthrough deliveries are logged before their arrival.
func TestADeliveryBeforeItsArrival(t *testing.T) {
	s := newSite(t, quarter)
	s.now = time.Now()
	id := messageID(s.now)
	s.gotThrough(id, "x@far.example")
	s.wantOutcomes("a.example", 0, 0, 0, 0)
	s.tell(logline.Entry{Kind: logline.Arrived, ID: id, Arrival: logline.Arrival{Sender: "news@a.example", Auth: "news@a.example", ClientAddress: "192.0.2.1"}})
	s.wantOutcomes("a.example", 1, 1, 0, 0)
}

// A provider's outage must not lock innocents.
func TestAProvidersOutageLocksNobody(t *testing.T) {
	s := running(t, quarter)
	for _, domain := range []string{"b.example", "c.example", "a.example"} {
		for range 4 {
			s.deferred(s.arrived(domain), "x@big.example", refused)
		}
	}
	for range 6 {
		s.deferred(s.arrived("a.example"), "x@big.example", refused)
	}
	s.eventually("left out", func() bool { return len(s.outcomes("a.example").LeftOut) > 0 })
	s.wantTripped("a.example", false)
	if l := s.outcomes("a.example").LeftOut[0]; l.Destination != "big.example" || l.Cause != sidecar.Unreachable {
		t.Errorf("%+v", l)
	}
	// Failures elsewhere are its own.
	for range 8 {
		s.failed(s.arrived("a.example"), "x@far.example", noSuchUser)
	}
	s.wantTripped("a.example", true)
}

func TestIgnoredCausesAreShownAndNotHeldAgainstADomain(t *testing.T) {
	s := running(t, quarter+"deferfail_ignore = [\"greylist\"]\n")
	for range 10 {
		s.deferred(s.arrived("a.example"), "x@far.example", greylisted)
	}
	s.wantOutcomes("a.example", 10, 0, 10, 0)
	s.wantTripped("a.example", false)
	if d := s.outcomes("a.example"); d.DeferfailNow != 0 || len(d.LeftOut) != 1 || d.LeftOut[0].Count != 10 {
		t.Errorf("%+v", d)
	}
}

// An operator's hand wins: it resets outcomes too.
func TestRemovingMaxDeferfailReleases(t *testing.T) {
	s := running(t, quarter)
	for range 5 {
		s.failed(s.arrived("a.example"), "x@far.example", noSuchUser)
	}
	s.wantTripped("a.example", true)
	if err := os.Remove(s.lockPath("max_deferfail_a.example")); err != nil {
		t.Fatal(err)
	}
	s.eventually("release", func() bool { return !s.tripped("a.example") })
	s.wantOutcomes("a.example", 0, 0, 0, 0)
}

// A hand that removes a lock of before a reset means the counts that it stood
// for: what has tripped since stays so.
func TestAStaleHandEndsNoLaterTrip(t *testing.T) {
	s := running(t, quarter)
	s.send(1)
	if err := s.Reset(context.Background(), s.now, "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(3 * time.Second)
	for range 5 {
		s.failed(s.arrived("a.example"), "x@far.example", noSuchUser)
	}
	s.wantTripped("a.example", true)
	old := lockfile.File{Lock: lockfile.Lock{Kind: lockfile.Hourly, Domain: "a.example"}}
	s.LockEvent(context.Background(), s.now, lockfile.Event{Kind: lockfile.RemovedByHand, File: old})
	s.wantTripped("a.example", true)
	s.wantOutcomes("a.example", 5, 0, 0, 5)
}

// A hold outlives the hour, operators say: ours ends when the bad ones have left
// the window.
func TestAHoldOutlivesTheHour(t *testing.T) {
	s := ago(t, "[limits]\nhourly = 1000\n")
	for range 5 {
		s.failed(s.arrived("a.example"), "x@far.example", noSuchUser)
	}
	s.Reconcile(t.Context(), s.now)
	s.wantTripped("a.example", true)
	s.run()
	s.eventually("release", func() bool { s.now = time.Now(); return !s.tripped("a.example") })
	s.eventually("no lock", func() bool { return s.content("max_deferfail_a.example") == "" })
}

// A client closes its connection when it has sent a message, and before it has the answer: Exim
// drops the message, and the client sends it again. Only what is not dropped is a send.
func TestWhatIsLostBeforeItsAnswerIsNoSend(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 3\n")
	id := func() string { return fmt.Sprintf("1xUzSN-%06d-0q", s.ids) } // of the last one
	for range 3 {
		s.want(s.send(3), sidecar.Accept, "")
		s.sent("a.example", 3)
		s.tell(logline.Entry{Kind: logline.Lost, ID: id()})
		s.sent("a.example", 0)
	}
	s.want(s.send(3), sidecar.Accept, "")
	s.tell(logline.Entry{Kind: logline.Lost, ID: "1xUzSN-000001-0q"}) // read again
	s.tell(logline.Entry{Kind: logline.Arrived, ID: id(), Arrival: logline.Arrival{Sender: "news@a.example", Auth: "news@a.example"}})
	s.tell(logline.Entry{Kind: logline.Lost, ID: id()}) // cannot be
	s.sent("a.example", 3)
	s.want(s.send(1), sidecar.Defer, "Domain a.example has exceeded")
}
