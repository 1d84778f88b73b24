package envelope

import "testing"

// Each spelling of a domain folds to one name, also where a label of it is no name that could be
// registered: those of hosts have underscores and hyphens anywhere.
func TestFoldDomain(t *testing.T) {
	for spelled, want := range map[string]string{
		"B\u00dcCHER.Example.":            "xn--bcher-kva.example",
		"bu\u0308cher\u3002example\uff0e": "xn--bcher-kva.example",
		"XN--BCHER-KVA.b\u00fccher":       "xn--bcher-kva.xn--bcher-kva",
		"mail_1.b\u00fccher.example":      "mail_1.xn--bcher-kva.example",
		"r3---x.b\u00fccher.example":      "r3---x.xn--bcher-kva.example",
		"ab--c.b\u00fccher.example":       "ab--c.xn--bcher-kva.example",
		"-a-.b\u00fccher.example":         "-a-.xn--bcher-kva.example",
		"1.\u0645\u062b\u0627\u0644.com":  "1.xn--mgbh0fb.com",
		"i\u2764.ws":                      "xn--i-7iq.ws",
		"stra\u00dfe.example":             "xn--strae-oqa.example",
		"\u24d0.example":                  "a.example",
		"a b.b\u00fccher.example":         "a b.xn--bcher-kva.example",
	} {
		if got := FoldDomain(spelled); got != want {
			t.Errorf("%q: %q, want %q", spelled, got, want)
		}
	}
}
