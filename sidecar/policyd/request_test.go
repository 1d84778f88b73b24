package policyd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar"
)

// parse understands a request of the kind sluice, the line that reports it left out or not.
func parse(raw string) (r sidecar.Request, err error) {
	raw = strings.TrimPrefix(raw, "request=sluice\n")
	err = sluiceRequest(&attributes{rest: []byte(raw), limit: 64}, &r)
	return r, err
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestParse(t *testing.T) {
	hostile := "a\x00b\r\n\r\nstage=data\n=\xff\"ü"
	for name, tc := range map[string]struct {
		raw  string
		want sidecar.Request
	}{
		"plain": {
			"request=sluice\nstage=rcpt\nsender=a@b.example\nsent=3\n",
			sidecar.Request{Stage: sidecar.StageRcpt, Sender: "a@b.example", Sent: 3},
		},
		"all attributes": {
			"request=sluice\nstage=route\nencoding=base64\nid=" + b64("1xUzSN-0005dd-0q") +
				"\nsender=" + b64("s@x") + "\nrecipients=" + b64("r@x, q@y") + "\nrecipient=" + b64("r@x") +
				"\nauth=" + b64("u") + "\nlogin=" + b64("l") + "\nuid=" + b64("33") + "\ncwd=" + b64("/home/bob") +
				"\nscript=" + b64("33:mail.php") + "\nsubject=" + b64("Hello") + "\nclient_address=" + b64("192.0.2.1") +
				"\nclient_port=" + b64("4711") + "\nserver_address=" + b64("192.0.2.25") + "\nserver_port=" + b64("25") +
				"\nproxy_address=" + b64("192.0.2.2") + "\nproxy_port=" + b64("4712") + "\npayer=" + b64("uid:33") +
				"\noriginator=" + b64("102") + "\noriginal=" + b64("o@x") + "\ncharged=" + b64("yes") + "\nsent=" + b64("12") + "\n",
			sidecar.Request{Stage: sidecar.StageRoute, ID: "1xUzSN-0005dd-0q", Sender: "s@x",
				Recipients: "r@x, q@y", Recipient: "r@x", Submitter: sidecar.Submitter{Auth: "u", Login: "l", UID: "33", CWD: "/home/bob", Script: "33:mail.php", ClientAddress: "192.0.2.1"}, Original: "o@x", Charged: true, Sent: 12, Subject: "Hello",
				Connection: sidecar.Connection{ClientPort: "4711", ServerAddress: "192.0.2.25", ServerPort: "25", ProxyAddress: "192.0.2.2", ProxyPort: "4712", Socket: "uid:33"}},
		},
		"an id as Exim escapes it (A-04)": {
			"stage=rcpt\nauth=news@b\\303\\274cher.example\n",
			sidecar.Request{Stage: sidecar.StageRcpt, Submitter: sidecar.Submitter{Auth: "news@bücher.example"}},
		},
		"any byte in a value": {
			"stage=data\nencoding=base64\nscript=" + b64(hostile) + "\n",
			sidecar.Request{Stage: sidecar.StageData, Submitter: sidecar.Submitter{Script: hostile}},
		},
		"a subject that is too long": {
			"stage=data\nencoding=base64\nsubject=" + b64(strings.Repeat("x", 201)) + "\n",
			sidecar.Request{Stage: sidecar.StageData, Subject: strings.Repeat("x", 200)},
		},
		"unpadded": {
			"stage=data\nencoding=base64\nsender=QQ\nauth=QUI\nlogin=QUJD\ncwd=QQ==\n",
			sidecar.Request{Stage: sidecar.StageData, Sender: "A", Submitter: sidecar.Submitter{Auth: "AB", Login: "ABC", CWD: "A"}},
		},
		"empty values": {
			"stage=data\nencoding=base64\nsender=\nsent=\ncharged=\n",
			sidecar.Request{Stage: sidecar.StageData},
		},
		"unknown attributes": {
			"stage=data\ncolour=blue\nhelo_name=x=y=z\n",
			sidecar.Request{Stage: sidecar.StageData},
		},
		"equals sign in a value": {
			"stage=data\nsender=a=b@x\n",
			sidecar.Request{Stage: sidecar.StageData, Sender: "a=b@x"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(tc.raw)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		raw  string
		want error
		text string
	}{
		"no equals sign":      {"stage=data\nhello\n", errMalformed, `line 2, "hello", is not name=value`},
		"no name":             {"stage=data\n=x\n", errMalformed, `line 2, "=x", is not name=value`},
		"CR LF":               {"stage=data\r\nsender=x\r\n", errMalformed, `stage="data\r"`},
		"CR LF after base64":  {"stage=data\nencoding=base64\nsender=QUJD\r\n", errMalformed, "a CR follows"},
		"bad base64":          {"stage=data\nencoding=base64\nsender=a@b\n", errMalformed, "value of \"sender\""},
		"wrong padding":       {"stage=data\nencoding=base64\nsender=QQ=\n", errMalformed, "value of \"sender\""},
		"bad in an unknown":   {"stage=data\nencoding=base64\ncolour=!\n", errMalformed, "value of \"colour\""},
		"other encoding":      {"stage=data\nencoding=xtext\n", errMalformed, `encoding="xtext"`},
		"twice":               {"stage=data\nsender=\nsender=x\n", errMalformed, `sender comes twice`},
		"encoding twice":      {"stage=data\nencoding=base64\nencoding=YmFzZTY0\n", errMalformed, `encoding="base64"`},
		"unknown stage":       {"stage=connect\n", errMalformed, `stage="connect": not a stage`},
		"no stage":            {"sender=x\n", errMalformed, "it has no stage"},
		"sent is no number":   {"stage=rcpt\nsent=-1\n", errMalformed, `sent="-1": not a number`},
		"sent is too large":   {"stage=rcpt\nsent=99999999999\n", errMalformed, "not a number"},
		"charged is no yes":   {"stage=route\ncharged=maybe\n", errMalformed, "neither yes nor no"},
		"version 3":           {"stage=data\nversion=3\n", errMalformed, "knows the versions 1 and 2"},
		"no number":           {"stage=data\nversion=2\n", errMalformed, "it has no number"},
		"number is none":      {"stage=data\nversion=2\nnumber=1x\n", errMalformed, "not a number"},
		"number is too long":  {"stage=data\nversion=2\nnumber=123456789012345678901\n", errMalformed, "not a number"},
		"payer is nobody":     {"stage=data\npayer=root\n", errMalformed, "neither uid:N nor loopback"},
		"payer has no uid":    {"stage=data\npayer=uid:\n", errMalformed, "not a number"},
		"payer by name":       {"stage=data\npayer=uid:alice\n", errMalformed, "not a number"},
		"too many attributes": {"stage=data\n" + manyAttributes(64), errLimit, "more than 64 attributes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(tc.raw)
			if !errors.Is(err, tc.want) || !strings.Contains(fmt.Sprint(err), tc.text) {
				t.Errorf("error %v, want %v with %q", err, tc.want, tc.text)
			}
		})
	}
	if _, err := parse("stage=data\n" + manyAttributes(63)); err != nil {
		t.Errorf("as many attributes as allowed: %v", err)
	}
}

func manyAttributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "x%d=\n", i)
	}
	return b.String()
}

// An Exim that a user has started himself can claim to have any client.
func TestOriginator(t *testing.T) {
	s := New(accepting, Options{AllowUIDs: []int{101}})
	for uid, want := range map[string]bool{"": true, "0": true, "101": true, "2001": false, "101x": false} {
		_, err := s.answer(t.Context(), time.Now(), new(conn), []byte("request=sluice\nstage=rcpt\nclient_address=192.0.2.1\noriginator="+uid+"\n"), nil)
		if (err == nil) != want {
			t.Errorf("started by %q: %v", uid, err)
		}
	}
}

// A user whom Exim trusts can submit mail with -oMa and -oMai: it is delivered, and his.
func TestOriginatorAtTheRouter(t *testing.T) {
	var got sidecar.Request
	s := New(askFunc(func(r sidecar.Request) sidecar.Reply { got = r; return sidecar.Reply{} }), Options{AllowUIDs: []int{101}})
	for uid, want := range map[string]sidecar.Connection{"0": {Socket: "loopback"}, "101": {Socket: "loopback"}, "2001": {Socket: "uid:2001", Claimed: true}} {
		_, err := s.answer(t.Context(), time.Now(), new(conn), []byte("request=sluice\nstage=route\nclient_address=192.0.2.1\nauth=joe@bob.example\npayer=loopback\noriginator="+uid+"\n"), nil)
		if err != nil || got.Connection != want || (got.Auth == "") != want.Claimed || got.ClientAddress != "192.0.2.1" {
			t.Errorf("started by %q: %v, %+v", uid, err, got)
		}
	}
	if _, err := s.answer(t.Context(), time.Now(), new(conn), []byte("request=sluice\nstage=route\nclient_address=192.0.2.1\noriginator=2001x\n"), nil); err == nil {
		t.Error("2001x is no uid")
	}
}

// TestDecodeInPlace: encoding/base64 does not promise that the destination may
// be the source, so it is watched here, at all lengths that take its fast paths.
func TestDecodeInPlace(t *testing.T) {
	var plain []byte
	for i := range 300 {
		plain = append(plain, byte(i*7+i/5))
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding} {
			got, err := decode([]byte(enc.EncodeToString(plain)))
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("length %d: %x, %v, want %x", len(plain), got, err, plain)
			}
		}
	}
}

func TestReply(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for name, tc := range map[string]struct {
		stage  sidecar.Stage
		reply  sidecar.Reply
		want   string
		number string // of a question of version 2
	}{
		"accept at rcpt":        {sidecar.StageRcpt, sidecar.Reply{Room: 7}, "action=DUNNO\nroom=7\n\n", ""},
		"no room at all":        {sidecar.StageRcpt, sidecar.Reply{Room: -2}, "action=DUNNO\nroom=0\n\n", ""},
		"charged at rcpt":       {sidecar.StageRcpt, sidecar.Reply{Charged: true}, "action=DUNNO\nroom=0\n\n", ""},
		"accept at data":        {sidecar.StageData, sidecar.Reply{Charged: true, Room: 3}, "action=DUNNO\ncharged=yes\n\n", ""},
		"held at local":         {sidecar.StageLocal, sidecar.Reply{}, "action=DUNNO\n\n", ""},
		"accept at route":       {sidecar.StageRoute, sidecar.Reply{Charged: true}, "action=DUNNO\n\n", ""},
		"defer":                 {sidecar.StageRcpt, sidecar.Reply{Action: sidecar.Defer, Text: "Domain d is locked."}, "action=450 4.7.1 Domain d is locked.\n\n", ""},
		"reject":                {sidecar.StageData, sidecar.Reply{Action: sidecar.Reject, Text: "no"}, "action=550 5.7.1 no\n\n", ""},
		"reject, log more":      {sidecar.StageData, sidecar.Reply{Action: sidecar.Reject, Text: "no", Log: "no [a\r\nb]"}, "action=550 5.7.1 no\nlog=no [a  b]\nnumber=4711\n\n", "4711"},
		"version 1 has no more": {sidecar.StageData, sidecar.Reply{Action: sidecar.Reject, Text: "no", Log: "no [a]", Socket: "uid:33"}, "action=550 5.7.1 no\n\n", ""},
		"whose socket":          {sidecar.StageRcpt, sidecar.Reply{Room: 7, Socket: "uid:33"}, "action=DUNNO\nroom=7\npayer=uid:33\nnumber=4711\n\n", "4711"},
		"charged, whose socket": {sidecar.StageData, sidecar.Reply{Charged: true, Socket: "loopback"}, "action=DUNNO\ncharged=yes\npayer=loopback\nnumber=1\n\n", "1"},
		"discard":               {sidecar.StageLocal, sidecar.Reply{Action: sidecar.Discard, Text: "gone"}, "action=DISCARD gone\n\n", ""},
		"discard, no text":      {sidecar.StageLocal, sidecar.Reply{Action: sidecar.Discard}, "action=DISCARD\n\n", ""},
		"unknown action":        {sidecar.StageData, sidecar.Reply{Action: 99, Text: "x"}, "action=DUNNO\n\n", ""},
		"lines in the text":     {sidecar.StageData, sidecar.Reply{Action: sidecar.Defer, Text: "a\r\n\n550 b\x00\x7f\tc"}, "action=450 4.7.1 a   550 b   c\n\n", ""},
		"not ASCII":             {sidecar.StageData, sidecar.Reply{Action: sidecar.Defer, Text: "für 日\xff\xfe."}, "action=450 4.7.1 f?r ???.\n\n", ""},
		"text over the limit":   {sidecar.StageData, sidecar.Reply{Action: sidecar.Defer, Text: long}, "action=450 4.7.1 " + long[:900] + "\n\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(appendReply(nil, tc.stage, tc.reply, []byte(tc.number))); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
