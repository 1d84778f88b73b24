package policyd

import (
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar"
)

// asPostfix is what smtpd of Postfix 3.7 asks (smtpd_check.c).
const asPostfix = `request=smtpd_access_policy
protocol_state=%STATE
protocol_name=ESMTP
client_address=192.0.2.17
client_name=client.example.net
client_port=4711
reverse_client_name=client.example.net
server_address=192.0.2.1
server_port=587
helo_name=client
sender=news@a.example
recipient=u@far.example
recipient_count=%COUNT
queue_id=822E8990043
instance=d0.6b06f2d7.802cf.0
size=18
etrn_domain=
stress=
sasl_method=PLAIN
sasl_username=news@a.example
sasl_sender=
ccert_subject=
encryption_protocol=TLSv1.3
policy_context=

`

func pfQuestion(state, count string) string {
	return strings.NewReplacer("%STATE", state, "%COUNT", count).Replace(asPostfix)
}

func parsePostfix(raw string) (sidecar.Request, error) {
	return postfixRequest(&attributes{rest: []byte(strings.TrimSuffix(raw, "\n")), limit: 64})
}

func TestPostfixQuestions(t *testing.T) {
	want := sidecar.Request{Stage: sidecar.StagePostfixEnd, Postfix: sidecar.Postfix{Instance: "d0.6b06f2d7.802cf.0", Count: 3}, Connection: sidecar.Connection{ClientPort: "4711", ServerAddress: "192.0.2.1", ServerPort: "587"}, ID: "822E8990043", Sender: "news@a.example",
		Recipient: "u@far.example", Submitter: sidecar.Submitter{Auth: "news@a.example", ClientAddress: "192.0.2.17"}}
	got, err := parsePostfix(pfQuestion("END-OF-MESSAGE", "3"))
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	for state, stage := range map[string]sidecar.Stage{"RCPT": sidecar.StagePostfixRcpt, "DATA": "", "CONNECT": "", "MAIL": "", "VRFY": ""} {
		if got, err := parsePostfix(pfQuestion(state, "0")); err != nil || got.Stage != stage {
			t.Errorf("%s: stage %q, %v", state, got.Stage, err)
		}
	}
	for _, count := range []string{"-1", "x", "100001", "99999999999999999999"} {
		if _, err := parsePostfix(pfQuestion("END-OF-MESSAGE", count)); !errors.Is(err, errMalformed) {
			t.Errorf("recipient_count=%s: %v", count, err)
		}
	}
}

// Postfix reads actions as access(5) has them.
func TestPostfixAnswers(t *testing.T) {
	verdict := sidecar.Reply{}
	path := filepath.Join(t.TempDir(), "s")
	serve(t, path, askFunc(func(r sidecar.Request) sidecar.Reply {
		if r.Stage != sidecar.StagePostfixRcpt {
			t.Errorf("asked at %q", r.Stage)
		}
		return verdict
	}), Options{})
	for want, verdict2 := range map[string]sidecar.Reply{
		"action=DUNNO\n\n":                 {Room: 5, Charged: true},
		"action=WARN would be refused\n\n": {Warning: "would be refused"},
		"action=450 4.7.1 later\n\n":       {Action: sidecar.Defer, Text: "later"},
		"action=550 5.7.1 never\n\n":       {Action: sidecar.Reject, Text: "never"},
		"action=DISCARD over it\n\n":       {Action: sidecar.Discard, Text: "over it"},
		"action=450 4.7.1 a b\n\n":         {Action: sidecar.Defer, Text: "a\nb"},
		"action=450 4.7.1 100% ?\n\n":      {Action: sidecar.Defer, Text: "100% ü"},
	} {
		verdict = verdict2
		nc := dial(t, path)
		if got := exchangeOnce(t, nc, pfQuestion("RCPT", "0")); got != want {
			t.Errorf("answered %q, want %q", got, want)
		}
		if got := exchangeOnce(t, nc, pfQuestion("DATA", "0")); got != "action=DUNNO\n\n" {
			t.Errorf("at DATA answered %q", got)
		}
	}
}

// FuzzPostfix: whatever is understood names a message, and whatever is not is
// refused as one of the two errors.
func FuzzPostfix(f *testing.F) {
	f.Add(pfQuestion("RCPT", "0"))
	f.Add(pfQuestion("END-OF-MESSAGE", "100000"))
	f.Add("protocol_state=RCPT\ninstance=\n\n")
	f.Add("encoding=base64\nprotocol_state=UkNQVA\ninstance=eA\n\n")
	f.Fuzz(func(t *testing.T, raw string) {
		r, err := parsePostfix(raw)
		switch {
		case err != nil:
			if !errors.Is(err, errMalformed) && !errors.Is(err, errLimit) {
				t.Error(err)
			}
		case r.Stage != "" && r.Instance == "", r.Count < 0, r.Count > maxRecipients:
			t.Errorf("%+v", r)
		}
	})
}

// Whose socket the client's is, is found at the first question about a message: it may have
// closed its end at the next one. Another message may be another client's.
func TestPostfixKeepsWhoseSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var got []string
	serve(t, path, askFunc(func(r sidecar.Request) sidecar.Reply {
		got = append(got, r.ServerAddress+" "+r.ServerPort+" "+r.Socket)
		return sidecar.Reply{Socket: "uid:" + r.Instance}
	}), Options{})
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, instance := range []string{"1", "1", "2"} {
		exchangeOnce(t, nc, "request=smtpd_access_policy\nprotocol_state=RCPT\nserver_address=127.0.0.1\nserver_port=25\ninstance="+instance+"\n\n")
	}
	if want := []string{"127.0.0.1 25 ", "127.0.0.1 25 uid:1", "127.0.0.1 25 "}; !slices.Equal(got, want) {
		t.Errorf("asked about %q, want %q", got, want)
	}
}
