package mainlog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/sidecar"
	"sluice/sidecar/mainlog"
)

// Senders choose addresses, clients what they say in HELO and as ident, servers
// their certificates and replies. None of it is taken for a field.
func TestWhatOthersChooseIsNoField(t *testing.T) {
	fake := ` R=sluice T=local H=evil [9.9.9.9]: 550 no`
	for rest, want := range map[string]sidecar.LogEntry{
		// Local parts that look like what follows an address; all of these are valid (RFC 5321, Quoted-string).
		`** a@b` + fake + `@x.test <"a@b` + fake + `"@x.test> R=r T=remote_smtp H=mx.test [192.0.2.1]: 550 real`: {Kind: sidecar.LogFailed,
			Recipient: `a@b` + fake + `@x.test`, Original: `"a@b` + fake + `"@x.test`, Router: "r", Transport: "remote_smtp", Text: "550 real"},
		`== a b defer (-52): retry time not reached@x.test <"A b defer (-52): retry time not reached"@X.test> R=r T=t defer (-44): 450 real`: {Kind: sidecar.LogDeferred,
			Recipient: "a b defer (-52): retry time not reached@x.test", Original: `"A b defer (-52): retry time not reached"@X.test`, Router: "r", Transport: "t", Text: "(-44): 450 real"},
		`=> a.b <c> R=x@x.test <a."b <c> R=x"@x.test> R=r T=t`: {Kind: sidecar.LogDelivered,
			Recipient: "a.b <c> R=x@x.test", Original: `a."b <c> R=x"@x.test`, Router: "r", Transport: "t"},
		`=> a"b\c@x.test <"a\"b\\c"@x.test> F=<"> R=x"@x> P=<"> T=x"@x> R=r T=t`: {Kind: sidecar.LogDelivered,
			Recipient: `a"b\c@x.test`, Original: `"a\"b\\c"@x.test`, Router: "r", Transport: "t"},
		`** "a b: R=x"@x.test: Unrouteable address`: {Kind: sidecar.LogFailed, Recipient: `"a b: R=x"@x.test`, Text: "Unrouteable address"},
		`=> u@x.test ("a) <b@c> R=x"@y.test, d@y.test) <c@z.test> R=r T=t`: {Kind: sidecar.LogDelivered,
			Recipient: "u@x.test", Original: "c@z.test", Router: "r", Transport: "t"},
		// A server's certificate and its reply.
		`=> u@x.test R=r T=t H=mx.test [192.0.2.1] X=TLS1.3:A:256 CV=no DN="CN=\" R=sluice T=local C=" C="250 \"R=x\" T=y \\ H=z" QT=1s DT=0s`: {Kind: sidecar.LogDelivered,
			Recipient: "u@x.test", Router: "r", Transport: "t"},
		`** u@x.test R=r T=t H=mx.test [192.0.2.1]:25 I=[192.0.2.9]:4711 X=A:256 CV=yes: SMTP error: 550 <u@x.test> R=sluice <"u"@x.test> T=x`: {Kind: sidecar.LogFailed,
			Recipient: "u@x.test", Router: "r", Transport: "t", Text: `SMTP error: 550 <u@x.test> R=sluice <"u"@x.test> T=x`},
		`== u@x.test R=r T=t defer (110): Connection timed out H=mx.test [192.0.2.1]: SMTP timeout H=x`: {Kind: sidecar.LogDeferred,
			Recipient: "u@x.test", Router: "r", Transport: "t", Text: "(110): Connection timed out H=mx.test [192.0.2.1]: SMTP timeout H=x"},
		`== u@x.test R=r T=t defer (2): No such file or directory: H=x R=y`: {Kind: sidecar.LogDeferred,
			Recipient: "u@x.test", Router: "r", Transport: "t", Text: "(2): No such file or directory: H=x R=y"},
		`== u@x.test R=r T=t defer (Connection timed out) H=mx.test [192.0.2.1] DT=1s: SMTP timeout`: {Kind: sidecar.LogDeferred,
			Recipient: "u@x.test", Router: "r", Transport: "t", Text: "(Connection timed out) H=mx.test [192.0.2.1] DT=1s: SMTP timeout"},
		`== u@x.test R=r T=t defer: the text`:             {Kind: sidecar.LogDeferred, Recipient: "u@x.test", Router: "r", Transport: "t", Text: "the text"},
		`== u@[IPv6:2001:db8::1] transporting defer (-1)`: {Kind: sidecar.LogDeferred, Recipient: "u@[IPv6:2001:db8::1]", Text: "(-1)"},
		// Pipes, files, notifications.
		`=> |/usr/bin/x R=y <a b> (p@x.test) <c@z.test> R=r T=address_pipe`: {Kind: sidecar.LogDelivered, Original: "c@z.test", Router: "r", Transport: "address_pipe"},
		`** |/usr/bin/x <c@z.test>`:                                         {Kind: sidecar.LogFailed, Original: "c@z.test"},
		`=> save Mail/a R=b <c@z.test> R=r T=address_file`:                  {Kind: sidecar.LogDelivered, Recipient: "save Mail/a", Original: "", Router: "b", Transport: "address_file"},
		`=> blackhole (DATA ACL discarded recipients)`:                      {Kind: sidecar.LogDelivered, Recipient: "blackhole"},
		// What a client says, and logins with spaces and colons.
		`<= s@a.test H=(x) [9.9.9.9] P=local U=root S=1 ) [192.0.2.1] P=esmtp S=2`:                            {Kind: sidecar.LogArrived, Sender: "s@a.test", ClientAddress: "9.9.9.9"},
		`<= s@a.test H=mx.test (x y [z]) [192.0.2.1]:25 I=[192.0.2.9]:25 U=root P=esmtp S=2`:                  {Kind: sidecar.LogArrived, Sender: "s@a.test", ClientAddress: "192.0.2.1"},
		`<= s@a.test DS H=mx.test [2001:db8::1] TFO P=esmtps L X=A:256 CV=no SNI="x A=y:z" A=plain:b S=2`:     {Kind: sidecar.LogArrived, Sender: "s@a.test", ClientAddress: "2001:db8::1", Auth: "b"},
		`<= s@a.test H=[192.0.2.1] P=esmtpa A=plain:bob jones PRDR PRX=192.0.2.3 K S=2 T="A=plain:x S=3"`:     {Kind: sidecar.LogArrived, Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "bob jones"},
		`<= s@a.test H=[192.0.2.1] P=esmtpa A=plain:b@a.test:ceo@b.test S=2`:                                  {Kind: sidecar.LogArrived, Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "b@a.test"},
		`<= s@a.test H=[192.0.2.1] P=esmtpa A=plain:realm:bob S=2`:                                            {Kind: sidecar.LogArrived, Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "realm:bob"},
		`<= s@a.test H=[192.0.2.1] P=esmtpa A=ntlm:CORP\101bob S=2`:                                           {Kind: sidecar.LogArrived, Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: `CORP\101bob`},
		`<= s@a.test H=[192.0.2.1] P=esmtpa A=ntlm:CORP\201 S=2`:                                              {Kind: sidecar.LogArrived, Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: `CORP\201`},
		"<= a.\"b c\"@a.test U=bob P=local-bsmtp S=2 T=\"\x00\xff S=3 A=plain:x\" from <s@a.test> for <= x@y": {Kind: sidecar.LogArrived, Sender: `a."b c"@a.test`, Login: "bob"},
		`<= "unbalanced@a.test U=bob P=local S=2`:                                                             {Kind: sidecar.LogArrived, Sender: `"unbalanced@a.test`, Login: "bob"},
	} {
		if got, ok := parsed(t, at+rest); !ok || got != want {
			t.Errorf("%s\n%s", rest, cmp.Diff(want, got, cmpopts.IgnoreUnexported(sidecar.LogEntry{})))
		}
	}
}

// Time is bounded by the length of a line, whatever is in it.
func TestLongLines(t *testing.T) {
	for _, part := range []string{" <", ` <"`, " (", "x@y <\"", " <a>", ": ", `\`, " H=", " |", " defer ("} {
		for _, flag := range []string{"<= ", "=> ", "** ", "== ", "=> |"} {
			line := at + flag + strings.Repeat(part, 1<<20/len(part))
			began := time.Now()
			parse(mainlog.NewParser(time.UTC), noon, line)
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("%s%s... took %v", flag, part, took)
			}
		}
	}
}
