package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/logline"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/mainlog/mainlogtest"
	"sluice/sidecar/simulate"
)

// Mail of strangers, whose sender is forged, to a tenant's autoresponder: its answers fail, and
// do not trip the tenant. But the tenant, who can have any message name what it answers, excuses
// nothing else by that. A simulation of the log finds the same.
func TestStrangersTripNobodyByAnAutoresponder(t *testing.T) {
	const outside = "H=(mx) [192.0.2.9] P=esmtp S=900"
	for name, c := range map[string]struct {
		came string // how what is answered has come
		to   string // whom the answer goes to
		gone bool   // what is answered has left the queue before
		none bool   // the answer does not say what it answers
		trip bool
	}{
		"mail from outside":            {came: outside, to: "forged"},
		"its sender in other letters":  {came: outside, to: "FORGED"},
		"another recipient":            {came: outside, to: "victim", trip: true},
		"an answer to nothing":         {came: outside, to: "forged", none: true, trip: true},
		"mail that has left the queue": {came: outside, to: "forged", gone: true, trip: true},
		"own mail by sendmail":         {came: "U=bob P=local S=900", to: "forged", trip: true},
		"own mail with a password":     {came: "H=(pc) [192.0.2.9] P=esmtpa A=plain:bob@bob.example S=900", to: "forged", trip: true},
		"mail over the loopback":       {came: "H=localhost [127.0.0.1] P=esmtp S=900", to: "forged", trip: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := ownedSite(t, map[string]string{"bob.example": "bob"})
			var log strings.Builder
			parser := mainlog.NewParser(time.UTC)
			say := func(format string, args ...any) {
				line := s.now.Format("2006-01-02 15:04:05 ") + fmt.Sprintf(format, args...)
				log.WriteString(line + "\n")
				var e logline.Entry
				if !parser.Parse(s.now, line, &e) {
					t.Fatalf("%q is no line that counts", line)
				}
				s.Record(t.Context(), s.now, []logline.Entry{e})
			}
			var answers []string
			for n := range 7 {
				id, answer, field := mainlogtest.ID(s.now, 2*n+1), mainlogtest.ID(s.now, 2*n+2), ""
				answers = append(answers, answer)
				say("%s <= forged%d@far.example %s", id, n, c.came)
				if c.gone {
					say("%s Completed", id)
				}
				if !c.none {
					field = "R=" + id + " "
				}
				say("%s <= <> %sU=bob P=local S=700", answer, field)
				if !c.gone {
					say("%s Completed", id)
				}
			}
			if err := s.Checkpoint(s.now, nil); err != nil {
				t.Fatal(err)
			}
			s.restart()
			for n, answer := range answers {
				say("%s ** %s%d@far.example R=dnslookup T=remote_smtp H=mx.far.example [203.0.113.1]: SMTP error from remote mail server after RCPT TO:<x@far.example>: 550 5.1.1 no such user", answer, c.to, n)
			}
			s.Step(t.Context(), s.now)
			if got := s.tripped("bob.example"); got != c.trip {
				t.Errorf("bob.example is tripped: %v, want %v; %+v", got, c.trip, s.outcomes("bob.example"))
			}
			if locked := s.content("max_deferfail_bob.example") != ""; locked != c.trip {
				t.Errorf("it has a lock: %v, want %v", locked, c.trip)
			}
			s.sent("bob.example", 7) // it is charged all the same
			s.now = s.now.Add(10 * time.Minute)
			own := mainlogtest.ID(s.now, 1)
			say("%s <= bob@bob.example H=(pc) [192.0.2.9] P=esmtpa A=plain:bob@bob.example S=900", own)
			say("%s => friend@else.example R=dnslookup T=remote_smtp H=mx.else.example [203.0.113.2] C=\"250 OK\"", own)
			want := simulate.Report{Sent: 8, Bad: 7}
			if c.trip {
				want.Sent, want.Refused = 7, 1
			}
			if r := replayed(t, log.String(), s.config).Report(); r.Sent != want.Sent || r.Refused != want.Refused || r.Bad != want.Bad {
				t.Errorf("simulated: %+v, want %+v", r, want)
			}
		})
	}
}
