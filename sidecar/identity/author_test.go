package identity

import (
	"net/netip"
	"strings"
	"testing"

	"sluice/sidecar"
)

// Exactly one author per message, by what is known of it and never by what it says of itself.
func TestAuthor(t *testing.T) {
	options := Options{Relay: []Relay{{Hosts: netip.MustParsePrefix("192.0.2.0/28")}}, Proxies: []string{"proxy"}, Reinject: []string{"filter"}}
	shared, plain := newRules(t, options, true), newRules(t, options, false)
	long := "/home/alice/" + strings.Repeat("x", 300)
	for _, c := range []struct {
		what           string
		letter         letter
		tenants, alone string // with an owner map, and without one
	}{
		{"a mailbox", auth("News@A.example", "x@b.example"), "news@a.example proven alice", "news@a.example proven"},
		{"a panel's form of a login", auth("news+a.example", ""), "news@a.example proven alice", "login:news+a.example proven"},
		{"a mailbox with a byte that is no text", auth("x\x1b@a.example", ""), `x\x1b@a.example proven alice`, `x\x1b@a.example proven`},
		{"a login by AUTH", auth("alice", ""), "login:alice proven alice", "login:alice proven"},
		{"a script", program("alice", "").in("/home/alice/public_html/wp"), "script:/home/alice/public_html/wp claimed alice", "script:/home/alice/public_html/wp claimed"},
		{"a script's sender says nothing", program("alice", "x@b.example").in("/home/alice/wp"), "script:/home/alice/wp claimed alice", "script:/home/alice/wp claimed"},
		{"chdir() to a neighbour", program("alice", "").in("/home2/bob/wp"), "login:alice proven alice", "script:/home2/bob/wp claimed"},
		{"a login somewhere", program("alice", "").in("/tmp"), "login:alice proven alice", "script:/tmp claimed"},
		{"a login at the root", program("alice", "").in("/"), "login:alice proven alice", "login:alice proven"},
		{"a web server in a home", program("www", "").in("/home/alice/wp"), "script:/home/alice/wp claimed alice", "script:/home/alice/wp claimed"},
		{"a web server that contradicts itself", program("www", "x@b.example").in("/home/alice/wp"), "service:www none", "script:/home/alice/wp claimed"},
		{"a web server elsewhere", program("www", ""), "service:www none", "login:www proven"},
		{"root in a home", uid("0", "").in("/home/alice"), "service:root none", "service:root none"},
		{"a program's connection", socket("1000", "").in("/home/alice"), "login:alice proven alice", "login:alice proven"},
		{"a container", from(sidecar.Submitter{ClientAddress: "198.51.100.7"}, ""), "loopback none", "loopback none"},
		{"a relay", client("192.0.2.9", "x@free.example"), "client:192.0.2.9 proven", "client:192.0.2.9 proven"},
		{"a relay of IPv6", client("2001:db8::9", ""), "client:2001:db8::/64 proven", "client:2001:db8::/64 proven"},
		{"a forwarder", client("203.0.113.1", "s@strange.example").over("Info@A.example").at(sidecar.StageRoute), "forward:info@a.example proven alice", "forward:info@a.example proven"},
		{"a forwarder that only changes case", client("203.0.113.1", "").to("r@far.example").over("R@far.example").at(sidecar.StagePostfixEnd), "", ""},
		{"a bounce through a forwarder", program("exim", "").over("info@b.example"), "forward:info@b.example proven bob", "forward:info@b.example proven"},
		{"a neighbour's mail to a forwarder", auth("x@b.example", "").over("info@a.example"), "x@b.example proven bob", "x@b.example proven"},
		{"from outside", client("203.0.113.1", "x@a.example").at(sidecar.StagePostfixEnd), "", ""},
		{"a bounce", program("exim", ""), "", ""},
		{"bytes that are no text", program("alice", "").in("/home/alice/\x1b[31m\\x1b\n\xff"), `script:/home/alice/\x1b[31m\x5cx1b\x0a\xff claimed alice`,
			`script:/home/alice/\x1b[31m\x5cx1b\x0a\xff claimed`},
		{"a long name", program("alice", "").in(long), sidecar.AuthorKey(sidecar.ScriptPrefix, long) + " claimed alice", sidecar.AuthorKey(sidecar.ScriptPrefix, long) + " claimed"},
	} {
		for rules, want := range map[*Rules]string{shared: c.tenants, plain: c.alone} {
			_, a := rules.Identify(&c.letter.Request)
			got := strings.TrimSpace(a.Key + " " + a.Proof.String() + " " + a.Account)
			if a.Key == "" {
				got = a.Account
			}
			if got != want {
				t.Errorf("%s is by %q, want %q", c.what, got, want)
			}
		}
	}
}
