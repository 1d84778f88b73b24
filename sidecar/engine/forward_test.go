package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// forwards is what the tests below charge: what local.example's aliases and lists redirect.
const forwards = "forward:local.example"

// stranger is the router's question about a recipient that list@local.example has made of
// mail from elsewhere.
func stranger(id, to string) sidecar.Request {
	return sidecar.Request{Stage: sidecar.StageRoute, ID: id, Sender: "who@else.example", Recipient: to, Original: "list@local.example",
		Submitter: sidecar.Submitter{ClientAddress: "192.0.2.9"}}
}

// tellOf tells of a redirected recipient of a message from elsewhere.
func (s *site) tellOf(kind sidecar.EntryKind, id, to, text string) {
	s.tell(sidecar.LogEntry{Kind: kind, ID: id, Attempt: sidecar.Attempt{Recipient: to, Original: "list@local.example", Router: "dnslookup", Transport: "remote_smtp", Text: text}})
}

func (s *site) wantForwards(when string, want ratelimit.Counts) {
	s.t.Helper()
	if got := s.counted(forwards); got != want {
		s.t.Errorf("%s: %+v, want %+v", when, got, want)
	}
}

// cameIn tells of a message from elsewhere that has arrived now.
func (s *site) cameIn() (id string) {
	s.ids++
	id = fmt.Sprintf("%s-%06d-0q", messageID(s.now)[:6], s.ids)
	s.tell(sidecar.LogEntry{Kind: sidecar.LogArrived, ID: id, Arrival: sidecar.Arrival{Sender: "who@else.example", ClientAddress: "192.0.2.9"}})
	return id
}

// A message waits for longer than the window, and then a list makes its recipients: their
// sends are charged, each once, however long they are retried, over a restart too.
func TestWhatAListMakesHoursLaterIsChargedOnce(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 1\ndefer_cutoff = 1000\n")
	id := s.cameIn()
	s.now = s.now.Add(3 * time.Hour)
	ask := func(to string) sidecar.Reply { return s.Ask(context.Background(), s.now, stranger(id, to)) }
	s.want(ask("one@far.example"), sidecar.Accept, "")
	s.want(ask("two@far.example"), sidecar.Defer, "Forwarder local.example has exceeded the max emails per hour (2/1 (200%)) allowed.  Message will be reattempted later")
	s.tellOf(sidecar.LogDeferred, id, "one@far.example", refused)
	s.tellOf(sidecar.LogDeferred, id, "one@far.example", "retry time not reached for any host")
	s.wantForwards("after the first attempt", ratelimit.Counts{Sent: 1, Deferred: 1})
	s.now = s.now.Add(2 * time.Hour)
	s.restart()
	s.want(ask("one@far.example"), sidecar.Accept, "")
	s.wantForwards("at a retry two hours later", ratelimit.Counts{})
	s.want(ask("two@far.example"), sidecar.Accept, "") // it was held, and is charged
	s.tellOf(sidecar.LogDelivered, id, "one@far.example", "")
	s.tellOf(sidecar.LogDelivered, id, "two@far.example", "")
	s.wantForwards("when all are delivered", ratelimit.Counts{Sent: 1, Delivered: 1})
}

// Exim may put off a recipient again and again without an attempt, as long as a host is
// down for everybody.
func TestARedirectThatIsPutOffIsChargedOnce(t *testing.T) {
	s := newSite(t, limit20)
	id := s.cameIn()
	for hours := range 4 {
		s.now = s.now.Add(3 * time.Hour)
		s.want(s.Ask(context.Background(), s.now, stranger(id, "one@far.example")), sidecar.Accept, "")
		want := ratelimit.Counts{}
		if hours == 0 {
			want.Sent = 1
		}
		s.wantForwards(fmt.Sprint("question ", hours), want)
		s.tellOf(sidecar.LogDeferred, id, "one@far.example", "(-53): retry time not reached for any host for 'far.example'")
	}
}

// The log charges what nobody asked about. A send that a list has made hours after the
// arrival is dated by its first attempt, however late that is read.
func TestALateChargeIsDatedByTheSend(t *testing.T) {
	s := newSite(t, quarter)
	id := s.cameIn()
	began := s.now.Add(3 * time.Hour)
	at := func(after time.Duration, kind sidecar.EntryKind, text string) {
		e := sidecar.LogEntry{Kind: kind, ID: id, At: began.Add(after), Attempt: sidecar.Attempt{Recipient: "one@far.example", Original: "list@local.example", Transport: "remote_smtp", Text: text}}
		s.tell(e)
	}
	s.now = began.Add(10 * time.Minute)
	at(0, sidecar.LogDeferred, refused)
	s.wantForwards("10 minutes late", ratelimit.Counts{Sent: 1, Deferred: 1})
	checkpoint := func() {
		if err := s.Checkpoint(s.now, nil); err != nil {
			t.Fatal(err)
		}
	}
	checkpoint()
	s.now = began.Add(2 * time.Hour)
	s.restart()
	at(0, sidecar.LogDeferred, refused) // read again
	at(2*time.Hour, sidecar.LogDelivered, "")
	s.wantForwards("at its second attempt, two hours later", ratelimit.Counts{})
	s.tell(sidecar.LogEntry{Kind: sidecar.LogCompleted, ID: id})
	checkpoint()
	s.store.Notes("redirect/", func(key string, _ []byte) { t.Errorf("%s is kept of a message that has left", key) })

	id = s.cameIn()
	s.now = began.Add(6 * time.Hour)
	at(4*time.Hour, sidecar.LogDelivered, "") // two hours ago, and read only now
	s.wantForwards("out of the window", ratelimit.Counts{})
	at(5*time.Hour+30*time.Minute, sidecar.LogDelivered, "")
	s.wantForwards("within the window", ratelimit.Counts{Sent: 1, Delivered: 1})
}

// Mail of strangers through a forwarder is held beyond the domain's limit, and leaves the
// owner's own hour alone, as the owner's mail leaves the forwarder's.
func TestStrangersThroughAForwarderLeaveTheOwnersHourAlone(t *testing.T) {
	s := newSite(t, "[limits.domain.\"local.example\"]\nhourly = 3\n")
	own := sidecar.Request{Stage: sidecar.StageData, Sender: "boss@local.example", Submitter: sidecar.Submitter{Auth: "boss@local.example", ClientAddress: "192.0.2.1"}}
	for n := range 3 {
		s.want(s.Ask(context.Background(), s.now, stranger(s.cameIn(), fmt.Sprintf("x%d@far.example", n))), sidecar.Accept, "")
	}
	held := stranger(s.cameIn(), "x@far.example")
	for range 5 { // again and again: it is held, and never bounces
		s.want(s.Ask(context.Background(), s.now, held), sidecar.Defer, "Forwarder local.example has exceeded the max emails per hour (4/3 (133%)) allowed.")
	}
	own.ID, own.Recipients = messageID(s.now), "a@far.example, b@far.example, c@far.example"
	s.want(s.Ask(context.Background(), s.now, own), sidecar.Accept, "")
	s.sent("local.example", 3)
	s.wantForwards("beside the owner's own mail", ratelimit.Counts{Sent: 3})
	if names := s.Holds.Subjects(); len(names) != 1 || names[0] != forwards {
		t.Errorf("held of %v", names)
	}
}
