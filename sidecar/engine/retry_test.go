package engine_test

import (
	"fmt"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/logline"
)

// 10 messages to a host that is dead, 20 queue runs over three windows: 10 bad
// ones in the first, which leave with it, and none for all the retries after.
func TestTenMessagesToADeadHostInTwentyQueueRuns(t *testing.T) {
	s := newSite(t, quarter)
	var waiting []string
	for range 10 {
		waiting = append(waiting, s.arrived("a.example"))
	}
	began := s.now
	for run := range 20 {
		s.now = began.Add(time.Duration(run) * 9 * time.Minute)
		for _, id := range waiting {
			s.deferred(id, "x@dead.example", refused)
			s.deferred(id, "x@dead.example", "retry time not reached for any host for 'dead.example'")
		}
		want := int64(10)
		if s.now.Sub(began) > time.Hour+time.Minute { // and a bucket
			want = 0
		}
		s.wantOutcomes("a.example", want, 0, want, 0)
	}
	for _, id := range waiting {
		s.failed(id, "x@dead.example", "retry timeout exceeded")
	}
	s.wantOutcomes("a.example", 0, 0, 0, 0)
}

// 50 messages are deferred, and delivered at the retry: nothing bad is left of that, and
// what was tripped meanwhile is released.
func TestFiftyDeferredAndDeliveredAtTheRetry(t *testing.T) {
	t.Parallel() // it waits
	s := running(t, "[limits]\nwindow = \"1m\"\nhourly = 1000\n")
	var waiting []string
	for range 50 {
		waiting = append(waiting, s.arrived("a.example"))
		s.deferred(waiting[len(waiting)-1], "x@far.example", tryAgain)
	}
	s.wantOutcomes("a.example", 50, 0, 50, 0)
	s.wantTripped("a.example", true)
	for _, id := range waiting {
		s.gotThrough(id, "x@far.example")
	}
	s.wantOutcomes("a.example", 50, 50, 0, 0)
	if d := s.outcomes("a.example"); d.DeferfailNow != 0 || len(d.Causes) != 0 {
		t.Errorf("%+v", d)
	}
	s.eventually("release, when a bucket has passed", func() bool { s.now = time.Now(); return !s.tripped("a.example") })
}

// spelled tells of a delivery to an address as its message's sender wrote it.
func (s *site) spelled(kind logline.Kind, id, to, original string) {
	s.tell(logline.Entry{Kind: kind, ID: id, Attempt: logline.Attempt{Recipient: to, Original: original, Router: "dnslookup", Transport: "remote_smtp", Text: refused}})
}

// bob@ is written in three ways, and Exim delivers three times. That is charged
// three times, also from the log alone, in whatever order, with retries, and read
// again from anywhere.
func TestEntriesThatFoldToOneAddressAreChargedAsOften(t *testing.T) {
	spellings := []string{"", "BoB@far.example", `"bob"@far.example`}
	for n, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		s := newSite(t, quarter)
		id := s.arrived("a.example")
		read := func(from int) {
			for attempt := range 2 { // the last of them is delivered at the second
				for i, which := range order {
					kind := logline.Delivered
					if i == 2 && attempt == 0 {
						kind = logline.Deferred
					}
					if from--; from < 0 && (attempt == 0 || i == 2) {
						s.spelled(kind, id, "bob@far.example", spellings[which])
					}
				}
			}
		}
		read(0)
		s.wantOutcomes("a.example", 3, 3, 0, 0)
		for from := range 6 {
			read(from)
			s.wantOutcomes("a.example", 3, 3, 0, 0)
		}
		if n == 0 { // a start in between forgets which was which, and adds nothing
			if err := s.Checkpoint(s.now, []byte("here")); err != nil {
				t.Fatal(err)
			}
			s.restart()
			for from := range 6 {
				read(from)
				s.wantOutcomes("a.example", 3, 3, 0, 0)
			}
		}
	}
}

// What was asked about is not charged again, however it is written.
func TestASpellingThatWasAskedAboutIsNotChargedAgain(t *testing.T) {
	s := newSite(t, quarter)
	for n, recipients := range []string{"John.Smith@far.example", `BoB@far.example, bob@far.example, "bob"@far.example`} {
		r := authed(sidecar.StageData)
		r.ID, r.Recipients = fmt.Sprintf("%s-%06d-0q", messageID(s.now)[:6], 900+n), recipients
		s.want(s.Ask(t.Context(), s.now, r), sidecar.Accept, "")
		s.tell(logline.Entry{Kind: logline.Arrived, ID: r.ID, Arrival: logline.Arrival{Sender: r.Sender, Auth: r.Auth, ClientAddress: r.ClientAddress}})
		if n == 0 {
			s.spelled(logline.Delivered, r.ID, "john.smith@far.example", "John.Smith@far.example")
			s.wantOutcomes("a.example", 1, 1, 0, 0)
			continue
		}
		for _, spelling := range []string{`"bob"@far.example`, "BoB@far.example", ""} {
			s.spelled(logline.Delivered, r.ID, "bob@far.example", spelling)
		}
	}
	s.wantOutcomes("a.example", 4, 4, 0, 0)
}

// An alias or a list of the domain itself makes of two addresses one: it is charged once,
// as at the router.
func TestWhatAnAliasMadeIsNoSpelling(t *testing.T) {
	s := newSite(t, quarter)
	id := s.arrived("a.example")
	for _, original := range []string{"one@a.example", "", "two@a.example"} {
		s.spelled(logline.Delivered, id, "bob@far.example", original)
	}
	s.wantOutcomes("a.example", 1, 1, 0, 0)
}
