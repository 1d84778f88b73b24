package identity

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/domains"
)

// newRules returns rules of a host with the address 198.51.100.7. With tenants it has the
// accounts alice and bob, of whom alice has an addon domain.
func newRules(t *testing.T, o Options, tenants bool) *Rules {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	o.Node, o.EximUser, o.MXDomains = "mx1.host.example", "exim", []string{"mx-for.example"}
	o.Own = func(ip netip.Addr) bool { return ip == netip.MustParseAddr("198.51.100.7") }
	r, err := New(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	owners, main := "", ""
	if tenants {
		owners = write("userdomains", "a.example: alice\nAddon.example: alice\nxn--bcher-kva.example: alice\nb.example: bob\n*: nobody\n")
		main = write("trueuserdomains", "a.example: alice\nb.example: bob\n")
	}
	r.OwnerMap = domains.FollowOwners(domains.OwnerFiles{Owners: owners, Main: main, Passwd: write("passwd", "root:x:0:0::/root:/bin/sh\nexim:x:102:106::/:/bin/false\nwww:x:33:33::/srv:/bin/false\n"+
		"filter:x:34:34::/:/bin/false\nproxy:x:35:35::/:/bin/false\nmailman:x:36:36::/:/bin/false\nmonitor:x:37:37::/:/bin/false\n"+
		"alice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/home2/bob/:/bin/sh\n"),
		SubUID: write("subuid", "alice:100000:65536\n1001:165536:65536\nroot:1000000:1000000000\nnobody-knows:300000:10\nbroken:x:1\n")})
	if err := r.Refresh(); err != nil {
		t.Fatal(err)
	}
	return r
}

// payer is who pays for a letter, in short: what is charged, and the account and mailbox if
// they are known.
func payer(r *Rules, l letter) string {
	who, _ := r.Identify(&l.Request)
	class := map[sidecar.Class]string{sidecar.Nobody: "nobody", sidecar.Inbound: "inbound", sidecar.Exempt: "exempt", sidecar.Notice: "notice"}[who.Class]
	return strings.Join(strings.Fields(strings.Join([]string{class, who.Subject(), who.Account, who.Mailbox}, " ")), " ")
}

// A letter is a message as its source sends it.
type letter struct{ sidecar.Request }

func from(by sidecar.Submitter, sender string) letter {
	return letter{sidecar.Request{Stage: sidecar.StageRoute, Submitter: by, Sender: sender, Recipient: "r@far.example"}}
}

func auth(id, sender string) letter {
	return from(sidecar.Submitter{Auth: id, ClientAddress: "203.0.113.5"}, sender)
}

func program(login, sender string) letter { return from(sidecar.Submitter{Login: login}, sender) }

func uid(uid, sender string) letter {
	return from(sidecar.Submitter{UID: uid, Login: "anybody"}, sender)
}

func client(address, sender string) letter {
	return from(sidecar.Submitter{ClientAddress: address}, sender)
}

func socket(uid, sender string) letter {
	l := client("127.0.0.1", sender)
	l.Socket = "uid:" + uid
	return l
}

func (l letter) in(directory string) letter { l.CWD = directory; return l }

func (l letter) script(header string) letter { l.Script = header; return l }

func (l letter) over(original string) letter { l.Original = original; return l }

func (l letter) to(recipient string) letter { l.Recipient = recipient; return l }

func (l letter) at(stage sidecar.Stage) letter { l.Stage = stage; return l }

func (l letter) proxied(end, owner string) letter {
	l.ProxyAddress, l.Socket = end, owner
	return l
}

// saying is a letter of whose submitter an authenticated id is said.
func (l letter) saying(id string) letter {
	l.Auth = id
	return l
}

// A payerCase is a message, and who pays for it.
type payerCase struct {
	name string
	letter
	want string
}

func check(t *testing.T, r *Rules, cases []payerCase) {
	t.Helper()
	for _, c := range cases {
		if got := payer(r, c.letter); got != c.want {
			t.Errorf("%s: charged %q, want %q", c.name, got, c.want)
		}
	}
}

// Users whom Exim trusts can say an authenticated id. It counts only where that changes nothing.
func TestWhatIsSaidOfAuthentication(t *testing.T) {
	check(t, newRules(t, Options{}, true), []payerCase{
		{"-oMai of a login that Exim trusts", uid("33", "x@a.example").saying("joe@b.example"), "service:www"},
		{"-oMai, in the log", program("www", "x@a.example").saying("joe@b.example"), "service:www"},
		{"-oMai with a login", uid("33", "x@a.example").saying("bob"), "service:www"},
		{"-oMai of an account, another's", uid("1000", "x@a.example").saying("joe@b.example"), "a.example alice"},
		{"-oMai or AUTH of an account, its own", uid("1000", "x@b.example").saying("joe+addon.example"), "addon.example alice joe@addon.example"},
		{"-oMai of root", uid("0", "x@a.example").saying("joe@b.example"), "b.example bob joe@b.example"},
		{"-oMai of the mail server", program("exim", "x@a.example").saying("joe@b.example"), "b.example bob joe@b.example"},
	})
}

// Who has many user ids has one limit all the same.
func TestLentUserIDs(t *testing.T) {
	check(t, newRules(t, Options{}, true), []payerCase{
		{"socket of a uid that is lent to an account", socket("100001", "x@b.example"), "a.example alice"},
		{"socket of a uid that is lent to an account's uid", socket("231071", ""), "b.example bob"},
		{"socket of a uid behind those", socket("231072", "x@b.example"), "service:231072"},
		{"socket of a uid that is lent to root", socket("1000001", "x@b.example"), "service:1000001"},
		{"socket of a uid that is lent to nobody", socket("300001", "x@b.example"), "service:300001"},
	})
}

// Each row of the two tables in docs/flow.md, on a host with an owner map: whatever the
// sender says, nobody spends what is another's, and nothing from here passes unpaid.
func TestWhoPaysWithAnOwnerMap(t *testing.T) {
	r := newRules(t, Options{
		Relay: []Relay{{Hosts: netip.MustParsePrefix("192.0.2.0/28")}, {Hosts: netip.MustParsePrefix("192.0.2.16/28"), AnyName: true},
			{Hosts: netip.MustParsePrefix("198.51.100.0/29"), ByExim: true}, {Hosts: netip.MustParsePrefix("198.51.100.7/32"), ByExim: true}},
		Proxies: []string{"proxy"}, Reinject: []string{"filter"}, System: []string{"monitor"},
	}, true)
	check(t, r, []payerCase{
		{"AUTH", auth("news@addon.example", "x@addon.example"), "addon.example alice news@addon.example"},
		{"AUTH, another's sender", auth("news@a.example", "x@b.example"), "a.example alice news@a.example"},
		{"AUTH, null sender", auth("news@a.example", ""), "a.example alice news@a.example"},
		{"AUTH of an account", auth("bob", "x@b.example"), "b.example bob"},
		{"AUTH of an account, another's sender", auth("bob", "x@a.example"), "b.example bob"},
		{"AUTH of an account, null sender", auth("bob", ""), "b.example bob"},
		{"AUTH of an account in capitals", auth("BOB", "x@a.example"), "b.example bob"},
		{"AUTH of nobody's account", auth("www", "x@a.example"), "service:www"},
		{"AUTH from this host: webmail", auth("news@a.example", "x@b.example").proxied("", "uid:33"), "a.example alice news@a.example"},

		{"login, own domain", program("alice", "x@a.example"), "a.example alice"},
		{"login, addon domain", program("alice", "x@addon.example"), "addon.example alice"},
		{"login, -f with another's domain", program("alice", "x@b.example"), "a.example alice"},
		{"login, -f with nobody's domain", program("alice", "x@gmail.example"), "a.example alice"},
		{"login, null sender", program("alice", ""), "a.example alice"},
		{"login, whatever -oMt says", uid("1000", "x@b.example"), "a.example alice"},
		{"login without a name", program("", "x@a.example"), "service:unknown"},

		{"socket", socket("1000", "x@b.example"), "a.example alice"},
		{"socket, null sender (S-01)", socket("1000", ""), "a.example alice"},
		{"socket of a uid without a name", socket("4711", "x@a.example"), "service:4711"},
		{"loopback, nobody's socket", client("127.0.0.1", "x@a.example"), "loopback"},
		{"loopback, null sender (S-01)", client("127.0.0.1", ""), "loopback"},
		{"loopback of IPv6, null sender", client("::1", ""), "loopback"},
		{"loopback of Postfix, null sender (S-01)", client("127.0.0.1", "").at(sidecar.StagePostfixRcpt), "loopback"},
		{"loopback by the milter, null sender", client("127.0.0.1", "").at(sidecar.StageMilterEnd), "loopback"},
		{"own address (A-06)", client("198.51.100.7", "x@a.example"), "loopback"},
		{"loopback, another address of it", client("127.8.9.1", ""), "loopback"},
		{"loopback, IPv4 in IPv6", client("::FFFF:7F00:1", ""), "loopback"},
		{"own address, IPv4 in IPv6", client("::ffff:198.51.100.7", ""), "loopback"},
		{"container", client("127.0.0.1", "x@a.example").proxied("", sidecar.SocketLoopback), "loopback"},

		{"proxy that is not believed", client("203.0.113.5", "x@a.example").proxied("127.0.0.1", "uid:1001"), "b.example bob"},
		{"proxy that is believed", client("203.0.113.5", "x@a.example").to("r@mx-for.example").proxied("127.0.0.1", "uid:35"), "inbound"},
		{"proxy that is believed, with a relay's address", client("192.0.2.17", "x@b.example").proxied("127.0.0.1", "uid:35"), "b.example bob"},
		{"proxy in a container, with a relay's address", client("192.0.2.17", "x@b.example").proxied("127.0.0.1", sidecar.SocketLoopback), "loopback"},
		{"proxy in a container, at its delivery", client("192.0.2.17", "x@b.example").proxied("", sidecar.SocketLoopback), "loopback"},
		{"proxy that has gone, with a relay's address", client("192.0.2.17", "x@b.example").proxied("127.0.0.1", sidecar.SocketGone), "loopback"},
		{"proxy on another host", client("192.0.2.17", "x@b.example").proxied("203.0.113.9", ""), "b.example bob"},
		{"content filter", socket("34", "x@a.example"), "inbound"},

		{"relay, nobody's domain", client("192.0.2.1", "x@free.example"), "free.example"},
		{"relay, a tenant's domain", client("192.0.2.1", "x@a.example"), "relay:192.0.2.1"},
		{"relay, any name", client("192.0.2.17", "x@a.example"), "a.example alice"},
		{"relay, any name, null sender", client("192.0.2.17", ""), "relay:192.0.2.17"},
		{"relay, null sender", client("192.0.2.1", ""), "relay:192.0.2.1"},
		{"relay of Exim's list", client("198.51.100.6", "x@free.example"), "free.example"},
		{"this host, in Exim's list, with a name of nobody's", client("198.51.100.7", "x@free.example"), "loopback"},
		{"a container of this host, in Exim's list", client("198.51.100.7", "x@free.example").proxied("", sidecar.SocketLoopback), "loopback"},
		{"relay that is not listed", client("203.0.113.5", "x@a.example"), "relay:203.0.113.5"},
		{"relay that is not listed, null sender", client("203.0.113.5", "").at(sidecar.StageData), "relay:203.0.113.5"},
		{"relay that is not listed, of IPv6", client("2001:db8:1:2:3::4", "x@a.example"), "relay:2001:db8:1:2::/64"},

		{"root", program("root", "root@mx1.host.example"), "system"},
		{"root, null sender", uid("0", ""), "system"},
		{"root, nobody's domain", socket("0", "x@free.example"), "system"},
		{"root, a tenant's domain", program("root", "x@a.example"), "service:root"},
		{"a login of the system's", program("monitor", "alarm@host.example"), "system"},
		{"a login of the system's, a tenant's domain", program("monitor", "x@a.example"), "service:monitor"},

		{"web server", program("www", "x@a.example").in("/srv/www"), "service:www"},
		{"web server, null sender", program("www", "").in("/srv/www"), "service:www"},
		{"web server over SMTP", socket("33", "x@a.example"), "service:www"},
		{"web server in a home", program("www", "x@free.example").in("/home/alice/public_html/shop"), "web:alice alice"},
		{"web server in a home, all agree", program("www", "x@addon.example").in("/home/alice").script("1000:mail.php"), "web:alice alice"},
		{"chdir into a neighbour (S-05)", program("www", "x@a.example").in("/home2/bob").script("1000:mail.php"), "service:www"},
		{"chdir into a neighbour, his sender, my script", program("www", "x@b.example").in("/home2/bob").script("1000:mail.php"), "service:www"},
		{"chdir into a neighbour, my sender", program("www", "x@a.example").in("/home2/bob"), "service:www"},
		{"a script of the web server's", program("www", "x@b.example").in("/home2/bob").script("33:mail.php"), "web:bob bob"},

		{"bounce of Exim's own", program("exim", ""), "nobody"},
		{"bounce without a login", program("", ""), "nobody"},
		{"sendmail by the milter", program("", "x@a.example").at(sidecar.StageMilterEnd), "service:unknown"},
		{"sendmail by the milter, null sender", program("", "").at(sidecar.StageMilterEnd), "service:unknown"},
		{"sendmail by the milter, null sender, before", program("", "").at(sidecar.StageMilterRcpt), "service:unknown"},
		{"not a bounce of Exim's own", program("exim", "x@a.example"), "service:exim"},
		{"a null sender over Exim's socket", socket("102", ""), "service:exim"},

		{"inbound", client("203.0.113.5", "who@else.example").to("r@mx-for.example"), "inbound"},
		{"inbound to Postfix", client("203.0.113.5", "who@else.example").at(sidecar.StagePostfixRcpt), "inbound"},
		{"forward from outside", client("203.0.113.5", "who@else.example").over("f@addon.example"), "forward:addon.example alice"},
		{"forward from outside, null sender (A-12)", client("203.0.113.5", "").over("f@addon.example"), "forward:addon.example alice"},
		{"forward of another's mail", auth("news@b.example", "x@b.example").over("f@a.example"), "forward:a.example alice"},
		{"forward of one's own mail", auth("news@a.example", "x@a.example").over("f@addon.example"), "a.example alice news@a.example"},
		{"forward of what claims to be one's own", program("www", "").in("/home/alice").over("f@a.example"), "web:alice alice"},
		{"forward of a relay's", client("192.0.2.1", "").over("f@a.example"), "forward:a.example alice"},
		{"forward of a bounce of Exim's own", program("exim", "").over("list@a.example"), "forward:a.example alice"},
		{"forward of an alarm", program("root", "").over("root@mx1.host.example"), "system"},
	})
}

// a bounce that returns along SRS is nobody's, as if it had gone to its recipient at
// once. What only looks so is a forward.
func TestBouncesThatReturnAlongSRS(t *testing.T) {
	r := newRules(t, Options{}, true)
	bounce := func(original, recipient string) letter {
		return client("203.0.113.5", "").over(original).to(recipient)
	}
	const forward = "forward:a.example alice"
	check(t, r, []payerCase{
		{"SRS0", bounce("SRS0=ab12=XY=else.example=who@a.example", "who@else.example"), "inbound"},
		{"SRS0 with +, in capitals", bounce("srs0+ab12=xy=ELSE.example=Who@a.example", "who@else.example"), "inbound"},
		{"SRS0, a local part with =", bounce("SRS0=ab12=XY=else.example=who=x@a.example", "who=x@else.example"), "inbound"},
		{"SRS1", bounce("SRS1=cd=relay.example==ab12=XY=else.example=who@a.example", "SRS0=ab12=XY=else.example=who@relay.example"), "inbound"},
		{"another recipient", bounce("SRS0=ab12=XY=else.example=who@a.example", "victim@else.example"), forward},
		{"another domain", bounce("SRS0=ab12=XY=else.example=who@a.example", "who@far.example"), forward},
		{"SRS1, another host", bounce("SRS1=cd=relay.example==ab12=XY=else.example=who@a.example", "SRS0=ab12=XY=else.example=who@far.example"), forward},
		{"SRS1 with -", bounce("SRS1-cd=relay.example=-ab12=XY=else.example=who=x@a.example", "SRS0-ab12=XY=else.example=who=x@relay.example"), "inbound"},
		{"SRS0, a domain in its other spelling", bounce("SRS0=ab=XY=b\u00fccher.example=who@a.example", "who@xn--bcher-kva.example"), "inbound"},
		{"SRS0, BATV", bounce("SRS0=ab=XY=else.example=prvs=0123456789=who@a.example", "prvs=0123456789=who@else.example"), "inbound"},
		{"SRS1, another SRS0", bounce("SRS1=cd=relay.example==ab12=XY=else.example=who@a.example", "SRS0=ab12=XY=else.example=victim@relay.example"), forward},
		{"SRS1, behind SRS0 something else", bounce("SRS1=cd=relay.example==ab12=XY=else.example=who@a.example", "srs0victim@relay.example"), forward},
		{"SRS1 that goes to somebody", bounce("SRS1=cd=relay.example==who@a.example", "who@relay.example"), forward},
		{"too short", bounce("SRS0=else.example=who@a.example", "who@else.example"), forward},
		{"another name", bounce("bounce-who=else.example@a.example", "who@else.example"), forward},
		{"no bounce", client("203.0.113.5", "x@spam.example").over("SRS0=ab12=XY=else.example=who@a.example").to("who@else.example"), forward},
		{"a tenant's null sender", auth("news@b.example", "").over("SRS0=ab12=XY=else.example=who@a.example").to("who@else.example"), "b.example bob news@b.example"},
	})
}

// Without an owner map the sender's domain pays, whoever the login is; where it names none,
// the origin pays by itself.
func TestWhoPaysWithoutAnOwnerMap(t *testing.T) {
	r := newRules(t, Options{Relay: []Relay{{Hosts: netip.MustParsePrefix("192.0.2.0/28")}}}, false)
	check(t, r, []payerCase{
		{"AUTH", auth("news@a.example", "x@b.example"), "a.example news@a.example"},
		{"AUTH without a domain", auth("bob", "x@b.example"), "b.example bob"},
		{"AUTH without a domain, null sender", auth("bob", ""), "service:bob"},
		{"login", program("alice", "x@b.example"), "b.example alice"},
		{"login, null sender", program("alice", ""), "service:alice"},
		{"socket", socket("1000", "x@b.example"), "b.example alice"},
		{"web server in a home", program("www", "x@b.example").in("/home/alice"), "b.example www"},
		{"root in the host's name", program("root", "root@mx1.host.example"), "system"},
		{"root without a sender", program("root", ""), "system"},
		{"root in another name", program("root", "x@a.example"), "a.example root"},
		{"relay", client("192.0.2.1", "x@a.example"), "a.example"},
		{"relay, null sender", client("192.0.2.1", ""), "relay:192.0.2.1"},
		{"forward of another's mail", auth("news@b.example", "x@b.example").over("f@a.example"), "forward:a.example"},
		{"forward of one's own mail", auth("news@a.example", "x@a.example").over("f@a.example"), "a.example news@a.example"},
	})
}

// one login and one domain have one budget, however they are spelt. What is no
// domain is not believed: the login pays by itself, and what claims it is nobody's.
func TestSpellings(t *testing.T) {
	r := newRules(t, Options{Relay: []Relay{{Hosts: netip.MustParsePrefix("192.0.2.0/28"), AnyName: true}}}, true)
	for _, id := range []string{
		"info@a.example", "INFO@A.Example", "info@a.example.", "info@a.example..", "info@a.example\u3002", "info@a\u3002example", "info@a\uff0eexample\uff61.",
		"info@a.example ", "info@ a.example", "info@\u3000a.example\u3000", "info@a.example. .", "info@a.ex\u00adample", "info@\uff41.example",
		"info@\u200ba.example", "info@a.example\u00a0", "info@a.example\u2028", "info@a.example\u0085",
		"info+a.example", "info%a.example", "info:a.example", "Info%A.example.", "info:a\u3002example",
	} {
		if got := payer(r, auth(id, "x@b.example")); got != "a.example alice info@a.example" {
			t.Errorf("AUTH of %q is charged to %q", id, got)
		}
	}
	for _, id := range []string{"a@b\u00fccher.example", "a@B\u00dcCHER.example", "a@bu\u0308cher.example", "a%b\u00fccher.example", "a@XN--BCHER-KVA.example"} {
		if got := payer(r, auth(id, "")); got != "xn--bcher-kva.example alice a@xn--bcher-kva.example" {
			t.Errorf("AUTH of %q is charged to %q", id, got)
		}
	}
	long := strings.Repeat("a.", 126) + "aa"
	for _, domain := range []string{
		"", "\u00ad", "\u3002", ".", "..", " ", "a..example", ".a.example", "a b.example", "a/b.example", "x:y", "a.example:25", "[192.0.2.1]",
		"system", "loopback", "default", "forward:a.example", long, strings.Repeat("a", 64) + ".example", "a\x00.example", "\xff.example",
	} {
		if got := payer(r, auth("x@"+domain, "y@b.example")); got != "service:x" {
			t.Errorf("AUTH of x@%q is charged to %q", domain, got)
		}
		if got := payer(r, program("www", "x@"+domain)); got != "service:www" {
			t.Errorf("a web server's mail from x@%q is charged to %q", domain, got)
		}
		if got := payer(r, client("192.0.2.1", "x@"+domain)); got != "relay:192.0.2.1" {
			t.Errorf("a relay's mail from x@%q is charged to %q", domain, got)
		}
	}
	for _, id := range []string{"bob", "BOB", "bob ", " Bob", "bob\t"} {
		if got := payer(r, auth(id, "x@a.example")); got != "b.example bob" {
			t.Errorf("AUTH of %q is charged to %q", id, got)
		}
	}
	if got := payer(r, auth("info+nobodys.example", "x@b.example")); got != "service:info+nobodys.example" {
		t.Errorf("a login with a + is charged to %q", got)
	}
}

// S-04, A-07: a sender alone exempts nobody; who may say so must send it.
func TestExemptions(t *testing.T) {
	r := newRules(t, Options{
		Relay: []Relay{{Hosts: netip.MustParsePrefix("192.0.2.1/32")}, {Hosts: netip.MustParsePrefix("198.51.100.0/24")}},
		Exempt: []Exemption{
			{Sender: "*-bounces*@lists.example", Login: "mailman"},
			{Sender: "owner@a.example", Auth: "lists@a.example"},
			{Sender: "club@a.example", Auth: "Club+A.example"},
			{Sender: "bob@b.example", Auth: "BOB"},
			{Sender: "*@quiet.example", Hosts: netip.MustParsePrefix("192.0.2.1/32")},
			{Sender: "<>", Login: "monitor"},
			{Sender: "*@quiet.example", Hosts: netip.MustParsePrefix("198.51.100.0/24")},
		},
		ExemptLogins: []string{"filter"},
	}, true)
	check(t, r, []payerCase{
		{"list software", program("mailman", "ann-bounces@lists.example"), "exempt service:mailman"},
		{"list software with VERP (A-07)", socket("36", "ann-bounces+bob=far.example@LISTS.example"), "exempt service:mailman"},
		{"list software, another sender", socket("36", "ann@lists.example"), "service:mailman"},
		{"its sender, forged by sendmail (S-04)", program("alice", "ann-bounces@lists.example"), "a.example alice"},
		{"its sender, forged by AUTH (S-04)", auth("eva@a.example", "ann-bounces@lists.example"), "a.example alice eva@a.example"},
		{"its sender, forged over the loopback", client("127.0.0.1", "ann-bounces@lists.example"), "loopback"},
		{"AUTH", auth("lists@a.example", "Owner@A.example"), "exempt a.example alice lists@a.example"},
		{"AUTH, another spelling", auth("Lists%a.example", "owner@a.example"), "exempt a.example alice lists@a.example"},
		{"AUTH, written as panels take it", auth("club@a.example", "club@a.example"), "exempt a.example alice club@a.example"},
		{"AUTH, written as panels take it, and so it logs in", auth("club%a.example", "club@a.example"), "exempt a.example alice club@a.example"},
		{"AUTH of an account, in capitals", auth("bob", "bob@b.example"), "exempt b.example bob"},
		{"AUTH, another sender", auth("lists@a.example", "eva@a.example"), "a.example alice lists@a.example"},
		{"host", client("192.0.2.1", "x@quiet.example"), "exempt quiet.example"},
		{"another host", client("192.0.2.2", "x@quiet.example"), "relay:192.0.2.2"},
		{"a network", client("198.51.100.8", "x@quiet.example"), "exempt quiet.example"},
		{"the host's own address in a network", client("198.51.100.7", "x@quiet.example"), "quiet.example"},
		{"null sender", program("monitor", ""), "exempt service:monitor"},
		{"the panel's list software", socket("34", "any@a.example"), "exempt service:filter"},
		{"redirected by one like it", program("mailman", "ann-bounces@lists.example").over("b-bounces@lists.example"), "exempt forward:lists.example"},
		{"redirected by another", program("mailman", "ann-bounces@lists.example").over("f@a.example"), "forward:a.example alice"},
		{"the panel's, redirected", socket("34", "any@a.example").over("f@a.example"), "forward:a.example alice"},
	})
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"a@b", "a@b", true}, {"a@b", "a@bc", false}, {"*", "", true}, {"*", "x@y", true}, {"*@b", "a@b", true}, {"*@b", "a@bb", false},
		{"a*b*c", "abc", true}, {"a*b*c", "axbxbxc", true}, {"a*b*c", "ac", false}, {"a*a", "a", false}, {"a*a", "aa", true}, {"a**", "a", true},
		{"*-bounces*@l", "x-bounces+y=z@l", true}, {"*-bounces*@l", "x-bounces@l", true}, {"*-bounces*@l", "x@l", false},
	} {
		if got := matches(c.pattern, c.text); got != c.want {
			t.Errorf("%q is like %q: %v", c.text, c.pattern, got)
		}
	}
}
