package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sluice/sidecar"
)

// stopAndStart stops a site as serve does, which saves what is only in memory, and starts
// it again.
func (s *site) stopAndStart() {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := s.Engine.Run(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.restart()
}

// A week of watching can be read: each send is counted once, by RCPT and DATA together,
// the window's end takes nothing away, and nor does a restart.
func TestAWeekOfWatchingCanBeRead(t *testing.T) {
	s := newSite(t, limit20+"mode = \"watch\"\n[limits.account.bob]\nhourly = 1\n")
	first := s.now
	for range 7 {
		s.offer(23) // of three there is no room
		last := s.now
		s.now = s.now.Add(24 * time.Hour)
		s.stopAndStart()
		if w := s.status("a.example").Domains[0].Watch; !w.First.Equal(first) || !w.Last.Equal(last) {
			t.Fatalf("%+v, want it from %v to %v", w, first, last)
		}
	}
	r := sidecar.Request{Stage: sidecar.StageLocal, ID: messageID(s.now), Submitter: sidecar.Submitter{Login: "bob"}, Sender: "bob@b.example", Recipients: "u1@far.example, u2@far.example, u3@far.example"}
	for range 2 { // asked again, it is not counted again
		s.want(s.Ask(context.Background(), s.now, r), sidecar.Accept, "")
	}
	all := s.status("")
	if len(all.Domains) != 2 || all.Domains[0].Watch.Sends+all.Domains[1].Watch.Sends != 21 {
		t.Errorf("of domains: %+v", all.Domains)
	}
	if len(all.Scopes) != 1 || all.Scopes[0].Watch.Sends != 2 {
		t.Errorf("of accounts: %+v", all.Scopes)
	}

	// A reset begins anew, and limits that refuse would not.
	s.Reset(context.Background(), s.now, "account:bob", "root")
	if w := s.status("account:bob").Scopes[0].Watch; w.Sends != 0 {
		t.Errorf("after the reset: %+v", w)
	}
	s.set("a.example", "mode=enforce")
	if w := s.outcomes("a.example").Watch; w.Sends != 0 {
		t.Errorf("enforced: %+v", w)
	}
	s.set("a.example", "mode=watch")
	s.Unlock(context.Background(), s.now, "a.example", "root")
	if d := s.outcomes("a.example"); d.Watch.Sends != 0 {
		t.Errorf("unlocked: %+v", d.Watch)
	}
}

// What is refused of a domain that is blocked is counted as what a limit refuses: each
// recipient once, until the block ends.
func TestRefusalsOfABlockedDomainAreCounted(t *testing.T) {
	s := newSite(t, quarter)
	ctx := context.Background()
	refused := func(what string, want int64) {
		t.Helper()
		if d := s.outcomes("a.example"); d.Refused != want {
			t.Errorf("%s: refused %d, want %d", what, d.Refused, want)
		}
	}
	for i := range 5 {
		s.failed(s.arrived("a.example"), fmt.Sprintf("x%d@far.example", i), noSuchUser)
	}
	s.Reconcile(ctx, s.now)
	for _, to := range []string{"y@far.example", "y@far.example", "z@far.example"} {
		if r := s.rcpt(to, 0); r.Action == sidecar.Accept {
			t.Fatal("it did not trip")
		}
	}
	refused("tripped", 2)
	s.stopAndStart()
	refused("after a restart", 2)
	s.rcpt("x@far.example", 0)
	refused("after one more", 3)
	s.set("a.example", "deferfail_percent=0")
	refused("after the trip", 0)
	s.stopAndStart() // its loop sees that the trip has ended

	if _, err := s.Lock(ctx, s.now, "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.rcpt("y@far.example", 0)
	refused("locked by hand", 1)
	s.Unlock(ctx, s.now, "a.example", "root")
	s.Lock(ctx, s.now, "a.example", "root")
	refused("locked again", 0)
}
