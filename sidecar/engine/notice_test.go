package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/stop"
)

// notice is a question about a notice of Sluice's own, to n recipients, the first of which is
// number first.
func (s *site) notice(stage sidecar.Stage, first, n int) sidecar.Request {
	r := sidecar.Request{Stage: stage, Sender: "alarm@a.example", Submitter: sidecar.Submitter{UID: "0", Login: "root"}}
	var to []string
	for i := range n {
		to = append(to, fmt.Sprintf("ops%d@far.example", first+i))
	}
	r.Recipients, r.Recipient = strings.Join(to, ", "), to[0]
	if stage != sidecar.StageRcpt {
		r.ID = fmt.Sprintf("1xUzSN-%06d-0q", 900000+first)
	}
	return r
}

// lock locks a.example by hand.
func (s *site) lock() {
	s.t.Helper()
	if _, err := s.Lock(s.t.Context(), s.now, "a.example", "alice"); err != nil {
		s.t.Fatal(err)
	}
}

// A notice of Sluice's own says that a domain is locked, stopped and over its limit: none of that
// may stop the notice, and nobody pays for it. Others do not get by in its name.
func TestNoticesPass(t *testing.T) {
	s := newSite(t, limit20+"[alert]\nfrom = \"alarm@a.example\"\n")
	s.send(20)
	s.lock()
	s.stop(stop.Request{Scope: "login:root"})
	for n, stage := range []sidecar.Stage{sidecar.StageRcpt, sidecar.StageData, sidecar.StageLocal, sidecar.StageRoute} {
		if got := s.ask(s.notice(stage, 10*n, 2)); got.Action != sidecar.Accept {
			t.Errorf("%s: a notice gets %v %s", stage, got.Action, got.Text)
		}
		for what, change := range map[string]func(*sidecar.Request){
			"a tenant": func(r *sidecar.Request) { r.UID = "1000" },
			"a client": func(r *sidecar.Request) {
				r.UID, r.Login, r.ClientAddress = "", "", "192.0.2.1"
				r.Auth = "news@a.example"
			},
			"root's, other sender": func(r *sidecar.Request) { r.Sender = "root@a.example" },
		} {
			r := s.notice(stage, 1000+10*n, 1)
			change(&r)
			if got := s.ask(r); stage != sidecar.StageLocal && got.Action != sidecar.Defer || stage == sidecar.StageLocal && got.Charged {
				t.Errorf("%s: mail of %s gets %v %s", stage, what, got.Action, got.Text)
			}
		}
	}
	s.sent("a.example", 20)
}

// At most 100 recipients an hour pass; each counts once, however often it is tried.
func TestNoticesHaveABound(t *testing.T) {
	s := newSite(t, limit20+"[alert]\nfrom = \"alarm@a.example\"\n")
	s.lock()
	forwarded := func(n int) sidecar.Request {
		r := s.notice(sidecar.StageRoute, n, 1)
		r.Original = "root@a.example"
		return r
	}
	for n := range 90 {
		if got := s.ask(forwarded(n)); got.Action != sidecar.Accept {
			t.Fatalf("recipient %d gets %v %s", n, got.Action, got.Text)
		}
	}
	local := s.notice(sidecar.StageLocal, 90, 11)
	if got := s.ask(local); got.Charged {
		t.Errorf("recipients 91 to 101 pass")
	}
	if got := s.ask(s.notice(sidecar.StageLocal, 90, 10)); !got.Charged {
		t.Errorf("recipients 91 to 100 do not pass: %v", got)
	}
	if got := s.ask(s.notice(sidecar.StageRcpt, 200, 1)); got.Action != sidecar.Defer {
		t.Errorf("at rcpt recipient 101 gets %v", got.Action)
	}
	if got := s.ask(forwarded(100)); got.Action != sidecar.Defer {
		t.Errorf("recipient 101 gets %v", got.Action)
	}
	if got := s.ask(forwarded(5)); got.Action != sidecar.Accept {
		t.Errorf("one that has passed is tried again, and gets %v %s", got.Action, got.Text)
	}
	charged := s.notice(sidecar.StageRoute, 90, 1)
	charged.Charged = true
	s.now = s.now.Add(59 * time.Minute)
	if got := s.ask(charged); got.Action != sidecar.Accept {
		t.Errorf("one that came in as a notice gets %v %s at its delivery", got.Action, got.Text)
	}
	if got := s.ask(forwarded(100)); got.Action != sidecar.Defer {
		t.Errorf("before the hour is over recipient 101 gets %v", got.Action)
	}
	s.now = s.now.Add(time.Minute)
	if got := s.ask(forwarded(100)); got.Action != sidecar.Accept {
		t.Errorf("an hour later it gets %v %s", got.Action, got.Text)
	}
}
