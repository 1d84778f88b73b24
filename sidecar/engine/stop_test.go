package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/operator"
	"sluice/sidecar/settings"
	"sluice/sidecar/stop"
)

const newsStopped = "Mailbox news@a.example is stopped.  Message will be reattempted later"

// stop stops somebody, and returns the warning.
func (s *site) stop(o stop.Request) string {
	s.t.Helper()
	o.Who = "alice"
	_, warning, err := s.Stop(s.t.Context(), s.now, o)
	if err != nil {
		s.t.Fatal(err)
	}
	return warning
}

func (s *site) start(scope string, release bool) string {
	s.t.Helper()
	warning, err := s.Start(s.t.Context(), s.now, scope, "bob", release)
	if err != nil {
		s.t.Fatal(err)
	}
	return warning
}

// from is a question about one recipient at a stage, by an authenticated id.
func (s *site) from(id string, stage sidecar.Stage, at time.Time) sidecar.Request {
	r := authed(stage)
	r.Auth, r.Sender, r.Recipient = id, id, "u@far.example"
	if stage != sidecar.StageRcpt {
		r.ID, r.Recipients = messageID(at), "u@far.example"
	}
	return r
}

func (s *site) ask(r sidecar.Request) sidecar.Reply { return s.Ask(s.t.Context(), s.now, r) }

// Only the author is stopped, everywhere, and neither an exempt nor a null sender gets it
// round that; who has done it and why is only in the log.
func TestOnlyTheAuthorIsStopped(t *testing.T) {
	s := newSite(t, limit20+"[[identity.exempt]]\nsender = \"owner@lists.example\"\nauth = \"news@a.example\"\n")
	exempt := s.from("news@a.example", sidecar.StageData, s.now)
	exempt.Sender = "owner@lists.example"
	null := exempt
	null.Sender = ""
	s.want(s.ask(exempt), sidecar.Accept, "")
	s.stop(stop.Request{Scope: "News@A.example", Why: "stolen"})
	s.sent("a.example", 0) // the exempt one
	for _, stage := range []sidecar.Stage{sidecar.StageRcpt, sidecar.StageData, sidecar.StageRoute, sidecar.StagePostfixRcpt, sidecar.StageMilterRcpt} {
		r := s.ask(s.from("news@a.example", stage, s.now))
		s.want(r, sidecar.Defer, newsStopped+" [sluice on node1]")
		if !strings.HasSuffix(r.Log, "; stopped by alice at 2026-03-01 12:00:00 +0000: stolen]") || strings.Contains(r.Text, "alice") {
			t.Errorf("%s: told %q, logged %q", stage, r.Text, r.Log)
		}
		s.want(s.ask(s.from("office@a.example", stage, s.now.Add(time.Second))), sidecar.Accept, "")
	}
	for name, r := range map[string]sidecar.Request{"exempt": exempt, "null": null} {
		if got := s.ask(r); got.Action != sidecar.Defer {
			t.Errorf("the %s sender gets it round the stop: %+v", name, got)
		}
	}
	s.start("news@a.example", false)
	s.want(s.ask(s.from("news@a.example", sidecar.StageRcpt, s.now)), sidecar.Accept, "")
}

// Every kind of author can be stopped, and nobody else is.
func TestWhoCanBeStopped(t *testing.T) {
	files := t.TempDir()
	config := limit20 + fmt.Sprintf("[identity]\nrelay = [\"192.0.2.0/24\"]\nowners = %q\n", files+"/owners")
	if err := os.WriteFile(files+"/owners", []byte("b.example: bob\nc.example: bob\nd.example: dora\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	local := func(login, cwd string) sidecar.Request {
		return sidecar.Request{Stage: sidecar.StageLocal, Submitter: sidecar.Submitter{Login: login, CWD: cwd}, Sender: login + "@b.example", Recipients: "u@far.example"}
	}
	auth := func(id string) sidecar.Request {
		return sidecar.Request{Stage: sidecar.StageRcpt, Submitter: sidecar.Submitter{Auth: id, ClientAddress: "203.0.113.9"}, Sender: "x@b.example", Recipient: "u@far.example"}
	}
	relay := func(client string) sidecar.Request {
		return sidecar.Request{Stage: sidecar.StageRcpt, Submitter: sidecar.Submitter{ClientAddress: client}, Sender: "x@e.example", Recipient: "u@far.example"}
	}
	forward := func(original string) sidecar.Request {
		return sidecar.Request{Stage: sidecar.StageRoute, ID: "1xUzSN-0005dd-0q", Submitter: sidecar.Submitter{ClientAddress: "203.0.113.9"}, Sender: "x@e.example", Original: original, Recipient: "u@far.example"}
	}
	for _, c := range []struct {
		scope          string
		stopped, going sidecar.Request
		title          string
	}{
		{"x@b.example", auth("X@b.example"), auth("y@b.example"), "Mailbox x@b.example"},
		{"x@b.example", auth("x+b.example"), auth("bob"), "Mailbox x@b.example"},
		{"b\u00fc@b.example", auth("B\u00fc@b.example"), auth("bu@b.example"), `Mailbox b\xc3\xbc@b.example`},
		{`B\xc3\xbc@B.example`, auth("b\u00fc@b.example"), auth("bxc3xbc@b.example"), `Mailbox b\xc3\xbc@b.example`},
		{"login:bob", auth("bob"), auth("dora"), "Login bob"},
		{"account:bob", auth("x@c.example"), auth("x@d.example"), "Account bob"},
		{"account:bob", auth("bob"), auth("dora"), "Account bob"},
		{"client:192.0.2.7", relay("192.0.2.7"), relay("192.0.2.8"), "Client 192.0.2.7"},
		{"forward:Info@b.example", forward("info@b.example"), forward("sales@b.example"), "Forwarder info@b.example"},
		{"account:bob", forward("info@b.example"), forward("info@d.example"), "Account bob"},
		{"service:www-data", local("www-data", "/"), local("dora", "/"), "Service www-data"},
	} {
		s := newSite(t, config)
		s.stop(stop.Request{Scope: c.scope, Reject: true})
		want := sidecar.Reject
		text := c.title + " is stopped.  Message discarded."
		if c.stopped.Stage == sidecar.StageRoute {
			want, text = sidecar.Defer, c.title+" is stopped.  Message will be reattempted later"
		}
		s.want(s.ask(c.stopped), want, text)
		s.want(s.ask(c.going), sidecar.Accept, "")
	}
}

// What sendmail takes of a stopped author is held, up to what it may send in an hour, and
// refused from there.
func TestAStoppedScriptsMailIsHeldUpToABound(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 30\n")
	s.stop(stop.Request{Scope: "script:/home/bob/wp"})
	r := sidecar.Request{Stage: sidecar.StageLocal, Submitter: sidecar.Submitter{Login: "bob", CWD: "/home/bob/wp"}, Sender: "bob@a.example"}
	for i := range 31 {
		r.Stage, r.ID, r.Recipients = sidecar.StageLocal, messageID(s.now.Add(time.Duration(i)*time.Second)), "u@far.example"
		got := s.ask(r)
		if i == 30 {
			s.want(got, sidecar.Reject, "Script /home/bob/wp is stopped.  Message discarded.")
			break
		}
		if got.Action != sidecar.Accept || got.Charged {
			t.Fatalf("message %d: %+v, want it accepted uncharged", i, got)
		}
		r.Stage, r.Recipient = sidecar.StageRoute, r.Recipients
		s.want(s.ask(r), sidecar.Defer, "Script /home/bob/wp is stopped.  Message will be reattempted later")
	}
	s.held("a.example", 30)
	other := r
	other.Stage, other.CWD = sidecar.StageLocal, "/home/bob/shop"
	s.want(s.ask(other), sidecar.Accept, "")
}

// Whoever is stopped as a login does not get round it from one directory after the other, nor
// has more held so.
func TestAStoppedLoginDoesNotSendFromAnotherDirectory(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 30\n")
	s.stop(stop.Request{Scope: "login:bob"})
	for i := range 31 {
		r := sidecar.Request{Stage: sidecar.StageLocal, Submitter: sidecar.Submitter{Login: "bob", CWD: fmt.Sprint("/home/bob/", i)}, Sender: "bob@a.example"}
		r.ID, r.Recipients = messageID(s.now.Add(time.Duration(i)*time.Second)), "u@far.example"
		got := s.ask(r)
		if i == 30 {
			s.want(got, sidecar.Reject, "Login bob is stopped.  Message discarded.")
			break
		}
		if got.Action != sidecar.Accept || got.Charged {
			t.Fatalf("message %d: %+v, want it accepted uncharged", i, got)
		}
		r.Stage, r.Recipient = sidecar.StageRoute, r.Recipients
		s.want(s.ask(r), sidecar.Defer, "Login bob is stopped.  Message will be reattempted later")
	}
	if st := s.status("").Stops; len(st) != 1 || st[0].Held != 30 {
		t.Errorf("shown is %+v", st)
	}
	s.Holds.ReleaseAll(t.Context(), s.now)
	s.Holds.Wait()
	if got := s.deliveries(); len(got) != 0 {
		t.Errorf("tried are %d", len(got))
	}
	other := sidecar.Request{Stage: sidecar.StageLocal, Submitter: sidecar.Submitter{Login: "dora", CWD: "/home/bob/1"}, Sender: "bob@a.example", Recipients: "u@far.example"}
	s.want(s.ask(other), sidecar.Accept, "")
}

// 5,000 held messages of a stopped author start no Exim process, while a colleague's go at
// once; also after a restart.
func TestHeldMailKnowsItsAuthor(t *testing.T) {
	t.Parallel() // it waits
	s := newSite(t, limit20)
	s.now = time.Now()
	ids := func(id string, n int) (all []string) {
		for i := range n {
			r := s.from(id, sidecar.StageRoute, s.now.Add(time.Duration(len(all)-n)*time.Millisecond))
			r.ID = strings.Replace(r.ID, "0005dd", fmt.Sprintf("%06d", i), 1)
			if id == "office@a.example" {
				r.ID = strings.Replace(r.ID, "-0q", "-1q", 1)
			}
			s.want(s.ask(r), sidecar.Defer, "")
			all = append(all, r.ID)
		}
		return all
	}
	s.Lock(t.Context(), s.now, "a.example", "root")
	s.stop(stop.Request{Scope: "news@a.example"})
	ids("news@a.example", 5000)
	office := ids("office@a.example", 3)
	s.restart()
	s.run()
	if err := s.Unlock(t.Context(), s.now, "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	if got := s.StayStopped(s.now, "a.example"); got != "news@a.example stays stopped: sluice start news@a.example" {
		t.Errorf("unlock says %q", got)
	}
	s.eventually("the colleague's mail goes", func() bool { return len(s.deliveries()) >= 3 })
	time.Sleep(2500 * time.Millisecond) // two more rounds
	if got := s.deliveries(); slices.ContainsFunc(got, func(id string) bool { return !slices.Contains(office, id) }) {
		t.Errorf("delivered are %d, want only the colleague's", len(got))
	}
	s.start("news@a.example", false)
	s.eventually("and then the rest", func() bool { return len(s.deliveries()) > 20 })
}

// What a stop has held and is older than an hour when it ends waits for its release, at the
// router too; what came since goes.
func TestOldMailOfAStopWaitsForItsRelease(t *testing.T) {
	for _, how := range []string{"expires", "started"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel() // it waits
			s := newSite(t, limit20)
			s.now = time.Now()
			order := stop.Request{Scope: "news@a.example"}
			if how == "expires" {
				order.For = 2 * time.Second
			}
			s.stop(order)
			old := s.from("news@a.example", sidecar.StageRoute, s.now.Add(-61*time.Minute))
			young := s.from("news@a.example", sidecar.StageRoute, s.now.Add(-50*time.Minute))
			for _, r := range []sidecar.Request{old, young} {
				r.Charged = true
				s.want(s.ask(r), sidecar.Defer, newsStopped)
			}
			s.restart()
			s.run()
			if how == "started" {
				if got := s.start("news@a.example", false); got != "1 recipient of messages over an hour old stay held: sluice start news@a.example --release" {
					t.Errorf("start says %q", got)
				}
			}
			s.eventually("the young one goes", func() bool { s.now = time.Now(); return slices.Contains(s.deliveries(), young.ID) })
			s.want(s.ask(young), sidecar.Accept, "")
			s.want(s.ask(old), sidecar.Defer, "Mailbox news@a.example was stopped.  Message waits until somebody releases it [sluice start news@a.example --release; sluice on node1]")
			s.held("a.example", 1)
			other := s.from("news@a.example", sidecar.StageRoute, s.now.Add(-62*time.Minute)) // which the stop did not hold
			s.want(s.ask(other), sidecar.Accept, "")
			if slices.Contains(s.deliveries(), old.ID) {
				t.Error("the old one has gone")
			}
			s.restart()
			s.run()
			s.start("news@a.example", true)
			s.eventually("the old one goes when it is released", func() bool { return slices.Contains(s.deliveries(), old.ID) })
			s.want(s.ask(old), sidecar.Accept, "")
		})
	}
}

// A stop is a file for Exim, a file is a stop, and a removed one a start; while sluice is
// down too. A directory that vanishes is no hand.
func TestStopsAreFiles(t *testing.T) {
	t.Parallel() // it waits
	s := newSite(t, limit20)
	s.now = time.Now()
	file := func(name string) string { return filepath.Join(s.dir, "stopped", name) }
	there := func(name string) bool { _, err := os.Lstat(file(name)); return err == nil }
	stopped := func(id string) bool {
		s.now = time.Now()
		return s.ask(s.from(id, sidecar.StageRcpt, s.now)).Action == sidecar.Defer
	}
	touch := func(name string) {
		t.Helper()
		if err := os.WriteFile(file(name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if warning := s.stop(stop.Request{Scope: "news@a.example"}); warning != "nothing of a.example is counted or limited so far, and nobody is known to own it" {
		t.Errorf("the warning is %q", warning)
	}
	if info, err := os.Stat(file("")); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("the directory is %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(file("news@a.example")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the file: %v", err)
	}
	if warning := s.stop(stop.Request{Scope: "script:/srv"}); !strings.HasPrefix(warning, "only while sluice runs: ") {
		t.Errorf("a script's warning is %q", warning)
	}
	s.run()
	touch("by.hand@a.example")
	touch("Wrong@a.example")
	s.eventually("touch stops", func() bool { return stopped("by.hand@a.example") })
	s.eventually("what stops nobody is told", func() bool {
		return strings.Contains(s.log.String(), `\"Wrong@a.example\" has no effect, it would have to be wrong@a.example`)
	})
	if all, _ := s.Stops(s.now, "by.hand@a.example"); len(all) != 1 || all[0].Who != "a hand (its file)" {
		t.Errorf("stops are %+v", all)
	}
	os.Remove(file("news@a.example"))
	s.eventually("rm starts", func() bool { return !stopped("news@a.example") })
	if all, _ := s.Stops(s.now, "news@a.example"); len(all) != 1 || all[0].EndedBy != "a hand (its file)" {
		t.Errorf("stops are %+v", all)
	}
	if all, err := s.Stops(s.now, "A.example"); len(all) != 2 || err != nil {
		t.Errorf("stops of the domain's authors are %+v, %v", all, err)
	}
	os.RemoveAll(file(""))
	s.eventually("a directory that vanishes is made again", func() bool { return there("by.hand@a.example") })
	if !stopped("by.hand@a.example") {
		t.Error("and was a hand")
	}
	s.start("by.hand@a.example", false)
	s.eventually("start removes the file", func() bool { return !there("by.hand@a.example") && !stopped("by.hand@a.example") })
}

// What hands did to the files while sluice was down counts when it is up again.
func TestStopsByFilesWhileSluiceWasDown(t *testing.T) {
	t.Parallel() // it waits
	s := newSite(t, limit20)
	s.now = time.Now()
	dir := filepath.Join(s.dir, "stopped")
	s.stop(stop.Request{Scope: "removed@a.example"})
	s.stop(stop.Request{Scope: "stays@a.example"})
	s.stop(stop.Request{Scope: "short@a.example", For: time.Second})
	os.Remove(filepath.Join(dir, "removed@a.example"))
	if err := os.WriteFile(filepath.Join(dir, "login:bob"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.restart()
	s.run()
	bob := sidecar.Request{Stage: sidecar.StageRcpt, Submitter: sidecar.Submitter{Auth: "bob", ClientAddress: "203.0.113.9"}, Sender: "bob@a.example", Recipient: "u@far.example"}
	s.eventually("each is as its file", func() bool {
		s.now = time.Now()
		names, _ := filepath.Glob(dir + "/*")
		for i := range names {
			names[i] = filepath.Base(names[i])
		}
		return s.ask(bob).Action == sidecar.Defer && slices.Equal(names, []string{"login:bob", "stays@a.example"}) &&
			s.ask(s.from("removed@a.example", sidecar.StageRcpt, s.now)).Action == sidecar.Accept &&
			s.ask(s.from("short@a.example", sidecar.StageRcpt, s.now)).Action == sidecar.Accept &&
			s.ask(s.from("stays@a.example", sidecar.StageRcpt, s.now)).Action == sidecar.Defer
	})
}

// A stop that the board does not take holds here, survives a restart, and is posted later.
func TestAStopWithoutABoard(t *testing.T) {
	b := &awayBoard{values: map[string][]byte{}}
	s := &site{t: t, board: b, config: parsed(t, limit20), ledger: t.TempDir(), dir: t.TempDir(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	s.open()
	t.Cleanup(func() { s.store.Close() })
	b.posts, b.fail = make(chan struct{}, 100), make(chan struct{})
	close(b.fail)
	if warning := s.stop(stop.Request{Scope: "news@a.example"}); !strings.Contains(warning, "the other nodes cannot be told now") {
		t.Errorf("the warning is %q", warning)
	}
	s.want(s.rcpt("u@far.example", 0), sidecar.Defer, newsStopped)
	s.restart()
	s.want(s.rcpt("u@far.example", 0), sidecar.Defer, newsStopped)
	b.posts = nil
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	s.eventually("it is posted", func() bool {
		n := 0
		b.Entries("stop/", func(string, []byte) { n++ })
		return n == 1
	})
	cancel()
	<-done
}

// A stop of a mailbox speaks before the lock of its domain, and after a suspension.
func TestTheOrderOfBlocks(t *testing.T) {
	s := newSite(t, limit20)
	s.Lock(t.Context(), s.now, "a.example", "root")
	s.want(s.rcpt("u@far.example", 0), sidecar.Defer, "Domain a.example is locked.")
	s.stop(stop.Request{Scope: "news@a.example"})
	s.want(s.rcpt("u@far.example", 0), sidecar.Defer, newsStopped)
	s.want(s.ask(s.from("office@a.example", sidecar.StageRcpt, s.now)), sidecar.Defer, "Domain a.example is locked.")
	s.SetPanel(s.now, settings.Panel{Blocks: map[string]settings.PanelBlock{"a.example": {Suspended: true, Place: "suspended_users:1"}}})
	s.want(s.rcpt("u@far.example", 0), sidecar.Reject, "Domain a.example has been suspended")
}

// status, explain and history tell who is stopped, by whom and why.
func TestStopsAreShown(t *testing.T) {
	s := newSite(t, limit20)
	s.stop(stop.Request{Scope: "news@a.example", Why: "stolen", For: time.Hour})
	s.stop(stop.Request{Scope: "script:/srv/wp"})
	const origin = "stopped by alice at 2026-03-01 12:00:00 +0000 until 2026-03-01 13:00:00 +0000: stolen"
	for scope, want := range map[string]int{"": 2, "a.example": 1, "news@a.example": 1, "script:/srv/wp": 1} {
		st := s.status(scope)
		if len(st.Stops) != want || scope != "script:/srv/wp" && !slices.ContainsFunc(st.Stops, func(st operator.StopStatus) bool { return st.Origin() == origin }) {
			t.Errorf("status %q: %+v", scope, st.Stops)
		}
	}
	for scope, want := range map[string]string{"news@a.example": origin, "script:/srv/wp": "Script /srv/wp is stopped."} {
		e, err := s.Explain(s.now, scope)
		if err != nil || e.StoppedBy != "stop" || !strings.Contains(e.Stopped, want) || len(e.Stops) != 1 {
			t.Errorf("explain %s: %+v, %v", scope, e, err)
		}
	}
	s.now = s.now.Add(2 * time.Hour)
	s.start("script:/srv/wp", false)
	all, err := s.Stops(s.now, "")
	if err != nil || len(all) != 2 || all[0].State+all[1].State != "endedexpired" && all[0].State+all[1].State != "expiredended" {
		t.Errorf("history: %+v, %v", all, err)
	}
	for _, want := range []string{"stopped: nothing of this author goes", "started: this author may send again"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("%q is not in the log\n%s", want, s.log.String())
		}
	}
}
