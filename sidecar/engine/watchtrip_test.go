package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
)

// A domain that is only watched is not tripped by its defers and failures, and it is told when
// it would be: in the log, and in the status, where a week of it can be read.
func TestWatchedDomainWouldTrip(t *testing.T) {
	s := newSite(t, quarter+"mode = \"watch\"\n")
	s.now = time.Now() // as a stop takes it
	ctx := context.Background()
	fail := func(n int) {
		for i := range n {
			s.failed(s.arrived("a.example"), fmt.Sprintf("x%d-%d@far.example", s.ids, i), noSuchUser)
		}
		s.Reconcile(ctx, s.now)
	}
	fail(4)
	if d := s.outcomes("a.example"); d.WouldTrip != nil || d.Watch.Any() {
		t.Fatalf("four bad ones: %+v", d)
	}
	fail(1)
	first := s.now
	s.want(s.rcpt("y@far.example", 0), sidecar.Accept, "")
	s.want(s.send(3), sidecar.Accept, "") // of which a trip would have refused all
	s.stopAndStart()
	d := s.outcomes("a.example")
	if d.WouldTrip == nil || d.WouldTrip.By != "failures" || !d.WouldTrip.Since.Equal(first) || d.Trip != nil || len(d.Locks) > 0 || d.Refused != 0 {
		t.Fatalf("five bad ones: %+v", d)
	}
	if d.Watch.Trips != 1 || !d.Watch.LastTrip.Equal(first) || d.Watch.Sends != 3 {
		t.Errorf("five bad ones: %+v, want one trip and three sends", d.Watch)
	}
	if ends := d.WouldTrip.Ends; !ends.After(first.Add(time.Hour)) || ends.After(first.Add(62*time.Minute)) {
		t.Errorf("it ends at %s", ends)
	}

	s.now = s.now.Add(2 * time.Hour)
	s.Reconcile(ctx, s.now)
	if d := s.status("a.example").Domains[0]; d.WouldTrip != nil || d.Watch.Trips != 1 {
		t.Errorf("two hours later: %+v", d)
	}
	fail(5)
	if d := s.outcomes("a.example"); d.WouldTrip == nil || d.Watch.Trips != 2 {
		t.Errorf("once more: %+v", d)
	}
	for text, times := range map[string]int{
		"too many defers and failures: the domain would be locked, and is only watched":    2,
		"defers and failures low again: the domain would be released, and is only watched": 1,
	} {
		if n := strings.Count(s.log.String(), text); n != times {
			t.Errorf("the log has %q %d times, want %d:\n%s", text, n, times, s.log.String())
		}
	}

	s.set("a.example", "mode=enforce") // which trips it
	s.Reconcile(ctx, s.now)
	if d := s.outcomes("a.example"); d.WouldTrip != nil || d.Trip == nil {
		t.Errorf("enforced: %+v", d)
	}
	if r := s.rcpt("y@far.example", 0); r.Action != sidecar.Reject {
		t.Errorf("enforced: %+v", r)
	}
	s.set("a.example", "mode=watch")
	s.Reconcile(ctx, s.now)
	s.Unlock(ctx, s.now, "a.example", "root")
	if d := s.outcomes("a.example"); d.WouldTrip != nil || d.Watch.Any() {
		t.Errorf("unlocked: %+v", d)
	}
}

// Who is exempt would not be tripped.
func TestExemptDomainWouldNotTrip(t *testing.T) {
	s := newSite(t, quarter+"[limits.domain.\"a.example\"]\nexempt = true\n")
	for i := range 6 {
		s.failed(s.arrived("a.example"), fmt.Sprintf("x%d@far.example", i), noSuchUser)
	}
	s.Reconcile(context.Background(), s.now)
	for _, d := range s.status("").Domains {
		if d.WouldTrip != nil || d.Trip != nil {
			t.Errorf("%+v", d)
		}
	}
}
