package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/history"
	"sluice/sidecar/limit"
	"sluice/sidecar/operator"
	"sluice/sidecar/typed"
)

// order has root change thresholds.
func (s *site) order(o history.Edit) operator.Result {
	s.t.Helper()
	o.Who = "root"
	r, err := s.Change(context.Background(), s.now, o)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *site) set(scope string, assignments ...string) operator.Result {
	s.t.Helper()
	return s.order(history.Edit{Scope: scope, Set: assignments})
}

// limit is the hourly limit of a.example as a client meets it.
func (s *site) limit(want int64) {
	s.t.Helper()
	e, err := s.Explain(s.now, "a.example")
	if err != nil || e.Values[0].Value != want {
		s.t.Fatalf("hourly is %v, want %d: %v", e.Values[0], want, err)
	}
}

// A limit of 0 is none. Who types it to stop somebody is told so, and what stops him.
func TestZeroIsUnlimitedAndSaysSo(t *testing.T) {
	s := newSite(t, limit20)
	s.send(1)
	s.Lock(context.Background(), s.now, "a.example", "root") // so that it is known
	for set, want := range map[string]string{
		"a.example hourly=0":          "hourly=0 is UNLIMITED, and stops nothing; what stops a domain is `sluice lock a.example`",
		"a.example hourly=unlimited":  "",
		"a.example hourly=5 daily=0":  "daily=0 is UNLIMITED, and stops nothing; what stops a domain is `sluice lock a.example`",
		"default hourly=00":           "hourly=0 is UNLIMITED, and stops nothing; what stops a domain is `sluice lock DOMAIN`",
		"u@a.example daily=0":         "daily=0 is UNLIMITED, and stops nothing; what stops a mailbox is `sluice stop u@a.example`",
		"u`reboot`@a.example daily=0": "daily=0 is UNLIMITED, and stops nothing; what stops a mailbox is `sluice stop 'u`reboot`@a.example'`",
		"a.example deferfail_min=1":   "",
	} {
		words := strings.Fields(set)
		if r := s.set(words[0], words[1:]...); r.Warning != want {
			t.Errorf("%s: warned %q, want %q", set, r.Warning, want)
		}
	}
}

// What nothing is known of is explained all the same, and may be a typo.
func TestExplainWarnsOfWhatIsNotKnown(t *testing.T) {
	s := newSite(t, limit20)
	s.send(1)
	for scope, want := range map[string]string{
		"a.example":       "",
		"a.exmaple":       "nothing of a.exmaple is counted or limited so far, and nobody is known to own it; did you mean a.example?",
		"account:nobody":  "nothing of account:nobody is counted or limited so far, and nobody is known to own it",
		"news@b2.example": "nothing of news@b2.example is counted or limited so far, and nobody is known to own it",
	} {
		if e, err := s.Explain(s.now, scope); err != nil || e.Warning != want || len(e.Values) == 0 {
			t.Errorf("%s: %q, %v", scope, e.Warning, err)
		}
	}
}

func TestChangingALimitForgetsTheCountOrIsIgnored(t *testing.T) {
	s := newSite(t, limit20)
	s.send(20)
	s.want(s.send(1), sidecar.Defer, "Domain a.example has exceeded the max emails per hour (21/20 (105%))")
	r := s.set("a.example", "hourly=25")
	if len(r.Effects) != 1 || r.Effects[0] != (operator.Effect{Scope: "a.example", Sent: 20, Limit: 20, Text: "20/20 (100%)"}) {
		t.Errorf("%+v", r.Effects)
	}
	s.want(s.rcpt("u@far.example", 0), sidecar.Accept, "")
	s.want(s.send(5), sidecar.Accept, "")
	s.sent("a.example", 25)
	s.want(s.send(1), sidecar.Defer, "Domain a.example has exceeded the max emails per hour (26/25 (104%)) allowed.  Message will be reattempted later "+
		"[25 sent in an hour; room at 2026-03-01 13:01:00 +0000; mostly news@a.example, 27 of 27; limit from sluice set by root at 2026-03-01 12:00:00 +0000; sluice on node1]")
	r = s.set("a.example", "hourly=10")
	if len(r.Effects) != 0 {
		t.Errorf("was refused already: %+v", r.Effects)
	}
	s.want(s.rcpt("v@far.example", 0), sidecar.Reject, "")
	s.order(history.Edit{Scope: "a.example"}) // unset
	s.limit(20)
	s.sent("a.example", 25)
	s.set("a.example", "hourly=unlimited") // as it is shown
	s.limit(0)
}

// A limit of a day counts what was sent in the last hour, as soon as it is set: the
// preview says so, and it is so also when the hour has gone by.
func TestANewDailyLimitKeepsTheCount(t *testing.T) {
	s := newSite(t, limit20)
	s.send(15)
	s.now = s.now.Add(30 * time.Minute)
	want := operator.Effect{Scope: "a.example", Refused: true, Sent: 15, Limit: 15, Text: "15/15 (100%)"}
	for _, preview := range []bool{true, false} {
		r := s.order(history.Edit{Scope: "a.example", Set: []string{"daily=15"}, Preview: preview})
		if len(r.Effects) != 1 || r.Effects[0] != want {
			t.Errorf("preview %v: %+v", preview, r.Effects)
		}
	}
	if d := s.status("a.example").Domains[0]; d.Windows[1] != (operator.Window{Seconds: 86400, Sent: 15, Limit: 15, Percent: 100}) {
		t.Errorf("%+v", d.Windows)
	}
	for range 2 {
		s.want(s.send(1), sidecar.Defer, "Domain a.example has exceeded the max emails per day (")
		s.now = s.now.Add(2 * time.Hour)
		s.restart()
	}
	s.set("a.example", "daily=17")
	s.want(s.send(2), sidecar.Accept, "")
	s.want(s.send(1), sidecar.Defer, "Domain a.example has exceeded the max emails per day (20/17") // with the two refused before
}

func TestALimitForATime(t *testing.T) {
	s := newSite(t, limit20)
	s.set("a.example", "hourly=30")
	s.order(history.Edit{Scope: "a.example", Set: []string{"hourly=40"}, For: time.Hour, Why: "campaign"})
	s.limit(40)
	s.restart()
	s.limit(40)
	s.now = s.now.Add(time.Hour - time.Millisecond)
	s.Engine.Tend(s.now)
	s.limit(40)
	s.now = s.now.Add(time.Millisecond)
	s.Engine.Tend(s.now)
	s.limit(30) // what had been set before
	s.restart()
	s.limit(30)
	changes, err := s.History(s.now, "a.example")
	if err != nil || len(changes) != 2 || changes[0].State != history.Expired || changes[0].Why != "campaign" || changes[1].State != history.InForce {
		t.Errorf("%+v, %v", changes, err)
	}
}

func TestRollback(t *testing.T) {
	s := newSite(t, limit20)
	s.set("a.example", "hourly=30", "mode=watch")
	s.set("a.example", "hourly=40")
	s.order(history.Edit{Rollback: 2})
	s.limit(30)
	if _, err := s.Change(context.Background(), s.now, history.Edit{Rollback: 2}); !errors.Is(err, history.ErrNoEffect) ||
		!strings.Contains(err.Error(), "rolled back, by change 3 already") {
		t.Errorf("%v", err)
	}
	s.order(history.Edit{Rollback: 3}) // the rollback itself
	s.limit(40)
	s.order(history.Edit{Rollback: 1})
	s.limit(40)
	if e, _ := s.Explain(s.now, "a.example"); e.Mode != limit.Enforce {
		t.Errorf("%+v", e)
	}
	s.order(history.Edit{Scope: "a.example", Unset: []string{"hourly"}})
	s.limit(20)
	s.order(history.Edit{Rollback: 6})
	s.limit(40)
	if _, err := s.Change(context.Background(), s.now, history.Edit{Rollback: 99}); !errors.Is(err, typed.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// Whatever is wrong with an order: it says so, and nothing is changed.
func TestWrongOrdersChangeNothing(t *testing.T) {
	s := newSite(t, limit20)
	for want, o := range map[string]history.Edit{
		`hourly is "-1", it must be a whole number from 0 to 1000000000`:        {Scope: "a.example", Set: []string{"hourly=-1"}},
		`hourly is "ten", it must be a whole number`:                            {Scope: "a.example", Set: []string{"hourly=ten"}},
		`defer_cutoff is "99", it must be a whole number from 100 to 10000`:     {Scope: "a.example", Set: []string{"hourly=5", "defer_cutoff=99"}},
		`unknown key "hourley"; did you mean "hourly"?`:                         {Scope: "a.example", Set: []string{"hourley=5"}},
		`"hourly" must be KEY=VALUE`:                                            {Scope: "a.example", Set: []string{"hourly"}},
		`hourly is given twice`:                                                 {Scope: "a.example", Set: []string{"hourly=5", "hourly=6"}},
		`mode is "observe", it must be one of enforce, watch`:                   {Scope: "default", Set: []string{"mode=observe"}},
		`exempt is "maybe", it must be true or false`:                           {Scope: "default", Set: []string{"exempt=maybe"}},
		`deferfail_ignore is "greylisting", it must be a list, each one of`:     {Scope: "default", Set: []string{"deferfail_ignore=greylisting"}},
		`scope "a..example" must be "default", "example.com", "account:bob" or`: {Scope: "a..example", Set: []string{"hourly=5"}},
		`the account must be a name`:                                            {Scope: "account:", Set: []string{"hourly=5"}},
		`--for must be from 1s`:                                                 {Scope: "a.example", Set: []string{"hourly=5"}, For: 100 * 365 * 24 * time.Hour},
		`nothing to do: nothing of a.example is set by`:                         {Scope: "a.example"},
		`nothing to do: hourly of a.example is not set by`:                      {Scope: "a.example", Unset: []string{"hourly"}},
	} {
		if _, err := s.Change(context.Background(), s.now, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	if changes, err := s.History(s.now, ""); err != nil || len(changes) != 0 {
		t.Errorf("%+v, %v", changes, err)
	}
	s.limit(20)
}

func TestPreviewTellsAndChangesNothing(t *testing.T) {
	s := newSite(t, limit20+"[limits.mailbox.\"news@a.example\"]\nhourly = 15\n")
	s.send(12)
	r := s.order(history.Edit{Scope: "default", Set: []string{"hourly=10"}, Preview: true})
	if len(r.Effects) != 1 || r.Effects[0] != (operator.Effect{Scope: "a.example", Refused: true, Sent: 12, Limit: 10, Text: "12/10 (120%)"}) {
		t.Errorf("%+v", r.Effects)
	}
	s.want(s.send(1), sidecar.Accept, "")
	r = s.order(history.Edit{Scope: "news@a.example", Set: []string{"hourly=13", "mode=watch"}, Preview: true})
	if len(r.Effects) != 0 {
		t.Errorf("watched: %+v", r.Effects)
	}
	s.limit(20)
}

func TestAChangeMakesAndReleasesLocks(t *testing.T) {
	t.Parallel() // it waits
	s := newSite(t, limit20)
	s.now = time.Now()
	s.run()
	s.send(15)
	s.set("default", "hourly=15")
	s.eventually("lock", func() bool { return s.content(aLock) == "15/15 (100%)" })
	s.set("a.example", "mode=watch")
	s.eventually("release by watch", func() bool { return s.content(aLock) == "" })
	s.set("a.example", "mode=enforce")
	s.eventually("lock again", func() bool { return s.content(aLock) != "" })
	s.order(history.Edit{Scope: "a.example", Set: []string{"exempt=true"}, For: 2 * time.Second})
	s.eventually("release by exempt", func() bool { return s.content(aLock) == "" })
	s.eventually("lock when that has expired", func() bool { return s.content(aLock) != "" })
	s.hold("h1@far.example")
	s.set("a.example", "hourly=16")
	s.eventually("delivery", func() bool { return len(s.deliveries()) > 0 })
	s.eventually("release", func() bool { return s.content(aLock) == "" })
}

// A daily limit that is set live has sends kept for a day, over a restart too;
// without it they are forgotten after an hour.
func TestALiveDailyLimitIsRemembered(t *testing.T) {
	s := newSite(t, limit20)
	s.set("a.example", "daily=100")
	s.send(1)
	s.restart()
	sent := s.now
	s.now = s.now.Add(20 * time.Hour)
	if _, sends, _ := s.store.Size(); sends != 1 || !s.store.Horizon(s.now).Before(sent) {
		t.Errorf("%d sends, known since %v", sends, s.store.Horizon(s.now))
	}
	if d := s.status("a.example").Domains[0]; len(d.Windows) != 2 || d.Windows[1].Sent != 1 {
		t.Errorf("%+v", d.Windows)
	}
	s.order(history.Edit{Scope: "a.example"})
	s.restart()
	if since := s.now.Sub(s.store.Horizon(s.now)); since > 2*time.Hour {
		t.Errorf("sends are kept for %v", since)
	}
}
