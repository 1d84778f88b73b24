package deferfail

import (
	"strings"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
	"sluice/sidecar/notes"
	"sluice/sidecar/settings"
)

// slowStore does not answer about one subject until it is told to.
type slowStore struct {
	Store
	slow          string
	asked, answer chan struct{}
}

func (s *slowStore) Standing(_ time.Time, subject string) ratelimit.Standing {
	if subject == s.slow {
		close(s.asked)
		<-s.answer
	}
	return ratelimit.Standing{Name: subject, Epoch: 3}
}

func (nobody) Culprit(time.Time, string) sidecar.Culprit { return sidecar.Culprit{} }

// halfBad are settings by which a domain trips when half of its sends go wrong.
func halfBad(t *testing.T) *settings.Settings {
	t.Helper()
	c, err := config.Parse("sluice.toml", "[limits]\nhourly = 100\ndeferfail_percent = 50\n")
	if err != nil {
		t.Fatal(err)
	}
	set, err := settings.New(settings.Sources{Config: c}, settings.Host{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// While Redis is slow to tell of a subject whose first send has gone wrong, questions about another
// one are answered.
func TestNoQuestionWaitsForTheStore(t *testing.T) {
	now := time.Unix(100, 0)
	set := halfBad(t)
	store := &slowStore{slow: "slow.example", asked: make(chan struct{}), answer: make(chan struct{})}
	d := New(Options{Store: store, Settings: func() *settings.Settings { return set }, Notes: memory{}, Events: event.NewStream(), Reconciler: soon{}, Authors: nobody{}})
	if err := d.trips.set("tripped.example", trip{Since: now, Deferrals: true}); err != nil {
		t.Fatal(err)
	}
	recorded, answered := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(recorded)
		d.Recorded(now, []logline.Outcome{{Author: &sidecar.Author{}, Entry: &logline.Entry{At: now}, When: now, To: "far.example",
			Payer: &sidecar.Payer{Domain: store.slow}, Token: 1, Result: ratelimit.Deferred, Cause: sidecar.RemoteDefer}})
	}()
	<-store.asked
	go func() {
		defer close(answered)
		b, blocked := d.Block(now, sidecar.Author{}, sidecar.Payer{Domain: "tripped.example"})
		if !blocked || b.Text(sidecar.Defer).Text == "" || !b.Retries.Allow("", 2) {
			t.Errorf("blocked %v: %+v", blocked, b)
		}
	}()
	select {
	case <-answered:
	case <-time.After(hosttest.Patience()):
		t.Error("the question waits for the store")
	}
	close(store.answer)
	<-recorded
	<-answered
	if kept := d.badSends.subjects[store.slow]; kept == nil || len(kept.Sends) != 1 || kept.Epoch != 3 {
		t.Errorf("kept %+v", kept)
	}
}

// A question about a tripped subject asks no Redis: its refusal has the counts of a second ago.
func TestARefusalAsksNoRedis(t *testing.T) {
	now := time.Unix(100, 0)
	set := halfBad(t)
	store := &slowStore{}
	d := New(Options{Store: store, Settings: func() *settings.Settings { return set }, Notes: memory{}, Events: event.NewStream(), Authors: nobody{},
		Board: &notes.LocalBoard{Notes: memory{}}})
	subject := "tripped.example"
	text := func() string {
		b, blocked := d.Block(now, sidecar.Author{}, sidecar.Payer{Domain: subject})
		if !blocked {
			t.Fatal("not blocked")
		}
		return b.Text(sidecar.Reject).Text
	}
	if err := d.trips.set(subject, trip{Since: now}); err != nil {
		t.Fatal(err)
	}
	if got := text(); !strings.Contains(got, "(0/5 (0%))") {
		t.Errorf("before it was reconciled: %s", got)
	}
	store.slow = subject // a call would close a channel that is nil
	if err := d.trips.see(subject, Rate{Bad: 12, min: 5, sent: 40}, false); err != nil {
		t.Fatal(err)
	}
	if got := text(); !strings.Contains(got, "(12/5 (30%))") {
		t.Errorf("afterwards: %s", got)
	}
}
