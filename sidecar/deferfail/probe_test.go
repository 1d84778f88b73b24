package deferfail

import (
	"strings"
	"testing"
	"time"
	"unsafe"

	"sluice/sidecar"
	"sluice/sidecar/event"
)

// A subject is a part of its request, which may be of megabytes, and is not kept with it.
func TestProbesKeepNoRequest(t *testing.T) {
	p := probes{subjects: map[string]*subjectProbes{}}
	request := "a.example " + strings.Repeat("x", 1000)
	p.left(time.Unix(0, 0), request[:9], 5)
	for subject := range p.subjects {
		if unsafe.StringData(subject) == unsafe.StringData(request) {
			t.Errorf("%s holds on to its request", subject)
		}
	}
}

// soon takes nothing.
type soon struct{ sidecar.Reconciler }

func (soon) ReconcileAtTick(...string) {}

// The probes of a trip that another node has ended are forgotten too.
func TestProbesGoWithTheirTrip(t *testing.T) {
	now := time.Unix(1000, 0)
	d := New(Options{Notes: memory{}, Events: event.NewStream(), Reconciler: soon{}, Authors: nobody{}})
	for _, subject := range []string{"a.example", "b.example"} {
		if err := d.trips.set(subject, trip{Since: now, Shared: true}); err != nil {
			t.Fatal(err)
		}
		d.probes.left(now, subject, 5)
	}
	if err := d.trips.end("a.example"); err != nil { // as Follow does
		t.Fatal(err)
	}
	d.Tick(t.Context(), now)
	if len(d.probes.subjects) != 1 || d.probes.subjects["b.example"] == nil {
		t.Errorf("the probes of %d subjects are kept, want those of b.example", len(d.probes.subjects))
	}
}

// nobody is known.
type nobody struct{ Authors }

func (nobody) Blamed(time.Time) []sidecar.Blamed { return nil }
