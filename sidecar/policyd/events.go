package policyd

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sluice/sidecar/event"
)

// Counts are what happened to a server's connections and questions since New.
type Counts struct {
	Answered   int64 // replies written
	Unanswered int64 // requests malformed, over a limit or of an unknown kind
	TooLate    int64 // replies for which the client did not wait
	TooSlow    int64 // connections closed because the client was silent, dripped or did not read
	Refused    int64 // connections of users that may not ask
	Shed       int64 // connections closed to make room
	Crowded    int64 // connections that met MaxConns
	NoAccept   int64 // failed accepts
	Panics     int64 // panics of the Asker
}

// tellEvery is the time in which each kind of event is told once at most.
// Whoever can connect can cause events, and must not fill the disk with them.
const tellEvery = 10 * time.Second

// events counts what happens and tells operators of it.
type events struct {
	sink         event.Sink
	answeredOnes atomic.Int64

	unansweredOnes, late, slow, refused, shed, crowd, accepts, panics throttle
}

func newEvents(sink event.Sink) *events { return &events{sink: sink} }

func (e *events) answered() { e.answeredOnes.Add(1) }

func (e *events) unanswered(err error) {
	e.tell(&e.unansweredOnes, event.PolicyUnanswered, "error", err)
}

func (e *events) tooLate(err error) {
	e.tell(&e.late, event.PolicyTooLate, "error", err)
}

func (e *events) tooSlow(p phase) {
	what := map[phase]string{
		silent:  "asked nothing",
		reading: "did not end its request",
		writing: "did not read its reply",
	}[p]
	e.tell(&e.slow, event.PolicyTooSlow, "client", what)
}

func (e *events) peerRefused(err error) {
	e.tell(&e.refused, event.PolicyRefused, "error", err)
}

// crowded tells of a new connection at MaxConns and of those that made room for it.
func (e *events) crowded(shed int) {
	e.shed.total.Add(int64(shed))
	if shed == 0 {
		e.tell(&e.crowd, event.PolicyCrowded)
		return
	}
	e.tell(&e.crowd, event.PolicyShed, "closed", shed)
}

// acceptFailed tells of a failed accept and of the connections closed because of it.
func (e *events) acceptFailed(err error, shed int) {
	e.shed.total.Add(int64(shed))
	e.tell(&e.accepts, event.PolicyNotAccepted, "error", err, "closed", shed)
}

func (e *events) drainedByForce(n int) {
	e.sink.Emit(event.Event{Kind: event.PolicyCut, Attrs: event.Attrs("connections", n)})
}

func (e *events) panicked(p any, stack []byte) {
	e.tell(&e.panics, event.PolicyPanicked, "panic", fmt.Sprint(p), "stack", string(stack))
}

// tell tells of an event unless it was told just before; "more" says how many were
// not told since.
func (e *events) tell(t *throttle, k event.Kind, args ...any) {
	if more, ok := t.pass(); ok {
		e.sink.Emit(event.Event{Kind: k, Attrs: event.Attrs(append(args, "more", more)...)})
	}
}

func (e *events) counts() Counts {
	return Counts{
		Answered:   e.answeredOnes.Load(),
		Unanswered: e.unansweredOnes.total.Load(),
		TooLate:    e.late.total.Load(),
		TooSlow:    e.slow.total.Load(),
		Refused:    e.refused.total.Load(),
		Shed:       e.shed.total.Load(),
		Crowded:    e.crowd.total.Load(),
		NoAccept:   e.accepts.total.Load(),
		Panics:     e.panics.total.Load(),
	}
}

// A throttle counts an event and lets it be told once in tellEvery.
type throttle struct {
	total atomic.Int64

	mu   sync.Mutex
	next time.Time
	held int64 // not told since the last time
}

// pass counts the event. It is true if the event is to be told, with the
// number of those that were not told before.
func (t *throttle) pass() (held int64, ok bool) {
	t.total.Add(1)
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.next) {
		t.held++
		return 0, false
	}
	held, t.held, t.next = t.held, 0, now.Add(tellEvery)
	return held, true
}
