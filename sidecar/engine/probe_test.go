package engine_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/logline"
)

// deferredAll charges a message of a.example for each recipient at SMTP, a second apart, and
// tells that all were deferred. It returns their ids.
func (s *site) deferredAll(n int, text string) (ids []string) {
	for i := range n {
		id := messageID(s.now)
		s.tell(logline.Entry{Kind: logline.Arrived, ID: id, Arrival: logline.Arrival{Sender: "news@a.example", Auth: "news@a.example", ClientAddress: "192.0.2.1"}})
		s.deferred(id, fmt.Sprintf("x%d@far%d.example", i, i), text)
		ids = append(ids, id)
		s.now = s.now.Add(time.Second)
	}
	s.Reconcile(context.Background(), s.now)
	return ids
}

// route asks about the i-th of these messages as the router does.
func (s *site) route(ids []string, i int) sidecar.Action {
	r := authed(sidecar.StageRoute)
	r.ID, r.Charged, r.Recipient = ids[i], true, fmt.Sprintf("x%d@far%d.example", i, i)
	return s.Ask(context.Background(), s.now, r).Action
}

// while it is tripped by deferrals, five a minute of what was sent once are tried
// again, the oldest first. What is delivered of that makes room for the next ones and ends
// the trip; it adds no send.
func TestATripByDeferralsProbes(t *testing.T) {
	s := newSite(t, quarter)
	s.sends("u1.example", "u2.example", "u3.example")
	ids := s.deferredAll(10, refused)
	s.wantHeldAgainst("a.example", 10, 0, sidecar.Defer)
	passed := func(order []int) (n []int) {
		for _, i := range order {
			if s.route(ids, i) == sidecar.Accept {
				n = append(n, i)
			}
		}
		slices.Sort(n)
		return n
	}
	backwards := []int{9, 8, 7, 6, 5, 4, 3, 2, 1, 0}
	if got := passed(backwards); !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
		t.Errorf("%v are tried again, want the five oldest", got)
	}
	if got := passed(backwards); !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
		t.Errorf("asked again, %v are tried again, want the same", got)
	}
	s.now = s.now.Add(59 * time.Second)
	for i := range 3 {
		s.deferred(ids[i], fmt.Sprintf("x%d@far%d.example", i, i), refused)
	}
	if got := passed([]int{5, 6}); len(got) != 0 {
		t.Errorf("within a minute %v are tried again too", got)
	}
	s.now = s.now.Add(2 * time.Second)
	if got := passed([]int{6, 5, 7, 8, 9}); !slices.Equal(got, []int{5, 6, 7, 8, 9}) {
		t.Errorf("a minute later %v are tried again", got)
	}
	for i := range 6 {
		s.gotThrough(ids[4+i], fmt.Sprintf("x%d@far%d.example", 4+i, 4+i))
	}
	s.wantHeldAgainst("a.example", 4, 0, sidecar.Accept)
	s.wantOutcomes("a.example", 10, 6, 4, 0)
	if s.Holds.Number() != 0 {
		t.Errorf("%d are held", s.Holds.Number())
	}
}

// A probe that is delivered makes room for the next at once, and Exim is told to deliver
// what waits for it, the oldest first.
func TestADeliveredProbeMakesRoomForTheNext(t *testing.T) {
	s := newSite(t, quarter)
	s.now = time.Now() // a release reads the clock
	s.sends("u1.example", "u2.example", "u3.example")
	ids := s.deferredAll(10, refused)
	for i := range ids {
		if got, want := s.route(ids, i) == sidecar.Accept, i < 5; got != want {
			t.Errorf("%d is tried again: %v", i, got)
		}
	}
	s.gotThrough(ids[3], "x3@far3.example")
	s.Holds.ReleaseAll(t.Context(), s.now)
	s.Holds.Wait()
	if got := s.deliveries(); !slices.Equal(got, ids[5:]) { // one after the other, for this Exim does not ask
		t.Errorf("Exim is to deliver %v, want those that wait, the oldest first: %v", got, ids[5:])
	}
	if s.route(ids, 7) == sidecar.Accept || s.route(ids, 5) != sidecar.Accept {
		t.Error("another one is tried again, or the oldest is not")
	}
}

// What will never ask again, removed from the queue or far from its next retry, keeps
// nobody waiting.
func TestProbesDoNotWaitForWhatDoesNotAsk(t *testing.T) {
	s := newSite(t, quarter)
	s.sends("u1.example", "u2.example", "u3.example")
	ids := s.deferredAll(10, refused)
	if s.route(ids, 9) == sidecar.Accept {
		t.Error("the youngest goes before all others")
	}
	if s.route(ids, 9) != sidecar.Accept {
		t.Error("it still waits for those that do not ask")
	}
}

// Tripped by failures nothing goes, also of what was deferred.
func TestATripByFailuresHoldsAll(t *testing.T) {
	s := newSite(t, quarter)
	ids := s.deferredAll(2, tryAgain)
	for range 3 {
		s.failed(s.arrived("a.example"), "x@far.example", noSuchUser)
	}
	s.wantHeldAgainst("a.example", 5, 0, sidecar.Reject)
	r := authed(sidecar.StageLocal)
	r.ID, r.Recipients = messageID(s.now), "y@far.example"
	s.want(s.Ask(t.Context(), s.now, r), sidecar.Reject, "Domain a.example has exceeded the max defers and failures per hour (5/5 (100%)) allowed. Message discarded.")
	for i := range ids {
		if s.route(ids, i) != sidecar.Defer {
			t.Errorf("%d goes", i)
		}
	}
}

// Tripped by deferrals, mail of sendmail is accepted uncharged and held, and clients get 450
// with the text that says so; new mail is no probe.
func TestATripByDeferralsBouncesNothing(t *testing.T) {
	const text = "Domain a.example has exceeded the max defers and failures per hour (5/5 (100%)) allowed. Message will be reattempted later"
	s := newSite(t, quarter)
	s.deferredAll(5, tryAgain)
	s.want(s.rcpt("y@far.example", 0), sidecar.Defer, text)
	r := authed(sidecar.StageLocal)
	r.ID, r.Recipients = messageID(s.now), "y@far.example"
	if got := s.Ask(t.Context(), s.now, r); got.Action != sidecar.Accept || got.Charged {
		t.Errorf("from sendmail: %+v", got)
	}
	r.Stage, r.Recipient = sidecar.StageRoute, "y@far.example"
	s.want(s.Ask(t.Context(), s.now, r), sidecar.Defer, text)
	s.wantOutcomes("a.example", 5, 0, 5, 0)
	if s.Holds.NumberIn("a.example") != 1 {
		t.Errorf("%d are held", s.Holds.NumberIn("a.example"))
	}
}

// What leaves the queue by other hands is held no more: removed, or moved to another queue.
func TestWhatLeavesTheQueueIsHeldNoMore(t *testing.T) {
	for name, kind := range map[string]logline.Kind{"removed": logline.Completed, "moved": logline.Moved} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "[limits]\nhourly = 3\n")
			s.send(3)
			held, other := s.hold("u@far.example"), ""
			s.now = s.now.Add(time.Second)
			other = s.hold("v@far.example").ID
			s.tell(logline.Entry{Kind: kind, ID: held.ID})
			if d := s.outcomes("a.example"); d.Held != 1 {
				t.Errorf("%d are held, want one", d.Held)
			}
			s.restart()
			s.tell(logline.Entry{Kind: kind, ID: other})
			if s.Holds.Number() != 0 {
				t.Errorf("%d are held", s.Holds.Number())
			}
		})
	}
}

// What is in the quarantine is not held, and held again when it comes back, over a restart too: it is
// charged then, however old it is.
func TestQuarantinedMailIsHeldAgainWhenItComesBack(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 3\n")
	s.send(3)
	r := s.hold("u@far.example")
	move := func(to string) {
		s.tell(logline.Entry{Kind: logline.Moved, ID: r.ID, At: s.now, Attempt: logline.Attempt{Text: to}})
	}
	move(logline.QuarantineQueue)
	if s.Holds.Number() != 0 {
		t.Errorf("%d are held in the quarantine", s.Holds.Number())
	}
	s.restart()
	s.now = s.now.Add(10 * 24 * time.Hour)
	s.send(3)
	s.want(s.Ask(t.Context(), s.now, r), sidecar.Defer, "") // the log has not told yet that it is back
	move("")
	if s.Holds.Number() != 1 {
		t.Errorf("%d are held when it is back, want one", s.Holds.Number())
	}
	s.restart()
	if s.Holds.Number() != 1 {
		t.Errorf("%d are held after a restart, want one", s.Holds.Number())
	}
	move(logline.QuarantineQueue)
	s.tell(logline.Entry{Kind: logline.Completed, ID: r.ID}) // removed there
	move("")
	if s.Holds.Number() != 0 {
		t.Errorf("%d are held of what was removed", s.Holds.Number())
	}
}

// Status says by when a trip ends at the latest, and by then it has ended.
func TestStatusSaysWhenATripEnds(t *testing.T) {
	s := newSite(t, quarter)
	began := s.now
	ids := s.deferredAll(8, tryAgain)
	for range 3 { // left out, and so no reason to wait for
		s.deferred(s.arrived("a.example"), "x@far.example", greylisted)
	}
	for _, want := range []string{"deferrals", "failures"} {
		trip := s.outcomes("a.example").Trip
		// When four of the eight have left: each counts for an hour and a minute.
		if ends := began.Add(3*time.Second + 61*time.Minute); trip == nil || trip.By != want || !trip.Ends.Equal(ends) {
			t.Fatalf("%+v, want it by %s and to end at %s", trip, want, ends)
		}
		if l := s.outcomes("a.example").Locks; len(l) != 1 || l[0].Until == nil || !l[0].Until.Equal(trip.Ends) {
			t.Errorf("locks %+v", l)
		}
		for n, id := range ids {
			s.failed(id, fmt.Sprintf("x%d@far%d.example", n, n), looksBad)
		}
		s.Reconcile(t.Context(), s.now)
	}
	ends := s.outcomes("a.example").Trip.Ends
	s.now = ends.Add(-3 * time.Minute)
	s.Reconcile(t.Context(), s.now)
	if s.action("a.example") != sidecar.Reject {
		t.Error("it has ended three minutes before")
	}
	s.now = ends.Add(time.Second)
	s.Reconcile(t.Context(), s.now)
	if d := s.outcomes("a.example"); s.action("a.example") != sidecar.Accept || d.Trip != nil || len(d.Locks) != 0 {
		t.Errorf("it has not ended: %+v", d)
	}
}

// S-06: strangers' mail that a forwarder passes on is refused as spam. That holds forwards:
// the domain sends on, and no lock file is made.
func TestOtherSubjectsTripForThemselves(t *testing.T) {
	s := newSite(t, quarter)
	for n := range 6 {
		id := s.arrived("a.example")
		s.tell(logline.Entry{Kind: logline.Arrived, ID: id, Arrival: logline.Arrival{Sender: "who@else.example", ClientAddress: "192.0.2.9"}})
		s.tell(logline.Entry{Kind: logline.Failed, ID: id, Attempt: logline.Attempt{Recipient: fmt.Sprintf("x%d@far.example", n), Original: "bob@local.example", Router: "dnslookup", Transport: "remote_smtp", Text: looksBad}})
	}
	s.Reconcile(t.Context(), s.now)
	if files := s.locks.Files(""); len(files) != 0 {
		t.Errorf("lock files %v", files)
	}
	if told := s.log.String(); strings.Contains(told, "level=ERROR") {
		t.Error(told)
	}
	if st, err := s.Status(t.Context(), s.now, "forward:local.example"); err != nil || st.Scopes[0].Trip == nil || st.Scopes[0].Failed != 6 {
		t.Errorf("status: %+v: %v", st.Scopes, err)
	}
	if got := s.action("local.example"); got != sidecar.Accept {
		t.Errorf("the owner's own mail is answered %d", got)
	}
	r := sidecar.Request{Stage: sidecar.StageRoute, ID: messageID(s.now), Sender: "who@else.example", Recipient: "y@far.example", Original: "bob@local.example", Submitter: sidecar.Submitter{ClientAddress: "192.0.2.9"}}
	if got := s.Ask(t.Context(), s.now, r); got.Action != sidecar.Defer || !strings.Contains(got.Text, "has exceeded the max defers and failures per hour (6/5 (100%)) allowed. Message will be reattempted later") {
		t.Errorf("a forward is answered %+v", got)
	}
}
