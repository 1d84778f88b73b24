package postfixlog

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/sidecar/logline"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func newParser() *Parser {
	return NewParser(time.UTC, func(uid string) string { return map[string]string{"2001": "alice"}[uid] })
}

// parse has a line parsed into an entry that was another one.
func parse(p *Parser, now time.Time, line string) (e logline.Entry, ok bool) {
	e = logline.Entry{ID: "left", Process: "1", Arrival: logline.Arrival{Sender: "s", Auth: "a", Login: "l", ClientAddress: "c"},
		Attempt: logline.Attempt{Recipient: "r", Original: "o", Router: "r", Transport: "t", Text: "x"}}
	ok = p.Parse(now, line, &e)
	return e, ok
}

const prefix = "Nov 25 11:59:58 pf postfix/"

func TestParse(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for line, want := range map[string]logline.Entry{
		"smtpd[152]: 1A4FC2525F: client=localhost[127.0.0.1], sasl_method=PLAIN, sasl_username=news@shop.example": {
			Kind: logline.Arrived, ID: "1A4FC2525F", Process: "152", Arrival: logline.Arrival{ClientAddress: "127.0.0.1", Auth: "news@shop.example"}},
		"submission/smtpd[7]: 4XqZ6W3yqKz2Xs: client=mail.x[2001:db8::1]:4711, sasl_method=LOGIN, sasl_username=u, sasl_sender=a@b": {
			Kind: logline.Arrived, ID: "4XqZ6W3yqKz2Xs", Process: "7", Arrival: logline.Arrival{ClientAddress: "2001:db8::1", Auth: "u"}},
		"smtpd[1]: 822E8990043: client=sasl_username=x[192.0.2.1]": {
			Kind: logline.Arrived, ID: "822E8990043", Process: "1", Arrival: logline.Arrival{ClientAddress: "192.0.2.1"}},
		"smtpd[1]: 822E8990043: client=unknown[unknown]": {
			Kind: logline.Arrived, ID: "822E8990043", Process: "1", Arrival: logline.Arrival{ClientAddress: "unknown"}},
		"pickup[9]: 822E8990043: uid=2001 from=<alice>": {Kind: logline.Arrived, ID: "822E8990043", Arrival: logline.Arrival{Login: "alice"}},
		"pickup[9]: 822E8990043: uid=33 from=<www>":     {Kind: logline.Arrived, ID: "822E8990043", Arrival: logline.Arrival{Login: "33"}},
		"qmgr[9]: 822E8990043: from=<a@b.example>, size=292, nrcpt=1 (queue active)": {
			Kind: logline.Sender, ID: "822E8990043", Arrival: logline.Arrival{Sender: "a@b.example"}},
		"qmgr[9]: 822E8990043: from=<>, size=2115, nrcpt=1 (queue active)": {Kind: logline.Sender, ID: "822E8990043"},
		`qmgr[9]: 822E8990043: from=<"a>, size=1"@b.example>, size=2, nrcpt=1 (queue active)`: {
			Kind: logline.Sender, ID: "822E8990043", Arrival: logline.Arrival{Sender: `"a>, size=1"@b.example`}},
		"qmgr[9]: 822E8990043: from=<a@b>, status=expired, returned to sender": {
			Kind: logline.Expired, ID: "822E8990043", Arrival: logline.Arrival{Sender: "a@b"}, Attempt: logline.Attempt{Text: "expired, returned to sender"}},
		"qmgr[9]: 822E8990043: from=<a@b>, status=force-expired, returned to sender": {
			Kind: logline.Expired, ID: "822E8990043", Arrival: logline.Arrival{Sender: "a@b"}, Attempt: logline.Attempt{Text: "expired, returned to sender"}},
		"qmgr[9]: 822E8990043: removed":      {Kind: logline.Completed, ID: "822E8990043"},
		"postsuper[9]: 822E8990043: removed": {Kind: logline.Completed, ID: "822E8990043"},
		"smtp[9]: 822E8990043: to=<u@far.example>, relay=mx[192.0.2.1]:25, delay=0.03, delays=0.01/0.02/0/0, dsn=2.0.0, status=sent (250 2.0.0 OK: queued)": {
			Kind: logline.Delivered, ID: "822E8990043", Attempt: logline.Attempt{Transport: "smtp", Host: "mx", Recipient: "u@far.example"}},
		"relay/smtp[9]: 822E8990043: to=<u@far.example>, orig_to=<o@here>, relay=none, conn_use=2, delay=1, delays=1/0/0/0, dsn=4.4.1, status=deferred (connect to x[192.0.2.1]:25: Connection refused)": {
			Kind: logline.Deferred, ID: "822E8990043", Attempt: logline.Attempt{Transport: "smtp", Host: "x", Recipient: "u@far.example", Original: "o@here", Text: "connect to x[192.0.2.1]:25: Connection refused"}},
		"smtp[9]: 822E8990043: to=<u@far.example>, relay=mx[192.0.2.1]:25, delay=1, delays=1/0/0/0, dsn=5.1.1, status=bounced (host mx[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command))": {
			Kind: logline.Failed, ID: "822E8990043", Attempt: logline.Attempt{Transport: "smtp", Host: "mx", Recipient: "u@far.example", Text: "host mx[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command)"}},
		"smtp[9]: 822E8990043: to=<u@far.example>, relay=mx, delay=1, delays=1/0/0/0, dsn=5.1.1, status=SOFTBOUNCE (no)": {
			Kind: logline.Deferred, ID: "822E8990043", Attempt: logline.Attempt{Transport: "smtp", Recipient: "u@far.example", Text: "no"}},
		"local[9]: 822E8990043: to=<alice@here.example>, relay=local, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (delivered to mailbox)": {
			Kind: logline.Delivered, ID: "822E8990043", Attempt: logline.Attempt{Transport: "local", Recipient: "alice@here.example"}},
		// What the sender and the remote side may choose.
		`smtp[9]: 822E8990043: to=<"x>, relay=a, status=sent (b"@far.example>, relay=mx, delay=1, dsn=5.0.0, status=bounced (said: 550 >, status=sent (x))`: {
			Kind: logline.Failed, ID: "822E8990043", Attempt: logline.Attempt{Transport: "smtp", Recipient: `"x>, relay=a, status=sent (b"@far.example`, Text: "said: 550 >, status=sent (x)"}},
		"smtp[9]: 822E8990043: to=<" + long + "@x>, relay=mx, delay=1, dsn=2.0.0, status=sent (ok)": {
			Kind: logline.Delivered, ID: "822E8990043", Attempt: logline.Attempt{Transport: "smtp", Recipient: long + "@x"}},
	} {
		e, ok := parse(newParser(), noon, prefix+line)
		want.Postfix, want.At, want.Line = true, noon.Add(-2*time.Second), prefix+line
		if d := cmp.Diff(want, e, cmpopts.IgnoreUnexported(e)); d != "" || !ok {
			t.Errorf("%s: %v\n%s", line, ok, d)
		}
	}
}

func TestLinesThatAreNoEntries(t *testing.T) {
	for _, line := range []string{
		"", "x", "Nov 25 11:59:58", "Nov 25 11:59:58 ", "Nov 25 11:59:58 pf", "2026-11-25T11:59:58", "2026-11-25T", "Nov 31 11:59:58 pf postfix/qmgr[9]: 822E8990043: removed",
		prefix + "smtpd[1]: connect from localhost[127.0.0.1]",
		prefix + "smtpd[1]: NOQUEUE: reject: RCPT from x[192.0.2.1]: 450 4.7.1 <u@far>: no; from=<a@b> to=<u@far> proto=ESMTP helo=<x>",
		prefix + "smtpd[1]: 822E8990043: reject: RCPT from x[192.0.2.1]: 450 4.7.1 client=x[192.0.2.2]",
		prefix + "smtpd[1]: warning: client=x[192.0.2.1]",
		prefix + "smtpd[1]: 822E8990043: to=<u@far>, relay=mx, delay=1, dsn=2.0.0, status=sent (ok)",
		prefix + "cleanup[1]: 822E8990043: message-id=<to=<u@far>, relay=mx, dsn=2.0.0, status=sent (ok)@x>",
		prefix + "cleanup[1]: 822E8990043: milter-reject: END-OF-MESSAGE from x[192.0.2.1]: 4.7.1 no; from=<a@b> to=<c@d>",
		prefix + "smtp[1]: 822E8990043: to=<u@far>, relay=mx, delay=1, dsn=2.0.0, status=deliverable (delivers to mailbox)",
		prefix + "smtp[1]: 822E8990043: to=<u@far",
		prefix + "smtp[1]: 822E8990043: to=<u@far>, status=sent (no relay)",
		prefix + "smtp[1]: 822E8990043: host mx[192.0.2.1] said: 450 4.2.0 later (in reply to RCPT TO command)",
		prefix + "bounce[1]: 822E8990043: sender non-delivery notification: 2200D25266",
		prefix + "qmgr[1]: 822E8990043: skipped, still being delivered",
		prefix + "smtp: 822E8990043: to=<u@far>, relay=mx, dsn=2.0.0, status=sent (ok)",
		"Nov 25 11:59:58 pf exim[1]: 822E8990043: removed",
		"Nov 25 11:59:58 pf dovecot: imap(u): qmgr[1]: 822E8990043: removed",
	} {
		if e, ok := parse(newParser(), noon, line); ok {
			t.Errorf("%q is taken for %+v", line, e)
		}
	}
}

func TestTimes(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	p := NewParser(berlin, func(string) string { return "" })
	for _, tc := range []struct{ stamp, want string }{
		{"2026-11-25T11:59:58.123456+00:00", "2026-11-25T11:59:58.123456Z"},
		{"2026-11-25T12:59:58+01:00", "2026-11-25T11:59:58Z"},
		{"Nov 25 12:59:58", "2026-11-25T11:59:58Z"},
		{"Nov  5 12:59:58", "2026-11-05T11:59:58Z"},
		{"Dec 24 12:00:00", "2025-12-24T11:00:00Z"}, // of last year
		{"Oct 25 01:30:00", "2026-10-24T23:30:00Z"},
		{"Oct 25 02:30:00", "2026-10-25T00:30:00Z"}, // summer time
		{"Oct 25 02:59:00", "2026-10-25T00:59:00Z"},
		{"Oct 25 02:00:01", "2026-10-25T01:00:01Z"}, // the hour is repeated
		{"Oct 25 02:30:00", "2026-10-25T01:30:00Z"},
		{"Oct 25 03:00:00", "2026-10-25T02:00:00Z"},
		{"Feb 29 03:00:00", "2026-03-01T02:00:00Z"},
	} {
		e, ok := parse(p, noon, tc.stamp+" pf postfix/qmgr[1]: 822E8990043: removed")
		if got := e.At.UTC().Format(time.RFC3339Nano); got != tc.want || !ok {
			t.Errorf("%s: %s, %v, want %s", tc.stamp, got, ok, tc.want)
		}
	}
}

// FuzzParse: no line brings the parser down, and what it says is of the line.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		prefix + "smtp[9]: 822E8990043: to=<u@far.example>, orig_to=<\"a>\"@b>, relay=mx, delay=1, dsn=2.0.0, status=sent (ok)",
		prefix + "smtpd[152]: 1A4FC2525F: client=localhost[127.0.0.1], sasl_method=PLAIN, sasl_username=news@shop.example",
		"2026-11-25T12:59:58+01:00 pf postfix/qmgr[9]: 822E8990043: from=<>, size=2115, nrcpt=1 (queue active)",
		prefix + "pickup[9]: 822E8990043: uid=2001 from=<alice>",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		e, ok := parse(newParser(), noon, line)
		if !ok {
			return
		}
		if e.Kind == 0 || !isQueueID(e.ID) || e.Line != line || e.At.IsZero() {
			t.Errorf("%+v", e)
		}
		for _, part := range []string{e.ID, e.Sender, e.Auth, e.ClientAddress, e.Recipient, e.Original, e.Transport} {
			if !strings.Contains(line, part) {
				t.Errorf("%q is not of the line", part)
			}
		}
	})
}
