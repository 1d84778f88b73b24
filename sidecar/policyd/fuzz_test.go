package policyd

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar"
)

// FuzzParse: whatever is understood says the same when it is asked again in
// our own words, and whatever is not is refused as one of the two errors.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw string) {
		r, err := parse(raw)
		if err != nil {
			if !errors.Is(err, errMalformed) && !errors.Is(err, errLimit) {
				t.Fatal(err)
			}
			return
		}
		again, err := AppendRequest(nil, fieldsOf(r))
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(string(again[:len(again)-1]))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, got); d != "" {
			t.Error(d)
		}
	})
}

// fieldsOf words a request.
func fieldsOf(r sidecar.Request) []Field {
	charged := ""
	if r.Charged {
		charged = "yes"
	}
	digits := ""
	for n := r.Sent; n > 0; n /= 10 {
		digits = string(rune('0'+n%10)) + digits
	}
	return []Field{
		{"stage", string(r.Stage)}, {"id", r.ID}, {"sender", r.Sender},
		{"recipients", r.Recipients}, {"recipient", r.Recipient}, {"auth", r.Auth},
		{"login", r.Login}, {"uid", r.UID}, {"cwd", r.CWD}, {"script", r.Script}, {"subject", r.Subject},
		{"client_address", r.ClientAddress}, {"original", r.Original},
		{"client_port", r.ClientPort}, {"server_address", r.ServerAddress}, {"server_port", r.ServerPort},
		{"proxy_address", r.ProxyAddress}, {"proxy_port", r.ProxyPort}, {"payer", r.Socket},
		{"charged", charged}, {"sent", digits},
	}
}

// replies is a sequence of well-formed replies.
var replies = regexp.MustCompile(
	`^(action=(DUNNO|450 4\.7\.1 [ -~]{1,900}|550 5\.7\.1 [ -~]{1,900}|DISCARD [ -~]{1,900})` +
		`(\nroom=[0-9]+)?(\ncharged=yes)?\n\n)*$`)

// FuzzServe: any stream of bytes, however it is cut up, gets the same answers,
// each well-formed although the text in it is the client's own, and no more
// than there are empty lines.
func FuzzServe(f *testing.F) {
	asker := askFunc(func(r sidecar.Request) sidecar.Reply {
		return sidecar.Reply{
			Action:  sidecar.Action(r.Sent % 5),
			Text:    "x" + r.Sender + r.Script,
			Room:    r.Sent,
			Charged: r.Charged,
		}
	})
	f.Fuzz(func(t *testing.T, in []byte, step uint16) {
		s := New(asker, Options{MaxRequest: 5000, MaxBuffered: 40_000})
		whole := feed(s, bytes.Clone(in), 1<<20)
		if !replies.MatchString(whole) {
			t.Errorf("replies %q", whole)
		}
		if strings.Count(whole, "\n\n") > bytes.Count(in, []byte("\n\n")) {
			t.Errorf("more replies than requests: %q", whole)
		}
		if cut := feed(s, in, int(step)+1); cut != whole {
			t.Errorf("in steps of %d: %q, want %q", step+1, cut, whole)
		}
		if s.Open() != 0 || s.memory.lent.Load() != 0 {
			t.Errorf("%d open, %d bytes lent", s.Open(), s.memory.lent.Load())
		}
	})
}
