package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/logline"
)

// Mailman posts over SMTP to the loopback, and nobody is charged: neither when it asks
// nor from the log, which says only that the message came from 127.0.0.1. That is known over
// a restart too. What nobody has asked about is the loopback's.
func TestTheLogChargesWhoseSocketItWas(t *testing.T) {
	s := newSite(t, `
[[identity.exempt]]
sender = "*-bounces*@lists.example"
login = "4711"
`)
	message := func(n int) sidecar.Request {
		return sidecar.Request{Stage: sidecar.StageData, ID: fmt.Sprintf("%s-%06d-0q", messageID(s.now)[:6], n), Sender: "ann-bounces+x=y@lists.example",
			Recipients: "u@far.example", Submitter: sidecar.Submitter{ClientAddress: "127.0.0.1"}, Connection: sidecar.Connection{Socket: "uid:4711"}}
	}
	checkpoint := func() {
		if err := s.Checkpoint(s.now, nil); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 3 {
		r := message(n)
		if n < 2 {
			s.want(s.Ask(context.Background(), s.now, r), sidecar.Accept, "")
		}
		s.tell(logline.Entry{Kind: logline.Arrived, ID: r.ID, Arrival: logline.Arrival{Sender: r.Sender, ClientAddress: r.ClientAddress}})
		if n == 1 {
			checkpoint() // the arrival is noted, and then completed
			s.deferred(r.ID, "u@far.example", refused)
			checkpoint()
			s.restart()
		}
		s.gotThrough(r.ID, "u@far.example")
	}
	if got := s.status("").Totals.Exempt; got != 0 { // counted since the restart
		t.Errorf("%d exempt since the restart", got)
	}
	if got := s.counted("loopback"); got != (ratelimit.Counts{Sent: 1, Delivered: 1}) {
		t.Errorf("loopback: %+v, want the third alone", got)
	}

	r := message(3)
	r.Sender = "x@a.example" // no owner map: the sender's domain pays
	r.ID = fmt.Sprintf("%s-%06d-0q", messageID(s.now.Add(time.Second))[:6], 3)
	s.want(s.Ask(context.Background(), s.now, r), sidecar.Accept, "")
	s.tell(logline.Entry{Kind: logline.Arrived, ID: r.ID, Arrival: logline.Arrival{Sender: r.Sender, ClientAddress: r.ClientAddress}})
	s.failed(r.ID, "u@far.example", refused)
	s.wantOutcomes("a.example", 1, 0, 0, 1)
	if got := s.status("a.example").Domains[0].Causes; len(got) != 1 {
		t.Errorf("the cause of the failure is known for %v", got)
	}
}

// An exemption is no way past a block.
func TestWhoIsExemptIsBlockedAllTheSame(t *testing.T) {
	s := newSite(t, "[[identity.exempt]]\nsender = \"*\"\nauth = \"news@a.example\"\n")
	r := authed(sidecar.StageRcpt)
	r.Recipient = "u@far.example"
	s.want(s.Ask(context.Background(), s.now, r), sidecar.Accept, "")
	s.sent("a.example", 0)
	if _, err := s.Lock(context.Background(), s.now, "a.example", "eve"); err != nil {
		t.Fatal(err)
	}
	s.want(s.Ask(context.Background(), s.now, r), sidecar.Defer, "Domain a.example is locked.")
}

// Whoever closes his connection before it is known whose it is passes nothing to the outside,
// whichever mail server asks, and nobody is charged for it.
func TestAClientThatHasGoneIsDeferred(t *testing.T) {
	s := newSite(t, limit20)
	for _, stage := range []sidecar.Stage{sidecar.StageRcpt, sidecar.StageData, sidecar.StagePostfixRcpt, sidecar.StagePostfixEnd, sidecar.StageMilterRcpt, sidecar.StageMilterEnd} {
		for to, want := range map[string]sidecar.Action{"u@far.example": sidecar.Defer, "bob@local.example": sidecar.Accept} {
			r := sidecar.Request{Stage: stage, Sender: "x@a.example", Recipient: to, Recipients: to, Submitter: sidecar.Submitter{ClientAddress: "127.0.0.1"},
				Connection: sidecar.Connection{Socket: sidecar.SocketGone}, Postfix: sidecar.Postfix{Instance: string(stage) + to, Count: 1}}
			text := ""
			if want == sidecar.Defer {
				text = "The client has closed its connection"
			}
			s.want(s.Ask(context.Background(), s.now, r), want, text)
		}
	}
	if got := s.status("").Totals; got.Sends != 0 || got.Accepted != 0 {
		t.Errorf("%+v", got)
	}
}
