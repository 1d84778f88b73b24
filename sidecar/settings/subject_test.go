package settings

import (
	"slices"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/limit"
	"sluice/sidecar/typed"
)

// A special subject is charged alone. It has its own limit, else that of the domain for
// which it stands, else that of the default scope; system and relay have none of their own.
func TestLimitsOfSpecialSubjects(t *testing.T) {
	c, err := config.Parse("sluice.toml", `
[limits]
hourly = 500
[limits.domain."a.example"]
hourly = 20
[limits.account.alice]
hourly = 7
`)
	if err != nil {
		t.Fatal(err)
	}
	var live []limit.Setting
	for _, scope := range []string{"service:limited", "relay:192.0.2.9", "forward:own.example", "web:bob"} {
		scope, set, err := typed.Settings(scope, []string{"hourly=3"})
		if err != nil {
			t.Fatal(scope, err)
		}
		live = append(live, set...)
	}
	owners := twoTenants(t)
	s, err := New(Sources{Config: c, Live: live}, Host{Node: "node1", EximUser: "exim"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.OwnerMap = owners.OwnerMap
	for scope, want := range map[string]struct {
		title string
		max   int64
	}{
		"system":                  {"System mail", 0},
		"loopback":                {"Loopback mail", 500},
		"service:www-data":        {"Service www-data", 500},
		"service:limited":         {"Service limited", 3},
		"relay:192.0.2.8":         {"Relay 192.0.2.8", 0},
		"relay:192.0.2.9":         {"Relay 192.0.2.9", 3},
		"relay:2001:db8:1:2::/64": {"Relay 2001:db8:1:2::/64", 0},
		"forward:a.example":       {"Forwarder a.example", 20},
		"forward:c.example":       {"Forwarder c.example", 500},
		"forward:own.example":     {"Forwarder own.example", 3},
		"web:alice":               {"Website alice", 20}, // her main domain's, not the account's
		"web:bob":                 {"Website bob", 3},
	} {
		who := s.PayerOfScope(scope)
		subjects := s.AppendSubjects(nil, who)
		if len(subjects) != 1 || subjects[0].Name != scope || len(subjects[0].Limits) != 1 || subjects[0].Limits[0].Max != want.max {
			t.Errorf("%s: charged %+v, want it alone with %d", scope, subjects, want.max)
		}
		if set := s.Decisive("hourly", who.LimitScopes(scope)); want.max > 0 && (set == nil || set.Value != want.max) {
			t.Errorf("%s: set by %+v, want %d", scope, set, want.max)
		}
		if title := sidecar.TitleOf(scope); title != want.title {
			t.Errorf("%s is named %q, want %q", scope, title, want.title)
		}
		if sidecar.IsDomain(scope) {
			t.Errorf("%s passes for a domain, which has lock files", scope)
		}
	}
}

// What commands take as a scope is what is charged, however it is written.
func TestScopesOfSpecialSubjects(t *testing.T) {
	for text, want := range map[string]string{
		"system": "system", "loopback": "loopback", "service:www-data": "service:www-data", "web:bob": "web:bob",
		"relay:::ffff:192.0.2.8": "relay:192.0.2.8", "relay:2001:DB8:1:2:3::4": "relay:2001:db8:1:2::/64", "relay:2001:db8:1:2::/64": "relay:2001:db8:1:2::/64",
		"forward:Bücher.example": "forward:xn--bcher-kva.example",
		"relay:host.example":     "", "service:": "", "forward:a b": "", "forward:": "", "web:": "",
		"service:x@y.example": "service:x@y.example", // a mailbox: no login has an @
	} {
		scope, err := typed.Scope(text)
		if scope != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q, %v, want %q", text, scope, err, want)
		}
	}
}

// The settings of a domain apply to its forwards and to mail that claims its account; who
// is suspended does not go on under another name.
func TestSpecialSubjectsInherit(t *testing.T) {
	s := twoTenants(t)
	for scope, want := range map[string][]string{
		"system":                {"system", "default"},
		"service:www":           {"service:www", "default"},
		"forward:addon.example": {"forward:addon.example", "addon.example", "account:alice", "default"},
		"web:bob":               {"web:bob", "b.example", "account:bob", "default"},
	} {
		if got := s.PayerOfScope(scope).Scopes(); !slices.Equal(got, want) {
			t.Errorf("%s has the settings of %v, want %v", scope, got, want)
		}
	}
}
