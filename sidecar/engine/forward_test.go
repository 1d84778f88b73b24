package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/logline"
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
func (s *site) tellOf(kind logline.Kind, id, to, text string) {
	s.tell(logline.Entry{Kind: kind, ID: id, Attempt: logline.Attempt{Recipient: to, Original: "list@local.example", Router: "dnslookup", Transport: "remote_smtp", Text: text}})
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
	s.tell(logline.Entry{Kind: logline.Arrived, ID: id, Arrival: logline.Arrival{Sender: "who@else.example", ClientAddress: "192.0.2.9"}})
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
	s.tellOf(logline.Deferred, id, "one@far.example", refused)
	s.tellOf(logline.Deferred, id, "one@far.example", "retry time not reached for any host")
	s.wantForwards("after the first attempt", ratelimit.Counts{Sent: 1, Deferred: 1})
	s.now = s.now.Add(2 * time.Hour)
	s.restart()
	s.want(ask("one@far.example"), sidecar.Accept, "")
	s.wantForwards("at a retry two hours later", ratelimit.Counts{})
	s.want(ask("two@far.example"), sidecar.Accept, "") // it was held, and is charged
	s.tellOf(logline.Delivered, id, "one@far.example", "")
	s.tellOf(logline.Delivered, id, "two@far.example", "")
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
		s.tellOf(logline.Deferred, id, "one@far.example", "(-53): retry time not reached for any host for 'far.example'")
	}
}

// The log charges what nobody asked about. A send that a list has made hours after the
// arrival is dated by its first attempt, however late that is read.
func TestALateChargeIsDatedByTheSend(t *testing.T) {
	s := newSite(t, quarter)
	id := s.cameIn()
	began := s.now.Add(3 * time.Hour)
	at := func(after time.Duration, kind logline.Kind, text string) {
		e := logline.Entry{Kind: kind, ID: id, At: began.Add(after), Attempt: logline.Attempt{Recipient: "one@far.example", Original: "list@local.example", Transport: "remote_smtp", Text: text}}
		s.tell(e)
	}
	s.now = began.Add(10 * time.Minute)
	at(0, logline.Deferred, refused)
	s.wantForwards("10 minutes late", ratelimit.Counts{Sent: 1, Deferred: 1})
	checkpoint := func() {
		if err := s.Checkpoint(s.now, nil); err != nil {
			t.Fatal(err)
		}
	}
	checkpoint()
	s.now = began.Add(2 * time.Hour)
	s.restart()
	at(0, logline.Deferred, refused) // read again
	at(2*time.Hour, logline.Delivered, "")
	s.wantForwards("at its second attempt, two hours later", ratelimit.Counts{})
	s.tell(logline.Entry{Kind: logline.Completed, ID: id})
	checkpoint()
	s.store.Notes("redirect/", func(key string, _ []byte) { t.Errorf("%s is kept of a message that has left", key) })

	id = s.cameIn()
	s.now = began.Add(6 * time.Hour)
	at(4*time.Hour, logline.Delivered, "") // two hours ago, and read only now
	s.wantForwards("out of the window", ratelimit.Counts{})
	at(5*time.Hour+30*time.Minute, logline.Delivered, "")
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
	bounce := held
	bounce.ID, bounce.Sender = messageID(s.now), ""
	s.want(s.Ask(context.Background(), s.now, bounce), sidecar.Defer, "Forwarder local.example has exceeded")
	var last []string
	s.store.Notes("hold/", func(key string, value []byte) {
		if strings.Contains(string(value), `"last":true`) {
			last = append(last, key)
		}
	})
	if len(last) != 1 || !strings.Contains(last[0], bounce.ID) {
		t.Errorf("to be released last: %v", last)
	}
	own.ID, own.Recipients = messageID(s.now), "a@far.example, b@far.example, c@far.example"
	s.want(s.Ask(context.Background(), s.now, own), sidecar.Accept, "")
	s.sent("local.example", 3)
	s.wantForwards("beside the owner's own mail", ratelimit.Counts{Sent: 3})
	st := s.status("local.example")
	if len(st.Domains) != 1 || len(st.Scopes) != 1 || st.Scopes[0].Scope != forwards || st.Scopes[0].Sent != 3 || st.Scopes[0].Held != 2 {
		t.Errorf("the status of the domain is without its forwards: %+v", st)
	}
	if names := s.Holds.Subjects(); len(names) != 1 || names[0] != forwards {
		t.Errorf("held of %v", names)
	}
}

// bounced tells of a bounce that Exim has made of a message.
func (s *site) bounced(of, user string) (id string) {
	s.ids++
	id = fmt.Sprintf("%s-%06d-0q", messageID(s.now)[:6], s.ids)
	s.tell(logline.Entry{Kind: logline.Arrived, ID: id, Arrival: logline.Arrival{Login: user, Answers: of}})
	return id
}

// Exim's own bounces are never refused, and charged from the log to whoever sent the message
// that they answer: they were a channel for nothing. The message itself may have cost nothing.
func TestBouncesAreChargedToWhoeverSentWhatTheyAnswer(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 2\ndefer_cutoff = 1000\n")
	s.now = time.Now()
	sent := s.arrived("a.example")
	var bounces []string
	for range 3 { // one bounce, and warnings
		bounces = append(bounces, s.bounced(sent, "exim"))
	}
	s.deferred(bounces[0], "victim@far.example", refused)
	s.tell(logline.Entry{Kind: logline.Completed, ID: sent}) // a bounce may be retried for longer
	if err := s.Checkpoint(s.now, nil); err != nil {
		t.Fatal(err)
	}
	s.restart()
	for _, id := range bounces {
		s.gotThrough(id, "victim@far.example")
		s.gotThrough(id, "victim@far.example")
	}
	s.wantOutcomes("a.example", 3, 3, 0, 0) // over the limit, and none was refused
	s.want(s.rcpt("x@far.example", 0), sidecar.Defer, "Domain a.example has exceeded the max emails per hour (4/2 (200%)) allowed.")
	if st, err := s.Status(t.Context(), s.now, ""); err != nil || st.Totals.Late != 0 {
		t.Errorf("%d of them are told as sends that nobody asked about, %v", st.Totals.Late, err)
	}
}

func TestWhoseABounceIs(t *testing.T) {
	s := newSite(t, limit20)
	s.now = time.Now()
	s.gotThrough(s.bounced(s.cameIn(), "exim"), "stranger@far.example")         // of mail from elsewhere: nobody's
	s.gotThrough(s.bounced("1xAAAA-000001-00", "exim"), "stranger@far.example") // of mail that nobody knows
	for _, list := range []string{"list@local.example", "list@a.example"} {
		s.tell(logline.Entry{Kind: logline.Delivered, ID: s.bounced(s.arrived("a.example"), "exim"), Attempt: logline.Attempt{Recipient: "member@far.example", Original: list, Transport: "remote_smtp"}})
	}
	s.gotThrough(s.bounced(s.arrived("a.example"), "bob"), "stranger@far.example") // sendmail -E, by anybody
	for subject, want := range map[string]int64{"a.example": 0, forwards: 1, "forward:a.example": 1} {
		if got := s.counted(subject).Sent; got != want {
			t.Errorf("%s is charged %d, want %d", subject, got, want)
		}
	}
	total := int64(0)
	s.store.Standings(s.now, func(st ratelimit.Standing) bool {
		for _, w := range st.Windows {
			total += w.Sent
		}
		return true
	})
	if total != 3 {
		t.Errorf("%d are charged in all, want those of the lists and that of sendmail -E", total)
	}
	route := sidecar.Request{Stage: sidecar.StageRoute, ID: messageID(s.now), Recipient: "m2@far.example", Original: "list@local.example", Submitter: sidecar.Submitter{Login: "exim"}}
	s.want(s.Ask(context.Background(), s.now, route), sidecar.Accept, "")
	if got := s.counted(forwards).Sent; got != 2 {
		t.Errorf("a bounce that a list redirects, asked about: %d forwards, want 2", got)
	}
}

// The log of a host whose Exim runs as another user than this one's.
func TestABounceInAnotherHostsLogIsKnownByItsLine(t *testing.T) {
	log := "2026-11-28 10:00:00 1xAAAA-00000000001-0001 <= news@shop.example H=(pc) [192.0.2.10]:4000 P=esmtpsa X=TLS1.3 A=dovecot_login:news@shop.example S=1000 id=a@b T=\"hi\" for x@far.example\n" +
		"2026-11-28 10:00:01 1xAAAA-00000000001-0001 ** x@far.example R=lookuphost T=dkim_remote_smtp H=mx.far.example [192.0.2.20]: SMTP error from remote mail server after RCPT TO:<x@far.example>: 550 5.1.1 no such user\n" +
		"2026-11-28 10:00:01 1xAAAB-00000000002-0002 <= <> R=1xAAAA-00000000001-0001 U=mailnull P=local S=2000 T=\"Mail delivery failed: returning message to sender\" for ext@other.example\n" +
		"2026-11-28 10:00:02 1xAAAB-00000000002-0002 => ext@other.example R=lookuphost T=remote_smtp H=mx.other.example [192.0.2.30] C=\"250 OK\"\n"
	r := replayed(t, log, parsed(t, "[limits]\nhourly = 1\n")).Report()
	if r.Senders != 1 || r.Sent != 1 || r.Refused != 0 || r.Bad != 1 {
		t.Errorf("%+v", r)
	}
}

// What a list makes hours after the arrival is one send in a simulation too, however late it
// is tried again.
func TestASimulationGoesByTheAgeOfTheSend(t *testing.T) {
	log := "2026-11-28 10:00:00 1xAAAA-00000000001-0001 <= who@else.example H=(pc) [192.0.2.10] P=esmtp S=1000\n" +
		"2026-11-28 13:00:00 1xAAAA-00000000001-0001 == x@far.example <list@local.example> R=dnslookup T=remote_smtp defer (111): Connection refused\n" +
		"2026-11-28 16:00:00 1xAAAA-00000000001-0001 => x@far.example <list@local.example> R=dnslookup T=remote_smtp H=mx.far.example [192.0.2.20] C=\"250 OK\"\n" +
		"2026-11-28 16:00:00 1xAAAA-00000000001-0001 Completed\n"
	if r := replayed(t, log, parsed(t, limit20)).Report(); r.Sent != 1 {
		t.Errorf("%+v", r)
	}
}

// What sendmail submits and Exim does not accept, Exim sends back to its sender, who may be
// anybody: that was a channel for nothing too. The log has no arrival of what was refused.
func TestBouncesOfWhatWasNeverAccepted(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 1\n")
	s.now = time.Now()
	refused := sidecar.Request{ID: messageID(s.now), Stage: sidecar.StageLocal, Sender: "php@a.example", Recipients: "a@far.example, b@far.example",
		Submitter: sidecar.Submitter{Login: "www", UID: "33", CWD: "/srv"}}
	s.want(s.Ask(t.Context(), s.now, refused), sidecar.Reject, "Domain a.example has exceeded")
	wantSent := func(name string, n int64) {
		t.Helper()
		if got := s.counted(name).Sent; got != n {
			t.Errorf("%s is charged %d, want %d", name, got, n)
		}
	}
	s.gotThrough(s.bounced(refused.ID, "exim"), "victim@far.example")
	wantSent("a.example", 1)

	s.gotThrough(s.bounced(messageID(s.now.Add(-time.Hour)), "exim"), "victim@far.example") // perhaps it came before Sluice
	wantSent("service:exim", 0)
	if err := s.Checkpoint(s.now, nil); err != nil {
		t.Fatal(err)
	}
	s.restart()
	s.now = s.now.Add(time.Minute)
	s.gotThrough(s.bounced(messageID(s.now), "exim"), "victim@far.example") // sendmail -t, without recipients
	wantSent("service:exim", 1)
	wantSent("a.example", 1)
}

// Exim writes what a list with one_time has made into the message, and asks again as if the sender
// had named it. What was held stays the forwarder's, over a restart and the quarantine too.
func TestAHeldForwardStaysTheForwarders(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 1\ndefer_cutoff = 1000\n")
	id := s.cameIn()
	ask := func(r sidecar.Request) sidecar.Reply { return s.Ask(context.Background(), s.now, r) }
	again := stranger(id, "Two@far.example")
	again.Original, again.Charged = "", true
	const held = "Forwarder local.example has exceeded the max emails per hour"
	s.want(ask(stranger(id, "one@far.example")), sidecar.Accept, "")
	s.want(ask(stranger(id, "two@far.example")), sidecar.Defer, held)
	s.want(ask(again), sidecar.Defer, held)
	s.restart()
	s.want(ask(again), sidecar.Defer, held)
	s.tell(logline.Entry{Kind: logline.Moved, ID: id, Attempt: logline.Attempt{Text: logline.QuarantineQueue}})
	s.want(ask(again), sidecar.Defer, held)
	s.wantForwards("while one is held", ratelimit.Counts{Sent: 1})
	s.now = s.now.Add(2 * time.Hour)
	s.want(ask(again), sidecar.Accept, "")
	s.wantForwards("when it goes", ratelimit.Counts{Sent: 1})
	s.sent("relay:192.0.2.9", 0)
}

// Attack: aliases named like addresses of the Sender Rewriting Scheme, in a message with a null
// sender that is charged for another recipient. They are sends like all that aliases make.
func TestWhatLooksLikeAReturnIsCharged(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 2\ndefer_cutoff = 1000\n")
	r := authed(sidecar.StageData)
	r.ID, r.Sender, r.Recipients = messageID(s.now), "", "one@far.example, srs0=ab=cd=far.example=two@local.example, srs0=ab=cd=far.example=three@local.example"
	s.want(s.Ask(context.Background(), s.now, r), sidecar.Accept, "")
	r.Stage, r.Charged, r.Recipients = sidecar.StageRoute, true, ""
	r.Recipient = "one@far.example"
	s.want(s.Ask(context.Background(), s.now, r), sidecar.Accept, "")
	r.Recipient, r.Original = "two@far.example", "srs0=ab=cd=far.example=two@local.example"
	s.want(s.Ask(context.Background(), s.now, r), sidecar.Accept, "")
	r.Recipient, r.Original = "three@far.example", "srs0=ab=cd=far.example=three@local.example"
	s.want(s.Ask(context.Background(), s.now, r), sidecar.Defer, "Domain a.example has exceeded")
	s.sent("a.example", 2)
}
