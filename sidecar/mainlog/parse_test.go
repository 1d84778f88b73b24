package mainlog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/sidecar/logline"
	"sluice/sidecar/mainlog"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// parse has a line parsed into an entry that was another one.
func parse(p *mainlog.Parser, now time.Time, line string) (e logline.Entry, ok bool) {
	e = logline.Entry{ID: "left", Process: "1", Arrival: logline.Arrival{Sender: "s", Auth: "a", Login: "l", ClientAddress: "c"},
		Attempt: logline.Attempt{Recipient: "r", Original: "o", Router: "r", Transport: "t", Text: "x"}}
	ok = p.Parse(now, line, &e)
	return e, ok
}

// What a line says, but for its id, time and text of the line.
func parsed(t *testing.T, line string) (logline.Entry, bool) {
	t.Helper()
	e, ok := parse(mainlog.NewParser(time.UTC), noon, line)
	e.ID, e.At, e.Line = "", time.Time{}, ""
	return e, ok
}

const at = "2026-11-22 04:43:53 1xUzQe-0004wm-37 "

func TestArrivals(t *testing.T) {
	for rest, want := range map[string]logline.Entry{
		`<= s@send1.test H=(client.test) [127.0.0.1] P=esmtp S=258`: {Arrival: logline.Arrival{Sender: "s@send1.test", ClientAddress: "127.0.0.1"}},
		`(= s@send1.test H=mx.test [192.0.2.1]:25 I=[192.0.2.9]:25 P=esmtpsa X=TLS1.3:TLS_AES:256 CV=no DN="CN=x A=y:z" A=plain:news@a.test S=2 id=x A=login:evil@b.test T="x" from <s@send1.test> for u@x.test`: {Arrival: logline.Arrival{Sender: "s@send1.test", Auth: "news@a.test", ClientAddress: "192.0.2.1", Recipients: "u@x.test", MessageID: "x"}},
		`<= bob@a.test U=bob P=local S=300 T="<= x@y H=[1.2.3.4] P=esmtp A=plain:x" from <bob@a.test> for u@x.test`:                                                                                              {Arrival: logline.Arrival{Sender: "bob@a.test", Login: "bob", Recipients: "u@x.test"}},
		`<= bob@a.test U=bob P=local-esmtp S=300`:                          {Arrival: logline.Arrival{Sender: "bob@a.test", Login: "bob"}},
		`<= bob@a.test U=bob P=utf8local-esmtp S=300`:                      {Arrival: logline.Arrival{Sender: "bob@a.test", Login: "bob"}},
		`<= bob@a.test U=bob Ci=1234 P=local S=300 id*=E1x@h T="x id=y@z"`: {Arrival: logline.Arrival{Sender: "bob@a.test", Login: "bob", MessageID: "E1x@h"}},
		`<= bob@a.test U=bob P=local S=300 id=x@h T="x id*=y@z"`:           {Arrival: logline.Arrival{Sender: "bob@a.test", Login: "bob", MessageID: "x@h"}},
		`<= s@a.test H=([IPv6:::1]) [192.0.2.1]:4 I=[192.0.2.9]:587 Ci=12 P=utf8esmtpsa L- X=A CV=no SNI="x" SPF=pass A=login:info@a.test K S=9 M8S=8 RT=0.1s Q=slow id*=E1x@h T="Hi" from <s@a.test> for u@x.test`: {Arrival: logline.Arrival{Sender: "s@a.test", Auth: "info@a.test", ClientAddress: "192.0.2.1", Recipients: "u@x.test", MessageID: "E1x@h"}},
		`<= SRS0=ab=XY=else.test=who@a.test H=mx.else.test [192.0.2.1] P=essmtp S=9`:              {Arrival: logline.Arrival{Sender: "SRS0=ab=XY=else.test=who@a.test", ClientAddress: "192.0.2.1"}},
		`<= s@a.test U=mail P=spam-scanned S=9`:                                                   {Arrival: logline.Arrival{Sender: "s@a.test"}}, // -oMr: -oMt says who
		`<= <> R=1xUzQe-0004wm-36 U=Debian-exim P=local S=1500`:                                   {Arrival: logline.Arrival{Login: "Debian-exim", Answers: "1xUzQe-0004wm-36"}},
		`<= <> R=1xAAAA-00000000001-0001 U=mailnull P=local S=2000 T="R=x" for e@other.test`:      {Arrival: logline.Arrival{Login: "mailnull", Answers: "1xAAAA-00000000001-0001", Recipients: "e@other.test"}}, // A-10
		`<= bob@a.test R=1xUzQe-0004wm-36 U=bob P=local S=300`:                                    {Arrival: logline.Arrival{Sender: "bob@a.test", Login: "bob"}},
		`<= <> R=1xUzQe-0004wm-36 H=(x) [192.0.2.1] P=esmtp S=300`:                                {Arrival: logline.Arrival{ClientAddress: "192.0.2.1"}},
		`<= "a b H=[9.9.9.9] U=root P=local"@evil.test H=(x) [192.0.2.1] U=ident P=esmtp S=1`:     {Arrival: logline.Arrival{Sender: `"a b H=[9.9.9.9] U=root P=local"@evil.test`, ClientAddress: "192.0.2.1"}},
		`<= s@a.test H=([10.0.0.1]) [2001:db8::1]:4444 P=esmtpsa A=dovecot_login:bob S=1`:         {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "2001:db8::1", Auth: "bob"}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=cram S=1`:                                       {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1"}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:b\303\266b@a.test S=1`:                    {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "böb@a.test"}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:info:a.test S=1`:                          {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "info:a.test"}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:bob@a.test:eve@b.test S=1`:                {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "bob@a.test"}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:bob+a.test:eve@b.test S=1`:                {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "bob+a.test"}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:bob:b.test:eve@b.test S=1`:                {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "bob"}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:bob@a.test\t S=1`:                         {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "bob@a.test "}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:bob+a.test\n S=1`:                         {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "bob+a.test "}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:corp\tom S=1`:                             {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "corp\\tom"}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:b\tb@a.test S=1`:                          {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "b\\tb@a.test"}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:bob@a.test\x S=1`:                         {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "bob@a.test\\x"}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtpa A=plain:bob@a.test\ S=1`:                          {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", Auth: "bob@a.test\\"}},
		`<= s@a.test H=(x) [192.0.2.1] P=esmtp K S=1 M8S=8 RT=0.1s id=a@b T="\" A=plain:x" for u`: {Arrival: logline.Arrival{Sender: "s@a.test", ClientAddress: "192.0.2.1", MessageID: "a@b"}},
	} {
		want.Kind = logline.Arrived
		if got, ok := parsed(t, at+rest); !ok || got != want {
			t.Errorf("%s\n%s", rest, cmp.Diff(want, got, cmpopts.IgnoreUnexported(logline.Entry{})))
		}
	}
}

func TestOutcomesOfLines(t *testing.T) {
	for rest, want := range map[string]logline.Entry{
		`=> u1@ok1.sink R=r_main T=remote_smtp H=mx.test [127.0.0.1] C="250 OK id=1"`:                                                        {Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "u1@ok1.sink", Router: "r_main", Transport: "remote_smtp", Host: "mx.test"}},
		`-> u2@ok1.sink F=<s@a.test> P=<s@a.test> R=r T=remote_smtp S=3 H=[127.0.0.1]`:                                                       {Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "u2@ok1.sink", Router: "r", Transport: "remote_smtp", Host: "[127.0.0.1]"}},
		`>> u@x.test R=r T=remote_smtp H=mx.test [127.0.0.1] C="250 OK"`:                                                                     {Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "remote_smtp", Host: "mx.test"}},
		`=> a@x.test (b@y.test) <c@z.test> R=r T=remote_smtp`:                                                                                {Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "a@x.test", Original: "c@z.test", Router: "r", Transport: "remote_smtp"}},
		`=> a b@x.test <"a b"@x.test> R=r T=remote_smtp`:                                                                                     {Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "a b@x.test", Original: `"a b"@x.test`, Router: "r", Transport: "remote_smtp"}},
		`=> a@b R=sluice T=x@x.test <"a@b R=sluice T=x"@x.test> R=r T=remote_smtp`:                                                           {Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "a@b R=sluice T=x@x.test", Original: `"a@b R=sluice T=x"@x.test`, Router: "r", Transport: "remote_smtp"}},
		`=> a => b@x.test <"a => b"@x.test> R=r T=remote_smtp`:                                                                               {Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "a => b@x.test", Original: `"a => b"@x.test`, Router: "r", Transport: "remote_smtp"}},
		`=> bob <bob@here.test> R=localuser T=local_delivery`:                                                                                {Kind: logline.Delivered, Attempt: logline.Attempt{Recipient: "bob", Original: "bob@here.test", Router: "localuser", Transport: "local_delivery"}},
		`=> :blackhole: <u@x.test> R=r`:                                                                                                      {Kind: logline.Delivered, Attempt: logline.Attempt{Original: "u@x.test", Router: "r"}},
		`=> /var/mail/x <u@x.test> R=r T=address_file`:                                                                                       {Kind: logline.Delivered, Attempt: logline.Attempt{Original: "u@x.test", Router: "r", Transport: "address_file"}},
		`=> >bob@x.test <c@here.test> R=auto T=reply`:                                                                                        {Kind: logline.Delivered, Attempt: logline.Attempt{Original: "c@here.test", Router: "auto", Transport: "reply"}},
		`** |/bin/sh -c 'mail a@x.test; exit 3' <p@here.test> R=aliases T=address_pipe: returned 3`:                                          {Kind: logline.Failed, Attempt: logline.Attempt{Original: "p@here.test", Router: "aliases", Transport: "address_pipe", Text: "returned 3"}},
		`** s@send4.test: Unrouteable address`:                                                                                               {Kind: logline.Failed, Attempt: logline.Attempt{Recipient: "s@send4.test", Text: "Unrouteable address"}},
		`** s@send4.test : Unrouteable address`:                                                                                              {Kind: logline.Failed, Attempt: logline.Attempt{Recipient: "s@send4.test", Text: "Unrouteable address"}},
		`** u@x.test R=r T=remote_smtp H=mx [1.1.1.1] : SMTP error R=evil`:                                                                   {Kind: logline.Failed, Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "remote_smtp", Host: "mx", Text: "SMTP error R=evil"}},
		`== u@x.test R=r T=remote_smtp defer H=mx [1.1.1.1]: 450 4.2.0 wait`:                                                                 {Kind: logline.Deferred, Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "remote_smtp", Host: "mx", Text: "H=mx [1.1.1.1]: 450 4.2.0 wait"}},
		`** u@x.test <v@y.test>: retry timeout exceeded`:                                                                                     {Kind: logline.Failed, Attempt: logline.Attempt{Recipient: "u@x.test", Original: "v@y.test", Text: "retry timeout exceeded"}},
		`** u@x.test R=r T=remote_smtp H=mx [1.1.1.1]: SMTP error from remote mail server after RCPT TO:<u@x.test>: 550 5.1.1 R=evil T=evil`: {Kind: logline.Failed, Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "remote_smtp", Host: "mx", Text: "SMTP error from remote mail server after RCPT TO:<u@x.test>: 550 5.1.1 R=evil T=evil"}},
		`== u@x.test R=r T=remote_smtp defer (-44) H=mx [1.1.1.1]: 450 4.2.0 wait`:                                                           {Kind: logline.Deferred, Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "remote_smtp", Host: "mx", Text: "(-44) H=mx [1.1.1.1]: 450 4.2.0 wait"}},
		`== u@x.test R=r T=remote_smtp defer (Connection timed out)`:                                                                         {Kind: logline.Deferred, Attempt: logline.Attempt{Recipient: "u@x.test", Router: "r", Transport: "remote_smtp", Text: "(Connection timed out)"}},
		`== u@x.test routing defer (-52): retry time not reached`:                                                                            {Kind: logline.Deferred, Attempt: logline.Attempt{Recipient: "u@x.test", Text: "(-52): retry time not reached"}},
		`== 1xUz-ab@hold.sluice.invalid <u@x.test> R=sluice_hold defer: Domain a`:                                                            {Kind: logline.Deferred, Attempt: logline.Attempt{Recipient: "1xUz-ab@hold.sluice.invalid", Original: "u@x.test", Router: "sluice_hold", Text: " Domain a"}},
		`Completed`: {Kind: logline.Completed},
		`SMTP connection lost after final dot H=(pc) [192.0.2.10] P=esmtpa`: {Kind: logline.Lost},
		`moved from input, msglog to (sluice-quarantine) input, msglog`:     {Kind: logline.Moved, Attempt: logline.Attempt{Text: "sluice-quarantine"}},
		`moved from (sluice-quarantine) input, msglog to input, msglog`:     {Kind: logline.Moved},
	} {
		got, ok := parsed(t, at+rest)
		got.Text, want.Text = strings.TrimPrefix(got.Text, " "), strings.TrimPrefix(want.Text, " ")
		if !ok || got != want {
			t.Errorf("%s\n%s", rest, cmp.Diff(want, got, cmpopts.IgnoreUnexported(logline.Entry{})))
		}
	}
}

// Exim before 4.87 has no H= in lines of what went wrong: its own words name the host, and what
// a sender or a server chose does not.
func TestTheHostOfOlderExims(t *testing.T) {
	for rest, want := range map[string]string{
		`u@x.test R=r T=t defer (-44): SMTP error from remote mail server after RCPT TO:<u@x.test>: host mx.test [192.0.2.1]: 450 4.7.1 wait`:                                                                                   "mx.test",
		`u@x.test R=r T=t defer (-44): SMTP error from remote mailer after RCPT TO:<u@x.test>: host mx.test [192.0.2.1]: 450 4.7.1 wait`:                                                                                        "mx.test",
		`u@x.test R=r T=t: SMTP error from remote mail server after RCPT TO:<u@x.test>: host mx.test [192.0.2.1]: 550 5.1.1 no`:                                                                                                 "mx.test",
		`u@x.test R=r T=t: SMTP error from remote mail server after MAIL FROM:<s@a.test> SIZE=1400: host mx.test [192.0.2.1]: 550 5.7.1 no`:                                                                                     "mx.test",
		`u@x.test R=r T=t defer (-46): SMTP error from remote mail server after end of data: host mx.test [192.0.2.1]: 451 later`:                                                                                               "mx.test",
		`u@x.test R=r T=t defer (110): Connection timed out: SMTP timeout while connected to mx.test [192.0.2.1] after initial connection`:                                                                                      "mx.test",
		`u@x.test R=r T=t defer (110): Connection timed out: mx.test [192.0.2.1]`:                                                                                                                                               "mx.test",
		`u@x.test R=r T=t defer (-18): Remote host mx.test [192.0.2.1] closed connection in response to RCPT TO:<u@x.test>`:                                                                                                     "mx.test",
		`u@x.test R=r T=t defer (0): Malformed SMTP response from mx.test [192.0.2.1] after MAIL FROM:<s@a.test>: x`:                                                                                                            "mx.test",
		`u@x.test R=r T=t: Malformed SMTP response from mx.test [192.0.2.1] after MAIL FROM:<s@a.test>: x`:                                                                                                                      "mx.test",
		`u@x.test R=r T=t defer (111): Connection refused`:                                                                                                                                                                      "",
		`u@x.test R=r defer (-1): host lookup did not complete`:                                                                                                                                                                 "",
		`u@x.test R=r T=t defer (-44): SMTP error from remote mail server after RCPT TO:<u@x.test>: 450 [evil.test] says: host evil.test [192.0.2.1]: 450 x`:                                                                    "",
		`a: host evil.test [1.2.3.4]: b@x.test <"a: host evil.test [1.2.3.4]: b"@x.test> R=r T=t: SMTP error from remote mail server after RCPT TO:<a: host evil.test [1.2.3.4]: b@x.test>: host mx.test [192.0.2.1]: 550 no`:   "mx.test",
		`a: host evil.test [1.2.3.4]: b@x.test <"a: host evil.test [1.2.3.4]: b"@x.test> R=r T=t: SMTP error from remote mail server after RCPT TO:<"a: host evil.test [1.2.3.4]: b"@x.test>: host mx.test [192.0.2.1]: 550 no`: "mx.test",
		`u@x.test R=r T=t: SMTP error from remote mail server after RCPT TO:<other: host evil.test [1.2.3.4]: b@x.test>: host mx.test [192.0.2.1]: 550 no`:                                                                      "",
		`u@x.test R=r T=t: SMTP error from remote mail server after MAIL FROM:<"a>: host evil.test [1.2.3.4]: b"@a.test>: host mx.test [192.0.2.1]: 550 no`:                                                                     "mx.test",
	} {
		kind := "** "
		if strings.Contains(rest, " defer (") {
			kind = "== "
		}
		if got, _ := parsed(t, at+kind+rest); got.Host != want {
			t.Errorf("%s\nhost %q, want %q", rest, got.Host, want)
		}
	}
}

func TestLinesThatAreNoEntries(t *testing.T) {
	for _, line := range []string{"", " ", at, at + "*> u@x.test", at + "removed by root", at + "Frozen",
		"2026-11-22 04:43:53 exim 4.96 daemon started", "    another line of a warning <= a@b", at + "SMTP error <= x@y", "2026-11-22 04:43:53 H=(x) [1.1.1.1] rejected RCPT <u@x>: " + at + "<= a@b P=local"} {
		if e, ok := parse(mainlog.NewParser(time.UTC), noon, line); ok {
			t.Errorf("%q: %+v", line, e)
		}
	}
}

func TestStamps(t *testing.T) {
	want := time.Date(2026, 11, 22, 4, 43, 53, 0, time.UTC)
	for _, head := range []string{"2026-11-22 04:43:53 ", "2026-11-22 04:43:53 [77] ", "2026-11-22 05:43:53 +0100 [77] ", "2026-11-21 23:43:53 -0500 ",
		"Nov 22 04:43:53 host exim[123]: ", "Nov 22 04:44:00 host exim[123]: 2026-11-22 04:43:53 ", "2026-11-22T04:43:53+00:00 host exim[9]: ", "2026-11-22T04:44:01.5+00:00 host exim4[9]: 2026-11-22 04:43:53 [9] "} {
		for _, id := range []string{"1xUzQe-0004wm-37", "1sempe-00000001abC-0xYz"} {
			e, ok := parse(mainlog.NewParser(time.UTC), noon, head+id+" <= <> R=x U=x P=local S=1")
			if !ok || !e.At.Equal(want) || e.ID != id {
				t.Errorf("%s: %v %v %q", head, ok, e.At, e.ID)
			}
		}
	}
	e, _ := parse(mainlog.NewParser(time.UTC), noon, "2026-11-22 04:43:53.250 1xUzQe-0004wm-37 Completed")
	if !e.At.Equal(want.Add(250 * time.Millisecond)) {
		t.Errorf("milliseconds: %v", e.At)
	}
	e, _ = parse(mainlog.NewParser(time.UTC), time.Date(2027, 1, 1, 0, 5, 0, 0, time.UTC), "Dec 31 23:59:59 host exim[1]: 1xUzQe-0004wm-37 Completed")
	if e.At.Year() != 2026 {
		t.Errorf("December read in January: %v", e.At)
	}
	e, _ = parse(mainlog.NewParser(time.UTC), time.Date(2029, 1, 10, 0, 5, 0, 0, time.UTC), "Feb 29 23:59:59 host exim[1]: 1xUzQe-0004wm-37 Completed")
	if want := time.Date(2028, 2, 29, 23, 59, 59, 0, time.UTC); !e.At.Equal(want) {
		t.Errorf("February 29 read in the next year: %v", e.At)
	}
}

// In the hour that is repeated when summer time ends, the id's time decides.
func TestTheHourThatIsRepeated(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	p := mainlog.NewParser(berlin)
	for _, want := range []time.Time{
		time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC), // both 02:30
		time.Date(2026, 10, 25, 2, 30, 0, 0, time.UTC), time.Date(2026, 3, 29, 0, 59, 59, 0, time.UTC), time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC),
	} {
		for _, id := range []string{idOf(want), idOf(want)[:6] + "-00000001abC-0xYz"} {
			line := want.In(berlin).Format("2006-01-02 15:04:05 ") + id + " <= a@b.test U=x P=local S=1"
			if e, ok := parse(p, noon, line); !ok || !e.At.Equal(want) {
				t.Errorf("%s is %v, want %v", line, e.At.UTC(), want)
			}
		}
	}
}

// idOf makes an id of a time.
func idOf(t time.Time) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	id := ""
	for n := t.Unix(); n > 0; n /= 62 {
		id = digits[n%62:n%62+1] + id
	}
	return id + "-0004wm-37"
}

// Lines that Exim has split for syslog are one again, whoever else logs between.
func TestSplitLinesOfSyslog(t *testing.T) {
	p := mainlog.NewParser(time.UTC)
	var got []logline.Entry
	for _, line := range []string{
		`Nov 22 04:43:53 host exim[1]: [1/3] 1xUzQe-0004wm-37 ** u@x.test R=r T=remote_smtp: SMTP er`,
		`Nov 22 04:43:53 host exim[2]: [1\2] 1xUzQe-0004wm-38 ** v@x.test: first line`,
		`Nov 22 04:43:53 host exim[1]: [2/3] ror from remote mail server after RCPT TO:<u@x.test>: 5`,
		`Nov 22 04:43:53 host exim[2]: [2\2] 1xUzQe-0004wm-39 <= second@line.test`,
		`Nov 22 04:43:53 host exim[1]: [3/3] 50 no`,
		`Nov 22 04:43:53 host exim[3]: [2/2] without a beginning`,
	} {
		if e, ok := parse(p, noon, line); ok {
			got = append(got, e)
		}
	}
	if len(got) != 2 || got[0].Text != "first line" || got[1].Text != "SMTP error from remote mail server after RCPT TO:<u@x.test>: 550 no" {
		t.Errorf("%+v", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{at + `=> a b@x.test (c@y) <"a b"@x.test> F=<x@y> R=r T=t H=h [1.1.1.1]:25 C="250 \"ok\""`,
		at + `<= "a b"@x H=n (h) [::1]:1 P=esmtpa A=plain:\303x S=1`, `Nov 22 04:43:53 h exim[1]: [1\2] x`, at + `== u@[1.1.1.1] routing defer (-52): x`,
		at + "** @: \x00\xff", "2026-13-99 99:99:99 +9999 [1] 1sempe-00000001abC-0xYz => |x"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		e, ok := parse(mainlog.NewParser(time.UTC), noon, line)
		if !ok {
			return
		}
		if e.Kind == 0 || e.ID == "" || e.Line != line {
			t.Fatalf("%+v", e)
		}
		for _, field := range []string{e.Sender, e.Login, e.ClientAddress, e.Recipient, e.Original, e.Router, e.Transport, e.Text} {
			if field != "unknown" && !strings.Contains(line, field) && !strings.Contains(line, "[") {
				t.Fatalf("%q is not in %q", field, line)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	lines := []string{at + `<= s@send1.test H=(client.test) [192.0.2.1] P=esmtpa A=plain:s@send1.test S=2580 id=abc@send1.test`,
		at + `=> u1@ok1.sink R=dnslookup T=remote_smtp H=mx.ok1.sink [192.0.2.7] X=TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256 CV=yes C="250 2.0.0 OK id=sink-269"`,
		at + "Completed"}
	p := mainlog.NewParser(time.UTC)
	var e logline.Entry
	for i := 0; b.Loop(); i++ {
		p.Parse(noon, lines[i%len(lines)], &e)
	}
}
