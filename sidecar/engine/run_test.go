package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/typed"
)

// run runs a site's loops until the test ends.
func (s *site) run() {
	s.running.Store(true)
	ctx, stop := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { s.Engine.Run(ctx) })
	loops.Go(func() {
		s.locks.Run(ctx, func(e lockfile.Event) { s.LockEvent(ctx, time.Now(), e) })
	})
	loops.Go(func() {
		s.stops.Run(ctx, func(e lockfile.Event) { s.StopEvent(ctx, time.Now(), e) })
	})
	s.t.Cleanup(func() { stop(); loops.Wait() })
}

// eventually waits until something is so.
func (s *site) eventually(what string, so func() bool) {
	s.t.Helper()
	hosttest.EventuallyOr(s.t, func() string { return what + "\n" + s.log.String() }, so)
}

func (s *site) lockPath(name string) string { return filepath.Join(s.dir, name) }

func (s *site) content(name string) string {
	b, _ := os.ReadFile(s.lockPath(name))
	return string(b)
}

const aLock = "max_hourly_a.example"

func TestLocksMustBeRemovedByHand(t *testing.T) {
	s := ago(t, "[limits]\nhourly = 3\n")
	s.send(2)
	s.send(1)
	s.Reconcile(t.Context(), s.now)
	if got := s.content(aLock); got != "3/3 (100%)" {
		t.Fatalf("the lock is %q", got)
	}
	s.hold("h1@far.example")
	s.run()
	s.eventually("release", func() bool { return s.content(aLock) == "" })
	s.eventually("delivery", func() bool { return len(s.deliveries()) > 0 })
}

// ago returns a site as it was two hours ago, until it runs: then all that its windows had has left them.
func ago(t *testing.T, config string) *site {
	t.Helper()
	s := newSite(t, config)
	s.now = time.Now().Add(-2 * time.Hour)
	return s
}

// hold has the router ask about a recipient for which there is no room.
func (s *site) hold(to string) sidecar.Request {
	s.t.Helper()
	r := authed(sidecar.StageRoute)
	r.ID, r.Recipient = messageID(s.now), to
	if got := s.Ask(context.Background(), s.now, r); got.Action != sidecar.Defer {
		s.t.Fatalf("%s: %+v, want it held", to, got)
	}
	return r
}

func TestAHandThatRemovesTheLockReleasesAndResets(t *testing.T) {
	for _, owner := range []string{"sluice", "operator"} {
		t.Run(owner, func(t *testing.T) {
			s := newSite(t, "[limits]\nhourly = 3\n")
			s.now = time.Now()
			s.run()
			s.send(3)
			s.eventually("lock", func() bool { return s.content(aLock) != "" })
			if owner == "operator" {
				if err := os.WriteFile(s.lockPath(aLock), []byte("mine"), 0o644); err != nil {
					t.Fatal(err)
				}
				s.eventually("lock taken", func() bool {
					return s.rcpt("u@far.example", 0).Text == "Domain a.example is locked.  Message will be reattempted later"
				})
			}
			held := s.hold("u@far.example")
			if err := os.Remove(s.lockPath(aLock)); err != nil {
				t.Fatal(err)
			}
			s.eventually("the next mail passes", func() bool { return s.rcpt("v@far.example", 0).Action == sidecar.Accept })
			s.eventually("what was held is delivered", func() bool { return slices.Contains(s.deliveries(), held.ID) })
			s.sent("a.example", 0)
		})
	}
}

// An operator who removes the lock again does not wait for an exim -M that has
// been delivering since the first time.
func TestARemovedLockDoesNotWaitForASlowRelease(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 3\n")
	s.now = time.Now()
	first := messageID(s.now)
	s.slow = map[string]bool{first: true}
	s.run()
	for _, id := range []string{first, messageID(s.now.Add(time.Second)), messageID(s.now.Add(2 * time.Second))} {
		s.send(3)
		s.eventually("lock", func() bool { return s.content(aLock) != "" })
		r := authed(sidecar.StageRoute)
		r.ID, r.Recipient = id, "u@far.example"
		s.want(s.Ask(context.Background(), s.now, r), sidecar.Defer, "Domain a.example has exceeded")
		if err := os.Remove(s.lockPath(aLock)); err != nil {
			t.Fatal(err)
		}
		s.eventually("the next mail passes", func() bool { return s.rcpt("v@far.example", 0).Action == sidecar.Accept })
		s.eventually("what was held is delivered", func() bool { return slices.Contains(s.deliveries(), id) })
	}
}

func TestALockThatACrashPreventedIsMadeAtStart(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 3\n")
	s.now = time.Now()
	s.send(3) // nothing runs yet
	s.run()
	s.eventually("lock", func() bool { return s.content(aLock) == "3/3 (100%)" })
}

func TestResetOfADomainRemovesItsLock(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 3\n")
	s.now = time.Now()
	s.run()
	s.send(3)
	s.eventually("lock", func() bool { return s.content(aLock) != "" })
	if err := s.Reset(context.Background(), time.Now(), "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.eventually("no lock", func() bool { return s.content(aLock) == "" })
	s.sent("a.example", 0)
}

func TestHoldsSurviveARestart(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 3\n[limits.mailbox.\"news@a.example\"]\nhourly = 2\n")
	s.now = time.Now()
	s.send(2)
	held := s.hold("u@far.example")
	s.restart()
	s.held("a.example", 1)
	s.run()
	if err := s.Reset(context.Background(), time.Now(), "news@a.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.eventually("delivery", func() bool { return slices.Contains(s.deliveries(), held.ID) })
}

func TestAClockSetBackFreezesNothing(t *testing.T) {
	s := newSite(t, "[limits]\nwindow = \"1m\"\nhourly = 20\n")
	s.send(20)
	s.now = s.now.Add(-time.Hour) // while sluice was down
	s.restart()
	s.want(s.rcpt("u@far.example", 0), sidecar.Defer, "Domain a.example has exceeded")
	s.now = s.now.Add(62 * time.Second)
	s.want(s.rcpt("u@far.example", 0), sidecar.Accept, "")
}

func TestTheOperatorIsToldOfTheMemoryCeiling(t *testing.T) {
	s := newSite(t, "[store]\nmax_subjects = 1\n[limits]\nhourly = 3\n")
	s.now = time.Now()
	s.run()
	s.send(1)
	r := authed(sidecar.StageData)
	r.Auth, r.Recipients = "x@b.example", "1@far.example, 2@far.example"
	for i := range 4 { // existing ones stay exact, new ones pass
		r.ID = messageID(s.now.Add(time.Duration(i) * time.Second))
		s.want(s.Ask(context.Background(), s.now, r), sidecar.Accept, "")
	}
	s.want(s.send(3), sidecar.Defer, "Domain a.example has exceeded")
	s.eventually("the operator is told", func() bool {
		return strings.Contains(s.log.String(), "memory ceiling reached: new domains pass uncounted, those known stay exact; raise store.max_subjects")
	})
	st, err := s.Status(context.Background(), time.Now(), "")
	if err != nil || st.Totals.Uncounted != 8 || st.Totals.Subjects != 1 {
		t.Fatalf("%+v, %v", st.Totals, err)
	}
}

func TestTheOperatorIsToldThatTenantsCouldLie(t *testing.T) {
	const warning = "untrusted_set_sender), and there is no owner map"
	s := newSite(t, "")
	if strings.Contains(s.log.String(), warning) {
		t.Error("warned although Exim lets nobody lie")
	}
	s.anySender = true
	s.restart()
	if !strings.Contains(s.log.String(), warning) {
		t.Error("not warned")
	}
}

func TestTyposAreNotFound(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 3\n[limits.account.bob]\nhourly = 3\n")
	ctx := context.Background()
	for what, err := range map[string]error{
		"unlock":          s.Unlock(ctx, s.now, "never.example", "root"),
		"reset":           s.Reset(ctx, s.now, "never.example", "root"),
		"reset account":   s.Reset(ctx, s.now, "account:nobody", "root"),
		"reset unlimited": s.Reset(ctx, s.now, "news@a.example", "root"),
	} {
		if !errors.Is(err, typed.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.send(1)
	if err := s.Unlock(ctx, s.now, "a.example", "root"); err != nil {
		t.Error(err)
	}
}

// Whoever releases a domain may be quicker than the process that has just been
// told to hold: Exim then says that another one has the message.
func TestAMessageThatWasStillOpenIsDeliveredSoon(t *testing.T) {
	t.Parallel() // it waits
	s := newSite(t, "[limits]\nhourly = 3\n")
	s.now = time.Now()
	s.send(3)
	s.hold("u@far.example")
	s.run()
	if err := s.Reset(context.Background(), time.Now(), "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.eventually("Exim is told twice to deliver", func() bool { return len(s.deliveries()) == 2 })
}

// An Exim that cannot be run delivers nothing, and what it was told to deliver
// stays held, to be charged however old it becomes.
func TestAFailedDeliveryForgetsNoHold(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 3\n")
	s.now = time.Now()
	s.failing = true
	s.send(3)
	held := s.hold("u@far.example")
	s.run()
	if err := s.Reset(context.Background(), time.Now(), "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.eventually("Exim was told to deliver", func() bool { return len(s.deliveries()) > 0 })
	s.eventually("the operator is told", func() bool { return strings.Contains(s.log.String(), "exim -M failed") })
	s.held("a.example", 1)
	s.want(s.Ask(context.Background(), time.Now().Add(3*time.Hour), held), sidecar.Accept, "")
	if st := s.store.Standing(time.Now().Add(3*time.Hour), "a.example"); st.Windows[0].Sent != 1 {
		t.Fatalf("charged %+v", st)
	}
}

func TestAChargedRecipientHeldUnderALockIsNotChargedAgain(t *testing.T) {
	s := newSite(t, limit20)
	ctx := context.Background()
	r := sidecar.Request{Stage: sidecar.StageRoute, Submitter: sidecar.Submitter{ClientAddress: "203.0.113.5"}, Sender: "x@else.example",
		ID: messageID(s.now), Original: "fwd@a.example", Recipient: "u@far.example"}
	s.want(s.Ask(ctx, s.now, r), sidecar.Accept, "")
	if _, err := s.Lock(ctx, s.now, "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.want(s.Ask(ctx, s.now, r), sidecar.Defer, "Domain a.example is locked")
	s.restart()
	if err := s.Unlock(ctx, s.now, "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(3 * time.Hour)
	s.want(s.Ask(ctx, s.now, r), sidecar.Accept, "")
	s.sent("a.example", 0)
}
