package engine_test

import (
	"testing"
	"time"

	"sluice/sidecar/card"
	"sluice/sidecar/stop"
)

// What is drawn of an incident is what was sent: by the culprit before its stop and after, and by the
// others, over a restart too.
func TestTheMinutesOfAnIncident(t *testing.T) {
	s := newSite(t, limit20)
	s.now = s.now.Truncate(time.Minute).Add(10 * time.Second)
	s.sendAs("ann@a.example")
	s.past(2 * time.Minute)
	s.send(12)
	s.past(time.Minute)
	s.send(7) // now all 20 are sent
	s.past(time.Minute)
	s.stop(stop.Request{Scope: "news@a.example"})
	s.past(time.Minute)
	for _, to := range []string{"v1@far.example", "v2@far.example", "v2@far.example"} { // the same again is not tried anew
		s.rcpt(to, 0)
	}
	s.past(2 * time.Minute)
	s.stopAndStart()
	s.past(2 * time.Minute)

	found, err := s.Incidents("a.example")
	if err != nil || len(found) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	m := found[0].Minutes
	var tried, sent, othersTried, othersSent int64
	for n := range m.Tried {
		if m.Tried[n] >= 0 {
			tried, sent, othersTried, othersSent = tried+m.Tried[n], sent+m.Sent[n], othersTried+m.OthersTried[n], othersSent+m.OthersSent[n]
		}
	}
	if m.Author != "news@a.example" || tried != 21 || sent != 19 || othersTried != 1 || othersSent != 1 {
		t.Errorf("%d tried, %d sent, others %d and %d: %+v", tried, sent, othersTried, othersSent, m)
	}
	facts := map[string]string{}
	for _, f := range (&card.Card{Incident: found[0]}).Facts() {
		facts[f.Label] = f.Text
	}
	if facts["SENT"] != "news@a.example tried 21 and sent 19" || facts["AFTER"] != "the stop it sent 0, and tried 2" || facts["OTHERS"] != "1 sent, 0 refused: nobody else noticed" {
		t.Errorf("the card says %q", facts)
	}
}
