package event

import (
	"errors"
	"testing"
	"time"
)

// A Queue keeps what operators should know of until it is taken, and counts what it has no
// room for.
func TestQueue(t *testing.T) {
	var q Queue
	s := NewStream(&q)
	if s.Enabled(Refused) || !s.Enabled(LimitReached) {
		t.Error("enabled for the wrong kinds")
	}
	s.Emit(Event{Kind: Refused})
	s.Emit(Event{Kind: LimitReached, Domain: "a.example"})
	s.Emit(Event{Kind: LimitFreed, Domain: "a.example"})
	if events, lost := q.Take(); len(events) != 2 || events[0].Kind != LimitReached || events[0].At.IsZero() || lost != 0 {
		t.Errorf("%d lost, %v", lost, events)
	}
	for range maxQueued + 3 {
		s.Emit(Event{Kind: LimitReached})
	}
	if events, lost := q.Take(); len(events) != maxQueued || lost != 3 {
		t.Errorf("%d lost, %d taken", lost, len(events))
	}
	if events, lost := q.Take(); len(events) != 0 || lost != 0 {
		t.Errorf("%d lost, %d taken twice", lost, len(events))
	}
}

func TestDetails(t *testing.T) {
	until := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	e := Event{Attrs: Attrs("who", "alice", "culprit_sends", "3 of 4", "held", 7, "why", "", "until", until), Err: errors.New("disk full")}
	if got, want := e.Details("who"), "culprit sends 3 of 4, held 7, until "+until.Local().Format("2006-01-02 15:04:05 -0700")+", disk full"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if e.Attr("held") != "7" || e.Attr("none") != "" || (Event{}).Details() != "" {
		t.Error("attributes")
	}
}
