package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/logline"
	"sluice/sidecar/printable"
	"sluice/sidecar/typed"
)

// wantWho compares "NAME TRIED/SENT" of each author of a subject, and how many sends nobody is
// known for.
func (s *site) wantWho(subject string, unattributed int64, want ...string) {
	s.t.Helper()
	r, _ := s.Who.Of(s.now, subject)
	var got []string
	for _, a := range r.Authors {
		got = append(got, fmt.Sprintf("%s %d/%d", a.Key, a.Tried, a.Sent))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || r.Unattributed != unattributed {
		s.t.Errorf("%s: %q and %d not attributed, want %q and %d", subject, got, r.Unattributed, want, unattributed)
	}
}

// local charges a message that bob's program sends from a directory.
func (s *site) local(directory string) sidecar.Reply {
	s.ids++
	return s.Ask(context.Background(), s.now, sidecar.Request{Stage: sidecar.StageLocal, ID: fmt.Sprintf("1xUzSN-%06d-0q", s.ids), Sender: "x@a.example",
		Recipients: "u@far.example", Submitter: sidecar.Submitter{Login: "bob", CWD: directory}})
}

// Each send has one author, whether it was asked about or is charged from the log; what is
// refused counts once, and panes go with the window, a restart and a reset.
func TestWhoSends(t *testing.T) {
	s := newSite(t, limit20)
	s.sendAs("news@a.example")
	s.sendAs("info@a.example")
	s.local("/home/bob/wp")
	s.arrived("a.example") // nobody was asked
	s.gotThrough(s.arrived("a.example"), "x@far.example")
	s.wantWho("a.example", 0, "news@a.example 2/2", "info@a.example 1/1", "script:/home/bob/wp 1/1")
	forward := sidecar.Request{Stage: sidecar.StageRoute, ID: messageID(s.now), Sender: "stranger@else.example", Recipient: "y@far.example", Original: "info@a.example",
		Submitter: sidecar.Submitter{ClientAddress: "198.51.100.7"}}
	s.Ask(t.Context(), s.now, forward)
	s.wantWho("forward:a.example", 0, "forward:info@a.example 1/1")

	s.send(16)
	for range 3 {
		s.rcpt("over@far.example", 0)
		s.rcpt("over2@far.example", 0)
	}
	if r, _ := s.Who.Of(s.now, "a.example"); r.Sent != 20 || r.Refused != 2 || r.Limit != 20 || r.Tried != 22 || r.Authors[0].Tried != 20 || r.Authors[0].Sent != 18 || r.Authors[0].Share != 90 {
		t.Errorf("%+v", r)
	}
	if who, tried, of := s.Who.Most(s.now, "a.example"); who.Key != "news@a.example" || tried != 20 || of != 22 {
		t.Errorf("%+v %d of %d", who, tried, of)
	}

	s.Who.Stop(t.Context(), s.now)
	s.restart()
	s.wantWho("a.example", 0, "news@a.example 20/18", "info@a.example 1/1", "script:/home/bob/wp 1/1")
	s.now = s.now.Add(80 * time.Minute)
	s.sendAs("news@a.example")
	s.restart() // without a save, as by kill -9
	s.wantWho("a.example", 1)
	s.sendAs("news@a.example")
	s.wantWho("a.example", 1, "news@a.example 1/1")
	if err := s.Reset(t.Context(), s.now, "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.wantWho("a.example", 0)
	s.sendAs("news@a.example")
	s.wantWho("a.example", 0, "news@a.example 1/1")
}

// Bad sends are those of the author of the message, delivered retries none.
func TestWhoseMailIsBad(t *testing.T) {
	s := newSite(t, limit20)
	id, ok := s.arrived("a.example"), s.arrived("a.example")
	s.failed(id, "x@far.example", noSuchUser)
	s.failed(id, "y@far.example", "SMTP error from remote mail server after end of data: 550 5.7.1 blocked for spam")
	s.deferred(id, "z@far.example", greylisted)
	s.gotThrough(id, "z@far.example")
	s.gotThrough(ok, "x@far.example")
	r, _ := s.Who.Of(s.now, "a.example")
	if len(r.Authors) != 1 || r.Authors[0].Sent != 4 || r.Authors[0].Bad != 2 || fmt.Sprint(r.Authors[0].Causes) != "map[called-spam:1 no-such-address:1]" || r.CalledSpam == nil {
		t.Errorf("%+v", r)
	}
}

// A scope of who is a domain with what it redirects, or an author wherever it sends.
func TestScopesOfWho(t *testing.T) {
	s := newSite(t, limit20)
	s.sendAs("news@a.example")
	s.sendAs("info@a.example")
	s.sendAs("info@a.example")
	s.sendAs("news@b.example")
	s.local("/home/bob/wp")
	s.local("/home/bobby")
	for scope, want := range map[string]string{
		"":               "a.example info@a.example, a.example news@a.example, a.example script:/home/bob/wp, a.example script:/home/bobby, b.example news@b.example",
		"a.example":      "a.example info@a.example, a.example news@a.example, a.example script:/home/bob/wp, a.example script:/home/bobby",
		"news@a.example": "a.example news@a.example", "script:/home/bob": "a.example script:/home/bob/wp", "script:/home/bobby": "a.example script:/home/bobby",
		"c.example": "error", "login:nobody": "error", "script:/home/b": "error",
	} {
		var got []string
		w, err := s.WhoSends(s.now, scope, 20)
		if errors.Is(err, typed.ErrNotFound) {
			got = []string{"error"}
		}
		for _, r := range w.Domains {
			for _, a := range r.Authors {
				got = append(got, r.Domain+" "+a.Key)
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %q, want %q: %v", scope, got, want, err)
		}
	}
	if d := s.outcomes("a.example"); len(d.Authors) != 3 || d.Authors[0].Key != "info@a.example" || d.Authors[0].Sent != 2 {
		t.Errorf("status: %+v", d.Authors)
	}
}

// Of a domain that is locked, and of which nobody sends, it is not said that it is not locked,
// nor that another one was meant.
func TestWhoOfALockedDomain(t *testing.T) {
	s := newSite(t, limit20)
	s.sendAs("news@a.example")
	if _, err := s.Lock(t.Context(), s.now, "b.example", "root"); err != nil {
		t.Fatal(err)
	}
	for scope, want := range map[string]string{
		"b.example":  "not found: nobody has tried to send anything of it in the last hour",
		"aa.example": "not found: nobody has tried to send anything of it in the last hour; did you mean a.example?",
	} {
		if _, err := s.WhoSends(s.now, scope, 20); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", scope, err, want)
		}
	}
}

// Whatever names tenants choose, they are their own, and nothing but a name.
func TestHostileAuthors(t *testing.T) {
	s := newSite(t, limit20)
	for _, name := range []string{"/home/bob/../alice", "/home/bob/\x00/x", "/home/bob/\x1b[2J\nroot", "/home/bob/" + string(make([]byte, 300)), "/home/bob/\u202e\xff"} {
		s.local(name)
	}
	r, _ := s.Who.Of(s.now, "a.example")
	if r.Sent != 5 || len(r.Authors) != 5 || r.Unattributed != 0 {
		t.Errorf("%+v", r)
	}
	for _, a := range r.Authors {
		if printable.Of(a.Key) != a.Key || len(a.Key) > 200 || a.Sent != 1 || a.Kind != "script" {
			t.Errorf("%q", a.Key)
		}
	}
}

// Where it is full, and where it is broken, names are left out: limits hold.
func TestWithoutNamesLimitsHold(t *testing.T) {
	s := newSite(t, limit20+"[who]\nmax_authors = 1000\nmemory = \"1MB\"\n")
	for i := range 1500 {
		s.sendAs(fmt.Sprintf("u%d@b%d.example", i, i))
	}
	if st := s.Who.Status(); st.Authors > 1000 || st.Memory > 1<<20 {
		t.Errorf("%+v", st)
	}
	s.want(s.send(20), sidecar.Accept, "")
	s.want(s.rcpt("x@far.example", 0), sidecar.Defer, "Domain a.example has exceeded")
	s.Who.Recorded(s.now, []logline.Outcome{{Author: &sidecar.Author{Key: "x"}}}) // without a payer: a bug breaks it
	if s.Who.Failure() == nil {
		t.Fatal("it is not broken")
	}
	s.want(s.rcpt("y@far.example", 0), sidecar.Defer, "Domain a.example has exceeded")
	s.want(s.sendAs("news@c.example"), sidecar.Accept, "")
	s.sent("c.example", 1)
	s.wantWho("c.example", 1)
	s.wantWho("a.example", 20)
}
