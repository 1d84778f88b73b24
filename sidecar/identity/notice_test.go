package identity

import (
	"testing"

	"sluice/sidecar"
)

// Only root is believed to send Sluice's own notices. Whoever else writes their sender pays for
// it as for any other.
func TestNobodyButRootSendsNotices(t *testing.T) {
	const sender = "sluice@mx1.host.example"
	r := newRules(t, Options{NoticeSender: sender, Reinject: []string{"filter"}}, true)
	check(t, r, []payerCase{
		{"root's sendmail", uid("0", sender), "notice system"},
		{"root's sendmail, to an alias", uid("0", sender).over("root@mx1.host.example"), "notice system"},
		{"root, as the log has it", program("root", sender), "notice system"},
		{"root, another sender", uid("0", "root@mx1.host.example"), "system"},
		{"root, nearly the sender", uid("0", "Sluice@mx1.host.example"), "system"},
		{"root, nearly the domain", uid("0", "sluice@mx1.host.example."), "system"},
		{"root, null sender", uid("0", ""), "system"},
		{"a tenant's sendmail", uid("1000", sender), "a.example alice"},
		{"a tenant's sendmail that claims root's name", letter{sidecar.Request{Stage: sidecar.StageLocal, Sender: sender, Submitter: sidecar.Submitter{UID: "1000", Login: "root"}}}, "a.example alice"},
		{"a web server's", uid("33", sender), "service:www"},
		{"a tenant who has logged in", auth("news@a.example", sender), "a.example alice news@a.example"},
		{"who has logged in as root", auth("root", sender), "system"},
		{"from this host, without AUTH", client("127.0.0.1", sender), "loopback"},
		{"root's program over SMTP", socket("0", sender), "system"},
		{"a content filter's", socket("34", sender), "inbound"},
		{"a client whose ident says root", letter{sidecar.Request{Stage: sidecar.StageRoute, Sender: sender, Recipient: "r@mx-for.example",
			Submitter: sidecar.Submitter{ClientAddress: "203.0.113.5", Login: "root"}}}, "inbound"},
		{"from outside", client("203.0.113.5", sender).to("r@mx-for.example"), "inbound"},
		{"by the milter", program("", sender).at(sidecar.StageMilterEnd), "service:unknown"},
	})
	check(t, newRules(t, Options{}, true), []payerCase{{"where there are no notices", uid("0", ""), "system"}})
}
