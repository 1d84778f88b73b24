package engine_test

import (
	"context"
	"fmt"
	"testing"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/history"
	"sluice/sidecar/logline"
)

// Unlocking a domain lets what its aliases redirect start at zero too: its limit, its trip and
// what is held of it.
func TestUnlockReleasesTheForwards(t *testing.T) {
	s := newSite(t, quarter+"[limits.domain.\"local.example\"]\nhourly = 20\n")
	for n := range 6 {
		id := s.cameIn()
		s.want(s.Ask(context.Background(), s.now, stranger(id, fmt.Sprintf("x%d@far.example", n))), sidecar.Accept, "")
		s.tellOf(logline.Failed, id, fmt.Sprintf("x%d@far.example", n), noSuchUser)
	}
	s.Reconcile(context.Background(), s.now)
	held := stranger(s.cameIn(), "y@far.example")
	s.want(s.Ask(context.Background(), s.now, held), sidecar.Defer, "Forwarder local.example has exceeded the max defers and failures per hour (6/5 (100%)) allowed.")
	if err := s.Unlock(t.Context(), s.now, "local.example", "root"); err != nil { // of which nothing else is known
		t.Fatal(err)
	}
	s.wantForwards("unlocked", ratelimit.Counts{})
	if st := s.status("local.example"); len(st.Scopes) != 1 || st.Scopes[0].Trip != nil {
		t.Errorf("unlocked: %+v", st.Scopes)
	}
	s.want(s.Ask(context.Background(), s.now, held), sidecar.Accept, "")
	if got := s.Holds.NumberIn(forwards); got != 0 {
		t.Errorf("%d held", got)
	}
}

// What a limit of a special subject's defers and failures would stop is told before it is set.
func TestPreviewTellsOfTripsOfSpecialSubjects(t *testing.T) {
	s := newSite(t, "[limits]\ndeferfail_min = 5\ndeferfail_percent = 0\n")
	for n := range 6 {
		id, to := s.cameIn(), fmt.Sprintf("x%d@far.example", n)
		s.want(s.Ask(context.Background(), s.now, stranger(id, to)), sidecar.Accept, "")
		s.tellOf(logline.Failed, id, to, noSuchUser)
	}
	r := s.order(history.Edit{Scope: forwards, Set: []string{"deferfail_percent=50"}, Preview: true})
	if len(r.Effects) != 1 || r.Effects[0].Scope != forwards || !r.Effects[0].Refused || r.Effects[0].Text != "6/5 (100%)" {
		t.Errorf("%+v", r.Effects)
	}
	s.want(s.Ask(context.Background(), s.now, stranger(s.cameIn(), "y@far.example")), sidecar.Accept, "")
}

// Looking at a domain changes nothing of it. A message that had too many recipients was refused
// while there was room for fewer.
func TestStatusLeavesTheRefused(t *testing.T) {
	s := newSite(t, limit20)
	s.want(s.send(18), sidecar.Accept, "")
	if r := s.send(5); r.Action == sidecar.Accept {
		t.Fatal("not refused")
	}
	for n := range 3 {
		for _, scope := range []string{"", "a.example"} {
			if got := s.status(scope).Domains[0].Refused; got != 5 {
				t.Fatalf("status %q, %d times: %d refused, want 5", scope, n+1, got)
			}
		}
	}
	s.want(s.send(1), sidecar.Accept, "") // there is room, so that what was refused is forgotten
	if got := s.status("a.example").Domains[0].Refused; got != 0 {
		t.Errorf("after a send: %d refused, want 0", got)
	}
}
