package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar/history"
	"sluice/sidecar/operator"
	"sluice/sidecar/settings"
	"sluice/sidecar/typed"
)

// Typos of scopes: what cannot be meant is an error, what is only unknown is
// done with a warning, and what is known is done.
func TestTyposOfScopes(t *testing.T) {
	owners := filepath.Join(t.TempDir(), "userdomains")
	if err := os.WriteFile(owners, []byte("shop.example: bob\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, limit20+"[limits.domain.\"limited.example\"]\nhourly = 5\n[identity]\nowners = \""+owners+"\"\n")
	s.send(1) // of a.example
	for scope, want := range map[string]string{
		"default": "", "a.example": "", "x@a.example": "", "shop.example": "", "account:bob": "", "limited.example": "",
		"local.example": "", "node1": "",
		"shop":             "error: shop is no domain that is known here, and has no dot; did you mean shop.example?",
		"bob":              "error: bob is no domain that is known here, and has no dot; did you mean account:bob?",
		"x@shop":           "error: shop is no domain that is known here, and has no dot",
		"192.0.2.1":        "error: 192.0.2.1 is no domain that is known here, and ends like an address; a host that may relay has limits as relay:192.0.2.1, and `sluice stop client:192.0.2.1` stops it",
		"x@10.0.2":         "error: 10.0.2 is no domain that is known here, and ends like an address",
		"shp.example":      "nothing of shp.example is counted or limited so far, and nobody is known to own it; did you mean shop.example?",
		"account:bbo":      "nothing of account:bbo is counted or limited so far, and nobody is known to own it; did you mean account:bob?",
		"far-away.example": "nothing of far-away.example is counted or limited so far, and nobody is known to own it",
	} {
		r, err := s.Change(context.Background(), s.now, history.Edit{Scope: scope, Set: []string{"hourly=7"}, Preview: true})
		got := r.Warning
		if err != nil {
			got = "error: " + err.Error()
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" || want == "" && err != nil {
			t.Errorf("set %s: %q, want %q", scope, got, want)
		}
		if strings.ContainsAny(scope, ":@") || scope == "default" {
			continue
		}
		warning, err := s.Lock(context.Background(), s.now, scope, "root")
		if err != nil {
			warning = "error: " + err.Error()
		}
		if warning != got {
			t.Errorf("lock %s: %q, want as for set: %q", scope, warning, got)
		}
		if made := s.content("max_hourly_"+scope) != ""; made == strings.HasPrefix(want, "error") {
			t.Errorf("lock %s: a lock file is there: %v", scope, made)
		}
	}
	if err := s.Unlock(context.Background(), s.now, "shpo.example", "root"); !errors.Is(err, typed.ErrNotFound) || !strings.HasSuffix(err.Error(), "; did you mean shop.example?") {
		t.Errorf("unlock: %v", err)
	}
}

// What trips a domain is not set for a mailbox: it would have no effect.
func TestAMailboxHasNoTrip(t *testing.T) {
	s := newSite(t, limit20)
	for _, key := range []string{"deferfail_percent", "deferfail_min"} {
		want := key + " is not for a mailbox: a domain is locked as a whole for what becomes of its mail; set it for a.example"
		if _, err := s.Change(context.Background(), s.now, history.Edit{Scope: "news@a.example", Set: []string{key + "=3"}}); err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	s.set("a.example", "deferfail_percent=7")
	s.set("news@a.example", "deferfail_ignore=greylist")
	e, err := s.Explain(s.now, "news@a.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range e.Values {
		if v.Key == "deferfail_percent" && (v.Of != "a.example" || v.Value != int64(7)) {
			t.Errorf("%+v", v)
		}
	}
}

// Whom the panel stops, unlock does not release, and says who can.
func TestUnlockOfWhomThePanelStops(t *testing.T) {
	s := newSite(t, limit20)
	s.SetPanel(s.now, settings.Panel{Blocks: map[string]settings.PanelBlock{"a.example": {Place: "/etc/hold_users:1"}, "b.example": {Suspended: true, Place: "/etc/suspended:2"}}})
	if _, err := s.Lock(context.Background(), s.now, "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]string{"a.example": "/etc/hold_users:1 holds it", "b.example": "/etc/suspended:2 suspends it"} {
		err := s.Unlock(context.Background(), s.now, domain, "root")
		if !errors.Is(err, operator.ErrBlockedByPanel) || !strings.Contains(err.Error(), want) {
			t.Errorf("unlock %s: %v, want %q", domain, err, want)
		}
	}
	if s.content(aLock) != "" {
		t.Error("the lock by hand is still there")
	}
	s.SetPanel(s.now, settings.Panel{})
	s.send(1)
	if err := s.Unlock(context.Background(), s.now, "a.example", "root"); err != nil {
		t.Error(err)
	}
}
