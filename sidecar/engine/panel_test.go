package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/settings"
)

// What trips a domain follows its thresholds as they change.
func TestAWatchedOrExemptDomainDoesNotTrip(t *testing.T) {
	s := running(t, quarter)
	for i := range 5 {
		s.failed(s.arrived("a.example"), fmt.Sprintf("x%d@far.example", i), noSuchUser)
	}
	s.wantTripped("a.example", true)
	for _, step := range []struct {
		set     string
		tripped bool
	}{
		{"mode=watch", false}, {"mode=enforce", true}, {"exempt=true", false}, {"exempt=false", true},
		{"deferfail_percent=0", false}, {"deferfail_percent=25", true},
	} {
		s.set("a.example", step.set)
		if !step.tripped && s.tripped("a.example") {
			t.Errorf("%s: the next recipient is refused", step.set)
		}
		s.eventually(step.set, func() bool {
			return s.tripped("a.example") == step.tripped && (s.content("max_deferfail_a.example") != "") == step.tripped
		})
	}
}

// What a panel holds stays in the queue, what it suspends is refused, and what
// was held goes out when the panel lets it.
func TestAPanelHoldsAndSuspends(t *testing.T) {
	t.Parallel() // it waits
	s := running(t, limit20)
	local := sidecar.Request{Stage: sidecar.StageLocal, ID: messageID(s.now), Submitter: sidecar.Submitter{Login: "bob"}, Sender: "bob@a.example", Recipients: "u@far.example"}
	route := local
	route.Stage, route.Recipient = sidecar.StageRoute, "u@far.example"
	ask := func(r sidecar.Request) sidecar.Reply { return s.Ask(context.Background(), s.now, r) }

	s.SetPanel(s.now, settings.Panel{Blocks: map[string]settings.PanelBlock{"account:bob": {Place: "hold_users:1"}}})
	if r := ask(local); r.Action != sidecar.Accept || r.Charged {
		t.Errorf("sendmail on hold: %+v, want it accepted uncharged", r)
	}
	s.want(ask(route), sidecar.Defer, "Account bob is on hold.  Message will be reattempted later [hold_users:1; sluice on node1]")
	s.held("a.example", 1)

	s.SetPanel(s.now, settings.Panel{Blocks: map[string]settings.PanelBlock{"account:bob": {Suspended: true, Place: "suspended_users:1"}}})
	s.want(ask(local), sidecar.Reject, "Account bob has been suspended from sending.  Message discarded. [suspended_users:1; sluice on node1]")
	s.want(ask(route), sidecar.Defer, "Account bob has been suspended")
	if n := len(s.deliveries()); n != 0 {
		t.Errorf("%d delivered while suspended", n)
	}

	s.SetPanel(s.now, settings.Panel{})
	s.eventually("delivery", func() bool { return len(s.deliveries()) > 0 })
	s.want(ask(route), sidecar.Accept, "")
	s.sent("a.example", 1)
}

// Somebody of whom nothing is counted, and who may send nothing, is not unknown.
func TestStatusOfWhomThePanelStops(t *testing.T) {
	s := newSite(t, limit20)
	s.SetPanel(s.now, settings.Panel{Blocks: map[string]settings.PanelBlock{"b.example": {Place: "hold_users:1"}, "account:bob": {Suspended: true, Place: "suspended_users:1"}}})
	if all := s.status("b.example").Domains; len(all) != 1 || !strings.Contains(all[0].Stopped, "Domain b.example is on hold.") {
		t.Errorf("the domain: %+v", all)
	}
	for scope, want := range map[string]string{"x@b.example": "Domain b.example is on hold.", "account:bob": "Account bob has been suspended"} {
		if all := s.status(scope).Scopes; len(all) != 1 || !strings.Contains(all[0].Stopped, want) {
			t.Errorf("%s: %+v, want %q", scope, all, want)
		}
	}
}

// The list of all has whom the panel stops too, and nobody when it stops nobody.
func TestStatusListsWhomThePanelStops(t *testing.T) {
	s := newSite(t, limit20)
	s.SetPanel(s.now, settings.Panel{Blocks: map[string]settings.PanelBlock{"b.example": {Place: "hold_users:1"}, "account:bob": {Suspended: true, Place: "suspended_users:1"}}})
	all := s.status("")
	if len(all.Domains) != 1 || all.Domains[0].Domain != "b.example" || all.Domains[0].StoppedBy != "panel" ||
		len(all.Scopes) != 1 || all.Scopes[0].Scope != "account:bob" || all.Scopes[0].StoppedBy != "panel" {
		t.Errorf("%+v, %+v", all.Domains, all.Scopes)
	}
	s.SetPanel(s.now, settings.Panel{})
	if all := s.status(""); len(all.Domains)+len(all.Scopes) != 0 {
		t.Errorf("%+v, %+v", all.Domains, all.Scopes)
	}
}

// Held mail of somebody who is exempt from then on goes out, and is held no more.
func TestWhatWasHeldGoesOutWhenItIsExempt(t *testing.T) {
	s := running(t, limit20)
	s.send(20)
	held := s.hold("h@far.example")
	s.held("a.example", 1)
	s.set("a.example", "exempt=true")
	s.eventually("delivery", func() bool { return len(s.deliveries()) > 0 })
	s.want(s.Ask(context.Background(), s.now, held), sidecar.Accept, "")
	s.eventually("nothing held", func() bool { return s.outcomes("a.example").Held == 0 })
}

// Of a mailbox on hold, whose account is suspended, 550 speaks before 450.
func TestASuspensionSpeaksBeforeAHold(t *testing.T) {
	s := newSite(t, limit20)
	s.SetPanel(s.now, settings.Panel{Blocks: map[string]settings.PanelBlock{
		"news@a.example": {Place: "hold_users:1"}, "a.example": {Suspended: true, Place: "suspended_users:1"},
	}})
	s.want(s.rcpt("u@far.example", 0), sidecar.Reject, "Domain a.example has been suspended from sending.")
}
