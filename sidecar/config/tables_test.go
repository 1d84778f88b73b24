package config

import (
	"net/netip"
	"strings"
	"testing"
)

// S-04: an exemption names who may say so, and that is never a whole host that is this one.
func TestBadExemptions(t *testing.T) {
	for text, want := range map[string]string{
		"exempt = \"lists.example\"":                                                                            "identity.exempt is \"lists.example\", it must be tables, each written [[identity.exempt]], with",
		"exempt = [\"lists.example\"]":                                                                          "it must be tables; in the 1st \"lists.example\" is none",
		"[[identity.exempt]]\nlogin = \"mailman\"":                                                              "f.toml:2: identity.exempt must be tables; in the 1st there is no sender, a pattern like",
		"[[identity.exempt]]\nsender = \"*@lists.example\"":                                                     "in the 1st nobody is named who may send so: anybody can write a sender; add login, auth or host",
		"[[identity.exempt]]\nsender = \"*\"\nhost = \"127.0.0.1\"":                                             "host is \"127.0.0.1\", which is this host: every program on it could send so; name its login",
		"[[identity.exempt]]\nsender = \"*\"\nhost = \"0.0.0.0/0\"":                                             "which is this host",
		"[[identity.exempt]]\nsender = \"*\"\nhost = \"::1\"":                                                   "which is this host",
		"[[identity.exempt]]\nsender = \"*\"\nhost = \"lists.example\"":                                         "host is \"lists.example\", it must be an address or a network",
		"[[identity.exempt]]\nsender = \"*\"\nlogin = \"a\"\n[[identity.exempt]]\nsender = \"*\"\nuser = \"b\"": "in the 2nd there is an unknown key \"user\"",
		"[[identity.exempt]]\nsender = \"*\"\nlogin = 5":                                                        "login is 5, it must be a text in quotes, not empty",
	} {
		_, err := Parse("f.toml", "[identity]\n"+text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n\tgives the error %v\n\twant %s", text, err, want)
		}
	}
}

func TestAnExemptionForAnAddressOfThisHost(t *testing.T) {
	c, err := Parse("f.toml", "[[identity.exempt]]\nsender = \"*\"\nhost = \"192.0.2.0/24\"\n[[identity.exempt]]\nsender = \"*\"\nhost = \"198.51.100.7\"\n")
	if err != nil {
		t.Fatal(err)
	}
	own := netip.MustParseAddr("198.51.100.7")
	err = c.CheckExempt(func(ip netip.Addr) bool { return ip == own })
	if err == nil || !strings.Contains(err.Error(), "in the 2nd of identity.exempt host is 198.51.100.7, which is an address of this host") {
		t.Errorf("accepted, or refused with %v", err)
	}
	if err := c.CheckExempt(func(netip.Addr) bool { return false }); err != nil {
		t.Errorf("on another host it is refused: %v", err)
	}
}

// A key of an earlier version is refused, and what to do about it is said.
func TestReplacedKeys(t *testing.T) {
	for text, want := range map[string]string{
		"[listen]\nhttp = \"\"":           "unknown key \"http\" in [listen]; metrics are on the admin socket and on listen.metrics, and no page is served, so take it out",
		"[identity]\nexempt_senders = []": "unknown key \"exempt_senders\" in [identity]; anybody can write a sender",
	} {
		if _, err := Parse("f.toml", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
