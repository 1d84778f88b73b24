package policy

import (
	"testing"

	"sluice/sidecar"
)

// A mailbox is told of one of its own domain, and of no other's: accounts, of which the limit
// is one for all of their domains, may have sold them to strangers.
func TestWhoMayBeTold(t *testing.T) {
	for name, c := range map[string]struct {
		who  sidecar.Payer
		key  string
		want bool
	}{
		"a colleague":                {sidecar.Payer{Domain: "a.example", Mailbox: "info@a.example"}, "hacked@a.example", true},
		"himself":                    {sidecar.Payer{Domain: "a.example", Mailbox: "info@a.example"}, "info@a.example", true},
		"a mailbox of another":       {sidecar.Payer{Domain: "b.example", Mailbox: "info@b.example", Account: "bob"}, "hacked@a.example", false},
		"a script, to a mailbox":     {sidecar.Payer{Domain: "a.example", Mailbox: "info@a.example"}, "script:/home/bob/x@a.example", false},
		"a forwarder, to a mailbox":  {sidecar.Payer{Domain: "a.example", Mailbox: "info@a.example"}, "forward:info@a.example", false},
		"a login of the account":     {sidecar.Payer{Domain: "a.example", Account: "bob"}, "hacked@a.example", false},
		"whoever forwards":           {sidecar.Payer{Special: "forward:a.example", Domain: "a.example"}, "hacked@a.example", false},
		"a client without any claim": {sidecar.Payer{Special: "relay:192.0.2.1"}, "hacked@a.example", false},
	} {
		q := question{who: c.who}
		if got := q.mayTell(sidecar.Culprit{Author: sidecar.Author{Key: c.key}, Count: 1, Of: 1}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
