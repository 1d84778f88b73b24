package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar"
	"sluice/sidecar/history"
	"sluice/sidecar/incident"
	"sluice/sidecar/operator"
	"sluice/sidecar/stop"
)

// past goes on by so long, ten seconds at a time, and has what has happened kept.
func (s *site) past(d time.Duration) {
	s.t.Helper()
	for end := s.now.Add(d); !s.now.After(end); s.now = s.now.Add(10 * time.Second) {
		s.Reconcile(s.t.Context(), s.now)
		s.Past(s.t.Context(), s.now, false)
	}
}

// incidents are those of a scope as text.
func (s *site) incidents(scope string) (all []string) {
	s.t.Helper()
	found, err := s.Incidents(scope)
	if err != nil {
		return []string{err.Error()}
	}
	for _, i := range found {
		var causes []string
		for _, c := range i.Causes {
			causes = append(causes, strings.TrimSpace(c.Name+" "+c.Scope))
		}
		all = append(all, fmt.Sprintf("%s %s %v open=%v %s: %s", i.ID, i.Domain, i.Severity, i.Open(), strings.Join(causes, ", "), i.Culprit.Author))
	}
	return all
}

// happened are the events of a scope as text.
func (s *site) happened(scope string) (all []string) {
	s.t.Helper()
	p, err := s.Happened(s.now, time.Time{}, scope)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range p.Events {
		text, _, _ := strings.Cut(r.Text, ",")
		all = append(all, fmt.Sprintf("%dx %s %s|%s|%s %s", r.Count, r.Event, r.Domain, r.Scope, r.By, text))
	}
	return all
}

func wantLines(t *testing.T, what string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got)\n%s", what, diff)
	}
}

// A domain at its limit, what it tried then, who released it, and that it is over: all of it is
// found by the domain, the mailbox and the account, after a restart too.
func TestALimitIsAnIncident(t *testing.T) {
	s := newSite(t, limit20+`[limits.domain."b.example"]`+"\nhourly = 1\n")
	s.send(20)
	for n := range 3 {
		s.rcpt(fmt.Sprintf("v%d@far.example", n), 0)
	}
	s.past(time.Minute)
	wantLines(t, "at the limit", []string{"node1-1 a.example info open=true limit: news@a.example"}, s.incidents("a.example"))
	if _, err := s.Change(t.Context(), s.now, history.Edit{Scope: "a.example", Set: []string{"hourly=30"}, Who: "alice"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Unlock(t.Context(), s.now, "a.example", "alice"); err != nil {
		t.Fatal(err)
	}
	s.past(9 * time.Minute)
	wantLines(t, "released", []string{"node1-1 a.example info open=true limit: news@a.example"}, s.incidents("node1-1"))
	s.past(2 * time.Minute)
	over := []string{"node1-1 a.example info open=false limit: news@a.example"}
	wantLines(t, "over", over, s.incidents("1"))
	s.restart()
	wantLines(t, "after a restart", over, s.incidents(""))
	wantLines(t, "by the culprit", over, s.incidents("news@a.example"))
	wantLines(t, "of nobody", []string{"not found: there is no incident of that number or name"}, s.incidents("node1-2"))

	all := []string{"3x refused a.example|news@a.example| over a limit", "1x limit-reached a.example|| sent 20/20 (100%)",
		"1x limits-changed a.example||alice change 1", "1x command a.example||alice command unlock"}
	wantLines(t, "events", all, s.happened("a.example"))
	wantLines(t, "of the mailbox", all, s.happened("news@a.example"))
	wantLines(t, "of another mailbox", all[1:], s.happened("info@a.example"))
	wantLines(t, "of another domain", nil, s.happened("b.example"))
	i, _ := s.Incidents("a.example")
	if e := i[0].Evidence; e.Sent != 20 || e.Tried != 23 || e.Limit != 20 || len(e.Who) != 1 || e.Who[0].Networks[0] != "192.0.2.0/24" {
		t.Errorf("evidence %+v", e)
	}
	if len(i[0].Timeline) != 3 || i[0].Timeline[2].By != "alice" {
		t.Errorf("timeline %+v", i[0].Timeline)
	}
}

// Bad sends of one author: it is stopped, and that is an incident of the domain until it may
// send again; of a whole domain it is a critical one, with the last line of the log.
func TestBadSendsAreAnIncident(t *testing.T) {
	s := newColleagues(t)
	s.sendsOf(s.failed, noSuchUser, repeat("eve@a.example", 10)...)
	s.past(0)
	wantLines(t, "stopped", []string{"node1-1 a.example warning open=true culprit eve@a.example: eve@a.example"}, s.incidents("a.example"))
	if i, _ := s.Incidents(""); !i[0].Culprit.Stopped || i[0].Culprit.Proof != "proven" || !strings.Contains(fmt.Sprint(i[0].Evidence.Lines), "no such user") {
		t.Errorf("%+v %+v", i[0].Culprit, i[0].Evidence.Lines)
	}
	s.past(20 * time.Minute)
	if _, err := s.Start(t.Context(), s.now, "eve@a.example", "bob", false); err != nil {
		t.Fatal(err)
	}
	s.past(11 * time.Minute)
	i, _ := s.Incidents("a.example")
	if last := i[0].Timeline[len(i[0].Timeline)-1]; last.By != "bob" || i[0].Open() {
		t.Errorf("%+v, open %v", last, i[0].Open())
	}
	for range 10 {
		s.failed(s.arrived("b.example"), "u@far.example", noSuchUser)
	}
	s.past(0)
	wantLines(t, "tripped", []string{"node1-2 b.example critical open=true deferfail: news@b.example"}, s.incidents("b.example"))
}

// A crash that comes before an event was kept loses the event, and no incident.
func TestCausesAreFoundAtTheStart(t *testing.T) {
	s := newColleagues(t)
	s.set("c.example", "hourly=3")
	s.sendsOf(s.failed, noSuchUser, repeat("eve@a.example", 10)...)
	for range 10 {
		s.failed(s.arrived("b.example"), "u@far.example", noSuchUser)
	}
	s.delivers(repeat("x@c.example", 3)...)
	s.Reconcile(t.Context(), s.now)
	s.restart()
	s.Past(t.Context(), s.now, true)
	want := []string{"node1-3 a.example warning open=true culprit eve@a.example: eve@a.example", "node1-2 b.example critical open=true deferfail: ",
		"node1-1 c.example info open=true limit: "}
	wantLines(t, "found", want, s.incidents(""))
	s.restart()
	s.Past(t.Context(), s.now, true)
	wantLines(t, "and not twice", want, s.incidents(""))
}

// Who is told of incidents gets those of before, and each new one within the same step.
func TestIncidentsAreWatched(t *testing.T) {
	s := newSite(t, limit20)
	var told []string
	s.WatchIncidents(func(i incident.Incident) { told = append(told, fmt.Sprint(i.ID, i.Revision, i.Open())) })
	s.send(20)
	s.past(0)
	if _, _, err := s.Stop(t.Context(), s.now, stop.Request{Scope: "news@a.example", Who: "alice"}); err != nil {
		t.Fatal(err)
	}
	s.past(0)
	wantLines(t, "told", []string{"node1-1 1 true"}, told)
	s.rcpt("v@far.example", 0)
	s.past(0)
	got := s.happened("news@a.example")
	wantLines(t, "the last", []string{"1x refused a.example|news@a.example| blocked: stop"}, got[len(got)-1:])
	r := authed(sidecar.StageRcpt)
	r.Auth, r.Sender, r.Recipient = "ann@a.example", "ann@a.example", "w@far.example"
	s.Ask(t.Context(), s.now, r)
	wantLines(t, "of a colleague", []string{"1x refused a.example|ann@a.example| over a limit"}, s.happened("ann@a.example")[1:])
}

// Of an account there is what happened to its domains, and to no others.
func TestWhatHasHappenedToAnAccount(t *testing.T) {
	s := ownedSite(t, map[string]string{"a.example": "bob", "b.example": "carol"})
	for _, domain := range []string{"a.example", "b.example"} {
		s.arrived(domain)
		if _, err := s.Lock(t.Context(), s.now, domain, "alice"); err != nil {
			t.Fatal(err)
		}
	}
	s.past(0)
	wantLines(t, "of bob", []string{"1x command a.example||alice command lock"}, s.happened("account:bob"))
}

// A node is silent that has given no sign of life for a minute, or is not known at all, once
// it is known which nodes there are.
func TestAlive(t *testing.T) {
	s := newSite(t, limit20)
	alive := func() string {
		is := s.Alive()
		return fmt.Sprint(is("mx1.example"), is("mx2.example"), is("mx3.example"))
	}
	before := alive()
	var shared operator.SharedStatus
	s.ShowShared(func() operator.SharedStatus { return shared })
	unknown := alive()
	shared.Nodes = []operator.NodeStatus{{Node: "MX1.example", SignAge: 59.9}, {Node: "mx2.example", SignAge: 60}}
	if got := alive(); before != "true true true" || unknown != before || got != "true false false" {
		t.Errorf("alone %s, before Redis answers %s, then %s", before, unknown, got)
	}
}

// Whatever is charged at an account's expense belongs to it, so that notices about it have one budget, and what is
// expected of its authors holds: domains, what they forward, and what web servers send in its name.
func TestAccountOf(t *testing.T) {
	s := ownedSite(t, map[string]string{"a.example": "bob", "b.example": "bob", "c.example": "eve"})
	for subject, want := range map[string]string{"a.example": "bob", "b.example": "bob", "c.example": "eve", "forward:b.example": "bob", "web:bob": "bob",
		"relay:192.0.2.1": "", "system": "", "other.example": ""} {
		if got := s.AccountOf(subject); got != want {
			t.Errorf("%s belongs to %q, want %q", subject, got, want)
		}
	}
}
