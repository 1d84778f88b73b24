package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/history"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
	"sluice/sidecar/stop"
)

// free is how many sends an author of a.example may make without leaving room for others.
func (o *office) free(mailbox string) int64 {
	free, _ := o.Who.Share(o.now, sidecar.Author{Key: mailbox + "@a.example"}, "a.example", int64(o.max), 25)
	return free
}

// What was sent in hours that ended in a stop is not usual: not of its author, whether the
// stop is in force still or over already; of the colleagues it is.
func TestHoursThatEndInAStopAreNotUsual(t *testing.T) {
	for _, ends := range []bool{false, true} {
		o := newOffice(t, 400, "")
		for range 4 {
			o.now = o.now.Truncate(24 * time.Hour).Add(33 * time.Hour)
			o.run(35, rate{"eve", 240}, rate{"ann", 60}) // the stop is in a later pane than the first sends
			o.stop(stop.Request{Scope: "eve@a.example"})
			if ends {
				o.now = o.now.Add(time.Minute)
				o.start("eve@a.example", false)
			}
			o.run(60, rate{"ann", 60})
			if !ends {
				o.start("eve@a.example", false)
			}
		}
		o.now = o.now.Add(12 * time.Hour)
		o.try("ann", 1)
		if eve, ann := o.free("eve"), o.free("ann"); eve != 20 || ann < 80 { // a twentieth, and half as much again
			t.Errorf("ends %t: eve is free to send %d, ann %d", ends, eve, ann)
		}
	}
}

// Who is stopped is marked so.
func TestWhoSaysWhoIsStopped(t *testing.T) {
	s := newSite(t, limit20)
	s.sendAs("news@a.example")
	s.sendAs("info@a.example")
	s.stop(stop.Request{Scope: "news@a.example", Why: "stolen"})
	w, err := s.WhoSends(s.now, "a.example", 9)
	if err != nil || len(w.Domains) != 1 || len(w.Domains[0].Authors) != 2 {
		t.Fatalf("%+v, %v", w, err)
	}
	for _, a := range w.Domains[0].Authors {
		if is := strings.HasPrefix(a.Stopped, "stopped by alice at ") && strings.HasSuffix(a.Stopped, ": stolen"); is != (a.Key == "news@a.example") {
			t.Errorf("%s: %q", a.Key, a.Stopped)
		}
	}
}

// What nobody pays for is in who beside what is counted: of a domain what is exempt, of all
// also bounces. What the router asks again counts once.
func TestWhoHasWhatNobodyPaysFor(t *testing.T) {
	s := newSite(t, limit20+"[[identity.exempt]]\nsender = \"owner@a.example\"\nauth = \"news@a.example\"\n")
	exempt := s.from("news@a.example", sidecar.StageData, s.now)
	exempt.Sender, exempt.Recipients = "owner@a.example", "a@far.example, b@far.example, c@far.example"
	bounce := sidecar.Request{Stage: sidecar.StageRoute, ID: messageID(s.now), Recipient: "x@far.example"}
	s.want(s.ask(exempt), sidecar.Accept, "")
	exempt.Stage = sidecar.StageRcpt
	s.want(s.ask(exempt), sidecar.Accept, "")
	for range 4 {
		s.want(s.ask(bounce), sidecar.Accept, "")
	}
	bounce.Recipient = "z@far.example"
	s.want(s.ask(bounce), sidecar.Accept, "")
	s.sendAs("info@a.example")
	all, err := s.WhoSends(s.now, "", 9)
	if got := fmt.Sprint(all.Uncounted); err != nil || got != "[{bounces and warnings 2} {exempt 3}]" || len(all.Domains) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	of, err := s.WhoSends(s.now, "a.example", 9)
	if got := fmt.Sprint(of.Domains[0].Uncounted); err != nil || got != "[{exempt 3}]" || of.Domains[0].Sent != 1 {
		t.Errorf("%+v, %v", of, err)
	}
	s.now = s.now.Add(71 * time.Minute)
	if all, _ = s.WhoSends(s.now, "", 9); len(all.Uncounted) != 0 {
		t.Errorf("after the window: %v", all.Uncounted)
	}
}

// The refusal of an account names who of all its domains sends most, in the log.
func TestTheRefusalOfAnAccountNamesItsTopAuthor(t *testing.T) {
	s := ownedSite(t, map[string]string{"a.example": "bob", "b.example": "bob", "c.example": "eve"})
	s.set("account:bob", "hourly=20")
	for _, mailbox := range []string{"info@a.example", "hacked@b.example", "hacked@b.example", "more@c.example", "more@c.example", "more@c.example"} {
		s.sendAs(mailbox)
	}
	for range 17 {
		s.sendAs("hacked@b.example")
	}
	for mailbox, told := range map[string]bool{"info@a.example": false, "new@b.example": true} {
		r := s.ask(s.from(mailbox, sidecar.StageRcpt, s.now))
		s.want(r, sidecar.Defer, "Account bob has exceeded the max emails per hour (2")
		const named = "; mostly hacked@b.example, 19 of 20"
		if logged := r.Text + r.Log; !strings.Contains(logged, named) || strings.Contains(r.Text, named) != told {
			t.Errorf("%s is told %q, and logged is %q", mailbox, r.Text, r.Log)
		}
	}
}

// An author that is refused for what it leaves to others is told of once in a window, and
// `explain` says how much that is, of a mailbox and of whoever is new.
func TestTheShareIsToldAndExplained(t *testing.T) {
	o := newOffice(t, 100, "")
	o.week(2, colleagues...)
	o.now = o.now.Add(2 * time.Hour)
	o.try("ann", 5)
	for scope, want := range map[string]string{"a.example": "{100 25 0}", "eve@a.example": "{100 25 0}", "ann@a.example": "{100 25 10}"} {
		e, err := o.Explain(o.now, scope)
		if err != nil || e.Share == nil || fmt.Sprint(*e.Share) != want {
			t.Errorf("%s: %+v, %v", scope, e.Share, err)
		}
	}
	told := func() int { return strings.Count(o.log.String(), "msg=\"more than this author usually sends, refused") }
	for range 3 {
		o.try("eve", 80)
	}
	if line := "scope=eve@a.example sent=\"76/75 (101%)\" left_to_others=25"; told() != 1 || !strings.Contains(o.log.String(), line) {
		t.Errorf("told %d times: %s", told(), o.log.String())
	}
	o.now = o.now.Add(61 * time.Minute)
	o.try("eve", 80)
	if told() != 2 {
		t.Errorf("in another window told %d times", told())
	}
	o.set("a.example", "others_share=0")
	if e, err := o.Explain(o.now, "ann@a.example"); err != nil || e.Share != nil {
		t.Errorf("%+v, %v", e.Share, err)
	}
}

// Logs tell what is usual before anything was counted here; once more they change nothing, and
// what is known of a day here stays, and a day with a stop is left out.
func TestWhatLogsSayIsUsual(t *testing.T) {
	var log strings.Builder
	day := time.Date(2026, 3, 2, 9, 0, 0, 0, time.Local)
	n := 0
	for d := range 4 {
		for m := range 60 {
			for i, mailbox := range []string{"ann", "bea", "eve"} {
				if at := day.AddDate(0, 0, d).Add(time.Duration(m) * time.Minute); m%(6-2*i) == 0 {
					n++
					fmt.Fprintf(&log, "%s 1xUzSN-%06d-0q <= x@a.example H=c.example [192.0.2.1] P=esmtpsa A=plain:%s@a.example S=500 for u%[2]d@far.example\n", at.Format(time.DateTime), n, mailbox)
					fmt.Fprintf(&log, "%s 1xUzSN-%06d-0q => u%[2]d@far.example R=dnslookup T=remote_smtp H=mx.far.example [203.0.113.1] C=\"250 OK\"\n", at.Format(time.DateTime), n)
				}
			}
		}
	}
	sim := replayed(t, log.String(), parsed(t, "[limits]\nhourly = 0\n"))
	o := newOffice(t, 400, "")
	o.now = day.Add(30 * time.Hour)
	o.stop(stop.Request{Scope: "eve@a.example"})
	o.now = day.AddDate(0, 0, 4)
	o.start("eve@a.example", false)
	hours := sim.Who().Usual(o.now)
	if got := o.Learn(o.now, hours); got.Domains != 1 || got.Authors != 3 || got.Days != 4+4+1 { // eve's days but those with a stop
		t.Fatalf("%+v", got)
	}
	if ann, eve := o.free("ann"), o.free("eve"); ann != 20 || eve != 20 {
		t.Errorf("ann may send %d, eve %d", ann, eve)
	}
	if _, others := o.Who.Share(o.now, sidecar.Author{Key: "new@a.example"}, "a.example", 400, 100); others != 15+23 { // of ann 10 and half as much, of bea 15
		t.Errorf("%d are left to others", others)
	}
	if again := o.Learn(o.now, hours); again.Days != 0 || again.Authors != 0 {
		t.Errorf("once more: %+v", again)
	}
	o.sent = map[string]int{}
	o.run(60, rate{"ann", 60})
	o.now = o.now.Add(2 * time.Hour)
	o.try("ann", 1)
	before := o.free("bea")
	if again := o.Learn(o.now, sim.Who().Usual(o.now)); again.Days != 0 || o.free("bea") != before {
		t.Errorf("after a day of its own: %+v", again)
	}
	o.sentIs(1)
}

// spikes has subjects looked at as the running sluice does, and returns of how many it has told.
func (o *office) spikes() int {
	o.ShowUsage(o.now)
	return strings.Count(o.log.String(), "msg=\"this author sends much more than")
}

// office35 is an office that is known for more than 35 days.
func office35(t *testing.T, config string) *office {
	o := newOffice(t, 1000, config)
	for range 36 {
		o.now = o.now.Truncate(24 * time.Hour).Add(33 * time.Hour)
		o.run(20, rate{"ann", 30}, rate{"eve", 15})
	}
	o.now = o.now.Add(24 * time.Hour)
	if n := o.spikes(); n != 0 {
		t.Fatalf("%d spikes of regular senders", n)
	}
	return o
}

// Who sends three times as much as in the busiest hour of 35 days, and more than 50, is told of
// once and marked in who; who is new has twice as much. It is usual then, if it was clean.
func TestSpikesAreTold(t *testing.T) {
	o := office35(t, "others_share = 0\n")
	o.run(5, rate{"eve", 600}, rate{"new", 1200}, rate{"ann", 30})
	if n := o.spikes(); n != 0 { // 50 of eve and 100 of new are no spike
		t.Fatalf("%d spikes", n)
	}
	o.try("eve", 1)
	o.try("new", 1)
	if n := o.spikes(); n != 2 || o.spikes() != 2 {
		t.Fatalf("%d spikes: %s", n, o.log.String())
	}
	w, err := o.WhoSends(o.now, "a.example", 9)
	got := map[string]string{}
	for _, a := range w.Domains[0].Authors {
		got[a.Key] = a.Spike
	}
	if err != nil || got["eve@a.example"] != "SPIKE 51/h, busiest hour in 35 days 5" || got["new@a.example"] != "SPIKE 101/h, busiest hour in 35 days 0" || got["ann@a.example"] != "" {
		t.Errorf("%q, %v", got, err)
	}
	if line := "domain=a.example scope=eve@a.example sends=51 busiest_hour=5"; !strings.Contains(o.log.String(), line) {
		t.Errorf("not told: %s", o.log.String())
	}
	o.now = o.now.Add(24 * time.Hour)
	o.try("eve", 140) // less than three times what it was
	if n := o.spikes(); n != 2 {
		t.Errorf("what was usual a day ago is a spike")
	}
}

// Nobody has a spike where that is off, or where the domain is not known for 35 days.
func TestWhoHasNoSpike(t *testing.T) {
	o := office35(t, "others_share = 0\nspike = \"off\"\n")
	o.try("eve", 400)
	if n := o.spikes(); n != 0 {
		t.Errorf("%d where it is off", n)
	}
	o = newOffice(t, 1000, "others_share = 0\n")
	o.week(7, colleagues...)
	o.try("eve", 400)
	if n := o.spikes(); n != 0 {
		t.Errorf("%d of a domain that is new", n)
	}
}

// What an operator expects of an author is no spike, as long as he has said and up to so much; it
// becomes usual, even where it looks like a thief's.
func TestWhatIsExpectedIsNoSpike(t *testing.T) {
	o := office35(t, "others_share = 0\n")
	mark := func(author string) string {
		t.Helper()
		w, err := o.WhoSends(o.now, "a.example", 9)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range w.Domains[0].Authors {
			if a.Key == author+"@a.example" {
				return a.Spike
			}
		}
		return "not there"
	}
	o.try("eve", 60)
	if n := o.spikes(); n != 1 || mark("eve") != "SPIKE 60/h, busiest hour in 35 days 5" {
		t.Fatalf("%d spikes, %s", n, mark("eve"))
	}
	o.order(history.Edit{Scope: "eve@a.example", Set: []string{"expected=100"}, For: 10 * time.Hour})
	until := " until " + printable.DateTime(o.now.Add(10*time.Hour))
	o.try("eve", 40)
	if n := o.spikes(); n != 1 || mark("eve") != "expected up to 100/h"+until {
		t.Errorf("%d spikes, %q", n, mark("eve"))
	}
	e, err := o.Explain(o.now, "eve@a.example")
	if i := slices.IndexFunc(e.Values, func(v operator.Value) bool { return v.Key == "expected" }); err != nil || i < 0 || e.Values[i].Value != int64(100) || e.Values[i].Set != "eve@a.example" {
		t.Errorf("explained as %+v, %v", e.Values, err)
	}
	o.try("eve", 1)
	if n := o.spikes(); n != 2 || mark("eve") != "SPIKE 101/h, busiest hour in 35 days 5" {
		t.Errorf("beyond it: %d spikes, %s", n, mark("eve"))
	}
	o.now = o.now.Add(11 * time.Hour)
	o.Settings.Expire(o.now)
	o.try("eve", 60)
	if n := o.spikes(); n != 2 || mark("eve") != "" { // what it sent was usual
		t.Errorf("when that has expired: %d spikes, %s", n, mark("eve"))
	}
}

// A script or a login has no limits of its own. What it sends can be expected all the same, in the
// history too.
func TestScriptsAndLoginsCanBeExpected(t *testing.T) {
	o := office35(t, "others_share = 0\n")
	for _, scope := range []string{"script:/home/bob/shop", "login:bob"} {
		c := o.order(history.Edit{Scope: scope, Set: []string{"expected=700"}}).Change
		if all, err := o.History(o.now, scope); err != nil || len(all) != 1 || all[0].Number != c.Number {
			t.Errorf("%+v, %v", all, err)
		}
		if e, err := o.Explain(o.now, scope); err != nil || len(e.Values) != 1 || e.Values[0].Value != int64(700) {
			t.Errorf("%+v, %v", e, err)
		}
		if _, err := o.Change(t.Context(), o.now, history.Edit{Scope: scope, Set: []string{"hourly=5"}, Who: "root"}); err == nil || !strings.Contains(err.Error(), "only expected is") {
			t.Errorf("a limit of %s: %v", scope, err)
		}
	}
	o.send(1)
	if e := o.status("a.example"); len(e.Scopes) != 0 {
		t.Errorf("they are counted: %+v", e.Scopes)
	}
}

// Where what is expected uses up the limit of its domain, that is no warning.
func TestAnExpectedAuthorIsNotUnusual(t *testing.T) {
	for expected, want := range map[string]string{"90": "warning", "1000": "info"} {
		o := newOffice(t, 100, "others_share = 0\n")
		o.week(2, colleagues...)
		o.order(history.Edit{Scope: "a.example", Set: []string{"expected=" + expected}})
		o.try("eve", 120)
		o.past(time.Minute)
		wantLines(t, expected, []string{"node1-1 a.example " + want + " open=true limit: eve@a.example"}, o.incidents("a.example"))
	}
}

// A spike is an incident as long as it is there.
func TestASpikeIsAnIncident(t *testing.T) {
	o := office35(t, "others_share = 0\n")
	o.try("eve", 60)
	sees := func(d time.Duration) {
		for range d / time.Minute {
			o.past(time.Minute)
			o.spikes()
		}
	}
	sees(30 * time.Minute)
	wantLines(t, "a spike", []string{"node1-1 a.example warning open=true spike eve@a.example: eve@a.example"}, o.incidents("a.example"))
	sees(55 * time.Minute)
	wantLines(t, "when it has left the window", []string{"node1-1 a.example warning open=false spike eve@a.example: eve@a.example"}, o.incidents("a.example"))
}

// What is usual is known over a restart, so that a spike is found after it too.
func TestASpikeAfterARestart(t *testing.T) {
	o := office35(t, "others_share = 0\n")
	o.Who.Stop(t.Context(), o.now)
	if err := o.Checkpoint(o.now, nil); err != nil {
		t.Fatal(err)
	}
	o.restart()
	o.try("eve", 60)
	if n := o.spikes(); n != 1 {
		t.Errorf("%d spikes", n)
	}
}

// Who sends a bit more every day, so that it becomes usual, can send three times as much each day and
// no more.
func TestWhatBecomesUsualGrowsByThree(t *testing.T) {
	o := office35(t, "others_share = 0\n")
	o.try("eve", 50)
	o.now = o.now.Add(24 * time.Hour)
	o.try("eve", 140)
	if told := o.spikes(); told != 0 {
		t.Errorf("%d spikes of who grows by less", told)
	}
	o.now = o.now.Add(24 * time.Hour)
	o.try("eve", 500)
	if told := o.spikes(); told != 1 {
		t.Errorf("%d spikes of who grows by more", told)
	}
}
