package mainlog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
	"sluice/sidecar/mainlog"
)

// Senders choose addresses, clients what they say in HELO and as ident, servers
// their certificates and replies. None of it is taken for a field.
func TestWhatOthersChooseIsNoField(t *testing.T) {
	fake := ` R=sluice T=local H=evil [9.9.9.9]: 550 no`
	for rest, want := range map[string]logline.Entry{
		// Local parts that look like what follows an address; all of these are valid (RFC 5321, Quoted-string).
		`** a@b` + fake + `@x.test <"a@b` + fake + `"@x.test> R=r T=remote_smtp H=mx.test [192.0.2.1]: 550 real`: {Kind: logline.Failed,
			Attempt: logline.Attempt{Recipient: `a@b` + fake + `@x.test`, Original: `"a@b` + fake + `"@x.test`, Router: "r", Transport: "remote_smtp", Host: "mx.test", Text: "550 real"}},
		`== a b defer (-52): retry time not reached@x.test <"A b defer (-52): retry time not reached"@X.test> R=r T=t defer (-44): 450 real`: {Kind: logline.Deferred,
			Attempt: logline.Attempt{Recipient: "a b defer (-52): retry time not reached@x.test", Original: `"A b defer (-52): retry time not reached"@X.test`, Router: "r", Transport: "t", Text: "(-44): 450 real"}},
		`=> a.b <c> R=x@x.test <a."b <c> R=x"@x.test> R=r T=t`: {Kind: logline.Delivered,
			Attempt: logline.Attempt{Recipient: "a.b <c> R=x@x.test", Original: `a."b <c> R=x"@x.test`, Router: "r", Transport: "t"}},
		`=> a"b\c@x.test <"a\"b\\c"@x.test> F=<"> R=x"@x> P=<"> T=x"@x> R=r T=t`: {Kind: logline.Delivered,
			Attempt: logline.Attempt{Recipient: `a"b\c@x.test`, Original: `"a\"b\\c"@x.test`, Router: "r", Transport: "t"}},
		`** "a b: R=x"@x.test: Unrouteable address`: {Kind: logline.Failed, Attempt: logline.Attempt{Recipient: `"a b: R=x"@x.test`, Text: "Unrouteable address"}},
		`=> u@x.test ("a) <b@c> R=x"@y.test, d@y.test) <c@z.test> R=r T=t`: {Kind: logline.Delivered,
			Attempt: logline.Attempt{Recipient: "u@x.test", Original: "c@z.test", Router: "r", Transport: "t"}},
		// A server's certificate and its reply.
		`=> u@x.test R=r T=t H=mx.test [192.0.2.1] X=TLS1.3:A:256 CV=no DN="CN=\" R=sluice T=local C=" C="250 \"R=x\" T=y \\ H=z" QT=1s DT=0s`: {Kind: logline.Delivered,
			Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "t", Host: "mx.test"}},
		`** u@x.test R=r T=t H=mx.test [192.0.2.1]:25 I=[192.0.2.9]:4711 X=A:256 CV=yes: SMTP error: 550 <u@x.test> R=sluice <"u"@x.test> T=x`: {Kind: logline.Failed,
			Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "t", Host: "mx.test", Text: `SMTP error: 550 <u@x.test> R=sluice <"u"@x.test> T=x`}},
		`== u@x.test R=r T=t defer (110): Connection timed out H=mx.test [192.0.2.1]: SMTP timeout H=x`: {Kind: logline.Deferred,
			Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "t", Host: "mx.test", Text: "(110): Connection timed out H=mx.test [192.0.2.1]: SMTP timeout H=x"}},
		`== u@x.test R=r T=t defer (111): Connection refused H=mx.test [2001:db8::1]:25`: {Kind: logline.Deferred,
			Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "t", Host: "mx.test", Text: "(111): Connection refused H=mx.test [2001:db8::1]:25"}},
		`== u@x.test R=r T=t defer (-44): SMTP error from remote mail server after RCPT TO:<"a H=evil b"@x.test>: 450`: {Kind: logline.Deferred,
			Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "t", Text: `(-44): SMTP error from remote mail server after RCPT TO:<"a H=evil b"@x.test>: 450`}},
		`== u@x.test R=r T=t defer (2): No such file or directory: H=x R=y`: {Kind: logline.Deferred,
			Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "t", Text: "(2): No such file or directory: H=x R=y"}},
		`== u@x.test R=r T=t defer (Connection timed out) H=mx.test [192.0.2.1] DT=1s: SMTP timeout`: {Kind: logline.Deferred,
			Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "t", Host: "mx.test", Text: "(Connection timed out) H=mx.test [192.0.2.1] DT=1s: SMTP timeout"}},
		`== u@x.test R=r T=t defer: the text`:             {Kind: logline.Deferred, Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "t", Text: "the text"}},
		`== u@[IPv6:2001:db8::1] transporting defer (-1)`: {Kind: logline.Deferred, Attempt: logline.Attempt{Recipient: "u@[IPv6:2001:db8::1]", Text: "(-1)"}},
		// Pipes, files, notifications.
		`=> |/usr/bin/x R=y <a b> (p@x.test) <c@z.test> R=r T=address_pipe`: {Kind: logline.Delivered, Attempt: logline.Attempt{Original: "c@z.test", Router: "r", Transport: "address_pipe"}},
		`** |/usr/bin/x <c@z.test>`:                                         {Kind: logline.Failed, Attempt: logline.Attempt{Original: "c@z.test"}},
		`=> save Mail/a R=b <c@z.test> R=r T=address_file`:                  {Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "save Mail/a", Original: "", Router: "b", Transport: "address_file"}},
		`=> blackhole (DATA ACL discarded recipients)`:                      {Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "blackhole"}},
		// What a client says, and logins with spaces and colons.
		`<= s@a.test H=(x) [9.9.9.9] P=local U=root S=1 ) [192.0.2.1] P=esmtp S=2`:                            {Kind: logline.Arrived, Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "unknown"}},
		`<= s@a.test H=mx.test (x y [z]) [192.0.2.1]:25 I=[192.0.2.9]:25 U=root P=esmtp S=2`:                  {Kind: logline.Arrived, Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1"}},
		`<= s@a.test DS H=mx.test [2001:db8::1] TFO P=esmtpsa L X=A:256 CV=no SNI="x A=y:z" A=plain:b S=2`:    {Kind: logline.Arrived, Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "2001:db8::1", Auth: "b"}},
		`<= s@a.test H=[192.0.2.1] P=esmtpa A=plain:bob jones PRDR PRX=192.0.2.3 K S=2 T="A=plain:x S=3"`:     {Kind: logline.Arrived, Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "bob jones"}},
		`<= s@a.test H=[192.0.2.1] P=esmtpa A=plain:b@a.test:ceo@b.test S=2`:                                  {Kind: logline.Arrived, Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "b@a.test"}},
		`<= s@a.test H=[192.0.2.1] P=esmtpa A=plain:realm:bob S=2`:                                            {Kind: logline.Arrived, Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "realm:bob"}},
		`<= s@a.test H=[192.0.2.1] P=esmtpa A=ntlm:CORP\101bob S=2`:                                           {Kind: logline.Arrived, Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: `CORP\101bob`}},
		`<= s@a.test H=[192.0.2.1] P=esmtpa A=ntlm:CORP\201 S=2`:                                              {Kind: logline.Arrived, Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: `CORP\201`}},
		"<= a.\"b c\"@a.test U=bob P=local-bsmtp S=2 T=\"\x00\xff S=3 A=plain:x\" from <s@a.test> for <= x@y": {Kind: logline.Arrived, Arrival: logline.Arrival{Sender: `a."b c"@a.test`, Login: "bob"}},
		`<= "unbalanced@a.test U=bob P=local S=2`:                                                             {Kind: logline.Arrived, Arrival: logline.Arrival{Sender: `"unbalanced@a.test`, Login: "bob"}},
	} {
		if got, ok := parsed(t, at+rest); !ok || got != want {
			t.Errorf("%s\n%s", rest, cmp.Diff(want, got, cmpopts.IgnoreUnexported(logline.Entry{})))
		}
	}
}

// Time is bounded by the length of a line, whatever is in it.
func TestLongLines(t *testing.T) {
	for _, part := range []string{" <", ` <"`, " (", "x@y <\"", " <a>", ": ", `\`, " H=", " |", " defer ("} {
		for _, flag := range []string{"<= ", "=> ", "** ", "== ", "=> |"} {
			line := at + flag + strings.Repeat(part, 1<<20/len(part))
			began, parsed := time.Now(), make(chan struct{})
			go func() { defer close(parsed); parse(mainlog.NewParser(time.UTC), noon, line) }()
			select {
			case <-parsed:
			case <-time.After(hosttest.Patience()): // what grows with the square takes hours
				t.Fatalf("%s%s... is not parsed: %s", flag, part, hosttest.Missed(hosttest.Patience()))
			}
			hosttest.NotLonger(t, flag+part, time.Since(began), 3*time.Second)
		}
	}
}

// What a client may choose in the line of an arrival never makes another one pay: not
// as who has logged in, nor as a host that may relay, nor as a local user. All of
// these came out of a real Exim, or of one built with OpenSSL.
func TestNoArrivalChargesAnother(t *testing.T) {
	const fake = `[127.0.0.1] P=esmtpsa A=plain:ceo@victim.test S=1`
	const rest = ` S=300 id=x@a.test`
	for what, line := range map[string]string{
		"HELO":                          `H=(x) ` + fake + `) [192.0.2.1] P=esmtp` + rest,
		"HELO that opens an id":         `H=(x) ` + fake + ` id=) [192.0.2.1] P=esmtp` + rest,
		"HELO that opens a subject":     `H=(x) ` + fake + ` T=") [192.0.2.1] P=esmtp` + rest + `" T="x"`,
		"HELO that ends in the id":      `H=(x) ` + fake + ` T=") [192.0.2.1] P=esmtp S=300 id="a b"@x`,
		"HELO with an address":          `H=(x) [127.0.0.1]) [192.0.2.1] P=esmtp` + rest,
		"HELO with an id":               `H=(x) [127.0.0.1] P=esmtpa A=plain:ceo@victim.test: ) [192.0.2.1] P=esmtp` + rest,
		"HELO that opens a certificate": `H=(x) [127.0.0.1] P=esmtp DN=") [192.0.2.1] P=esmtp S=300 id="a S=1 b"@x`,
		"HELO that opens another quote": `H=(x) [127.0.0.1] P=esmtp X=") [192.0.2.1] P=esmtp S=300 id="a S=1 b"@x`,
		"HELO without an end":           `H=(x) [127.0.0.1] DN=") [192.0.2.1] P=esmtp S=300 id=x`,
		"HELO of a host with a name":    `H=mx.a.test (x) ` + fake + ` id=) [192.0.2.1]:4711 I=[192.0.2.9]:25 P=esmtps X=A:256 CV=no` + rest,
		"HELO without an address":       `H=(x) [] U=root P=local S=1) [192.0.2.1] P=esmtp` + rest,
		"ident":                         `H=(x) [192.0.2.1] U=x P=esmtpa A=plain:ceo@victim.test S=1 id=y P=esmtp` + rest,
		"ident with a host":             `H=(x) [192.0.2.1] U=x H=[127.0.0.1] P=esmtp` + rest,
		"ident with a HELO":             `H=[192.0.2.1] U=(x) [127.0.0.1] P=esmtp` + rest,
		"certificate":                   `H=(x) [192.0.2.1] P=esmtps X=A:256 CV=no DN="/CN=x" A=plain:ceo@victim.test y="z"` + rest,
		"certificate with a size":       `H=(x) [192.0.2.1] P=esmtps X=A:256 CV=no DN="/CN=x" A=plain:ceo@victim.test S=1 T=""` + rest,
		"certificate of who logs in":    `H=(x) [192.0.2.1] P=esmtpsa X=A:256 CV=no DN="/CN=x" A=plain:ceo@victim.test: y="" A=plain:me@a.test` + rest,
		"SNI":                           `H=(x) [192.0.2.1] P=esmtpsa X=A:256 SNI="x" A=plain:ceo@victim.test S=1 T="\" A=plain:me@a.test S=300 id=x"`,
		"MAIL FROM with AUTH=":          `H=(x) [192.0.2.1] P=esmtpa A=plain:me@a.test:ceo@victim.test` + rest,
		"Message-Id":                    `H=(x) [192.0.2.1] P=esmtp S=300 id="a A=plain:ceo@victim.test H=[127.0.0.1]"@x`,
		"Message-Id like another line":  `H=(x) [192.0.2.1] P=esmtp S=300 id=") ` + fake + `"@x`,
		"subject":                       `H=(x) [192.0.2.1] P=esmtp S=300 id=x T="\" A=plain:ceo@victim.test U=root P=local" from <s@a.test> for u@x.test`,
		"subject like another line":     `H=(x) [192.0.2.1] P=esmtp S=300 T="(x) ` + fake + ` <= ceo@victim.test" for u@x.test`,
		"subject of ceo, from sendmail": `U=bob P=local S=300 T="\" H=(x) ` + fake + `" for u@x.test`,
	} {
		e, ok := parsed(t, at+`<= s@a.test `+line)
		if !ok || e.Sender != "s@a.test" || strings.Contains(e.Auth, "victim") || strings.HasPrefix(e.ClientAddress, "127.") ||
			e.Login != "" && e.Login != "bob" || (e.ClientAddress == "") != (e.Login == "bob") {
			t.Errorf("%s: %s\n%v %+v", what, line, ok, e)
		}
	}
	// A subject alone hides nobody, unless it looks like the whole of a line.
	e, _ := parsed(t, at+`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:me@a.test S=3 T="Alert (web1) [10.0.0.1] S=1 A=2 P=3"`)
	if e.Auth != "me@a.test" || e.ClientAddress != "192.0.2.1" {
		t.Errorf("an alert as subject: %+v", e)
	}
}

// No recipient is made to look like another one, or like none: neither by who
// sends to it, nor by the server that refuses it.
func TestNoRecipientLooksLikeAnother(t *testing.T) {
	const fields = " R=r T=remote_smtp H=mx.test [192.0.2.1]: SMTP error from remote mail server after RCPT TO:<u@x.test>: 550 no"
	for rest, want := range map[string]logline.Entry{
		// Backslashes do what quotes do.
		`** a r=sluice t=local@x.test <a\ R=sluice\ T=local@x.test> R=r T=remote_smtp: 550 no`: {Attempt: logline.Attempt{Recipient: "a r=sluice t=local@x.test", Original: `a\ R=sluice\ T=local@x.test`, Router: "r"}},
		`** a@y.test r=r: z@x.test <a\@y.test\ r=r\:\ z@x.test>: retry timeout exceeded`:       {Attempt: logline.Attempt{Recipient: "a@y.test r=r: z@x.test", Original: `a\@y.test\ r=r\:\ z@x.test`}},
		// An address may begin like a pipe or a file.
		`** |a@x.test R=r T=remote_smtp: 550 <|a@x.test>: user unknown`: {Attempt: logline.Attempt{Recipient: "|a@x.test", Router: "r"}},
		`** /a@x.test: Unrouteable address`:                             {Attempt: logline.Attempt{Recipient: "/a@x.test"}},
		`** |a@x.test <|A@X.test> R=r T=remote_smtp: 550 no`:            {Attempt: logline.Attempt{Recipient: "|a@x.test", Original: "|A@X.test", Router: "r"}},
		`** |a b@x.test <"|a b"@x.test> R=r T=remote_smtp: 550 no`:      {Attempt: logline.Attempt{Recipient: "|a b@x.test", Original: `"|a b"@x.test`, Router: "r"}},
		`** |/bin/mail a@x.test <p@here.test> R=r T=remote_smtp: no`:    {Attempt: logline.Attempt{Original: "p@here.test", Router: "r"}},
		// A server repeats the whole line. It may be believed, and charges nobody.
		`** u@x.test` + fields + ` z@evil.test <"u@x.test` + fields + ` z"@evil.test> R=r T=remote_smtp: no`: {Attempt: logline.Attempt{Recipient: "u@x.test" + fields + " z@evil.test", Original: `"u@x.test` + fields + ` z"@evil.test`, Router: "r"}, Doubtful: true},
		`** u@x.test` + fields + ` <"u"@x.test> R=sluice T=local`:                                            {Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r"}},
	} {
		got, ok := parsed(t, at+rest)
		want.Kind = logline.Failed
		want.Transport, want.Host, want.Text = got.Transport, got.Host, got.Text
		if !ok || got != want {
			t.Errorf("%s\n%s", rest, cmp.Diff(want, got, cmpopts.IgnoreUnexported(logline.Entry{})))
		}
	}
}

// Lines of a megabyte are read as short ones are, wherever they are that long, and
// so are those of the longer ids that Exim 4.97 brought, with raw bytes in them.
func TestLongLinesAndIDs(t *testing.T) {
	long := strings.Repeat("\xfcber => b@c ** <x@y> ", 1<<20/21)
	for _, id := range []string{"1xUzQe-0004wm-37", "1xUzQe-00000001abC-0xYz"} {
		for rest, want := range map[string]logline.Entry{
			`<= s@a.test U=bob P=local S=3 T="` + long + `" from <s@a.test> for u@x.test`:         {Kind: logline.Arrived, Arrival: logline.Arrival{Sender: "s@a.test", Login: "bob", Recipients: "u@x.test"}},
			`(= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:b@a.test S=3 id=` + long:              {Kind: logline.Arrived, Arrival: logline.Arrival{Sender: "s@a.test", Auth: "b@a.test", ClientAddress: "192.0.2.1", MessageID: "\xfcber"}},
			`=> u@x.test R=r T=remote_smtp H=mx.test [192.0.2.1] C="250 ` + long + `"`:            {Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "remote_smtp", Host: "mx.test"}},
			`>> u@x.test <v@a.test> R=r T=remote_smtp H=mx.test [192.0.2.1] C="250 ` + long + `"`: {Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "u@x.test", Original: "v@a.test", Router: "r", Transport: "remote_smtp", Host: "mx.test"}},
			`** u@x.test R=r T=remote_smtp H=mx.test [192.0.2.1]: 550 ` + long:                    {Kind: logline.Failed, Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "remote_smtp", Host: "mx.test", Text: "550 " + long}},
			`** u@x.test : ` + long: {Kind: logline.Failed, Attempt: logline.Attempt{Recipient: "u@x.test", Text: long}},
			`== u@x.test R=r T=remote_smtp defer (-44) H=mx.test [192.0.2.1]: 450 ` + long: {Kind: logline.Deferred, Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "remote_smtp", Host: "mx.test", Text: "(-44) H=mx.test [192.0.2.1]: 450 " + long}},
			`== u@x.test R=r T=remote_smtp defer: ` + long:                                 {Kind: logline.Deferred, Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "remote_smtp", Text: long}},
		} {
			got, ok := parse(mainlog.NewParser(time.UTC), noon, "2026-11-22 04:43:53 "+id+" "+rest)
			if got.ID != id {
				t.Errorf("id %q, want %q", got.ID, id)
			}
			got.ID, got.At, got.Line = "", time.Time{}, ""
			if !ok || got != want {
				t.Errorf("%.100s...: %v, kind %d, recipient %.40q, text of %d bytes", rest, ok, got.Kind, got.Recipient, len(got.Text))
			}
		}
	}
}
