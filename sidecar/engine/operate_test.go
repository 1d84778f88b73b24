package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/deferfail"
	"sluice/sidecar/limit"
	"sluice/sidecar/operator"
	"sluice/sidecar/typed"
)

// scopedLimits limit a mailbox by the hour and all domains by the day too.
const scopedLimits = "[limits]\nhourly = 100\ndaily = 50\n[limits.mailbox.\"news@a.example\"]\nhourly = 10\n"

func (s *site) status(scope string) operator.Status {
	s.t.Helper()
	status, err := s.Status(context.Background(), s.now, scope)
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

func TestStatusOfAMailbox(t *testing.T) {
	s := newSite(t, scopedLimits)
	want := []operator.ScopeStatus{{Scope: "news@a.example", Mode: limit.Enforce, Windows: []operator.Window{{Seconds: 3600, Limit: 10}},
		DeferfailStatus: operator.DeferfailStatus{Causes: []deferfail.CauseStatus{}, LeftOut: []deferfail.LeftOut{}}}} // only domains trip
	if diff := cmp.Diff(want, s.status("news@a.example").Scopes); diff != "" {
		t.Errorf("before the first send, -want +got:\n%s", diff)
	}
	s.send(10)
	s.rcpt("late@far.example", 0)
	frees := s.now.Add(time.Hour + time.Minute)
	want[0].Windows[0].Sent, want[0].Windows[0].Percent = 10, 100
	want[0].Counts, want[0].FreesAt = operator.Counts{Sent: 10, Refused: 1}, &frees
	for _, scope := range []string{"news@a.example", ""} {
		if diff := cmp.Diff(want, s.status(scope).Scopes); diff != "" {
			t.Errorf("scope %q, -want +got:\n%s", scope, diff)
		}
	}
}

func TestStatusOfAScopeThatNoLimitNames(t *testing.T) {
	s := newSite(t, scopedLimits)
	s.send(1)
	for _, scope := range []string{"other@a.example", "account:bob", "b.example"} {
		if _, err := s.Status(context.Background(), s.now, scope); !errors.Is(err, typed.ErrNotFound) {
			t.Errorf("status of %s: %v, want it not found", scope, err)
		}
	}
}

// A domain is known as long as anything of it counts, and each of its limits
// is shown.
func TestStatusOfADomainWithADailyLimit(t *testing.T) {
	s := newSite(t, scopedLimits)
	s.send(8)
	s.now = s.now.Add(2 * time.Hour)
	d := s.status("a.example").Domains[0]
	want := []operator.Window{{Seconds: 3600, Limit: 100}, {Seconds: 86400, Sent: 8, Limit: 50, Percent: 16}}
	if diff := cmp.Diff(want, d.Windows); diff != "" || d.Hourly != 100 || d.HourlyPercent != 0 {
		t.Errorf("hourly %d (%d%%), -want +got:\n%s", d.Hourly, d.HourlyPercent, diff)
	}
	if all := s.status("").Domains; len(all) != 1 {
		t.Errorf("all domains: %+v", all)
	}
}
