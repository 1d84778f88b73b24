package policyd

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sluice/sidecar/event"
)

// reportEvery is how often each kind of event is reported at most. Anybody who can connect
// can cause events, and must not be able to fill the disk with them.
const reportEvery = 10 * time.Second

// events counts what happens and reports it to operators.
type events struct {
	sink          event.Sink
	answeredCount atomic.Int64

	unansweredCount, late, slow, refused, shed, crowd, accepts, panics throttle
}

func newEvents(sink event.Sink) *events { return &events{sink: sink} }

func (e *events) answered() { e.answeredCount.Add(1) }

func (e *events) unanswered(err error) {
	e.report(&e.unansweredCount, event.PolicyUnanswered, "error", err)
}

func (e *events) tooLate(err error) {
	e.report(&e.late, event.PolicyTooLate, "error", err)
}

func (e *events) tooSlow(p phase) {
	what := map[phase]string{
		silent:  "asked nothing",
		reading: "did not end its request",
		writing: "did not read its reply",
	}[p]
	e.report(&e.slow, event.PolicyTooSlow, "client", what)
}

func (e *events) peerRefused(err error) {
	e.report(&e.refused, event.PolicyRefused, "error", err)
}

// crowded reports a new connection at MaxConns and how many were closed for it.
func (e *events) crowded(shed int) {
	e.shed.total.Add(int64(shed))
	if shed == 0 {
		e.report(&e.crowd, event.PolicyCrowded)
		return
	}
	e.report(&e.crowd, event.PolicyShed, "closed", shed)
}

// acceptFailed reports a failed accept and how many connections were closed because of it.
func (e *events) acceptFailed(err error, shed int) {
	e.shed.total.Add(int64(shed))
	e.report(&e.accepts, event.PolicyNotAccepted, "error", err, "closed", shed)
}

func (e *events) drainedByForce(n int) {
	e.sink.Emit(event.Event{Kind: event.PolicyCut, Attrs: event.Attrs("connections", n)})
}

func (e *events) panicked(p any, stack []byte) {
	e.report(&e.panics, event.PolicyPanicked, "panic", fmt.Sprint(p), "stack", string(stack))
}

// report emits an event unless one of its kind was emitted just before; the attribute
// "more" has how many were suppressed since then.
func (e *events) report(t *throttle, k event.Kind, args ...any) {
	if more, ok := t.allow(); ok {
		e.sink.Emit(event.Event{Kind: k, Attrs: event.Attrs(append(args, "more", more)...)})
	}
}

// A throttle counts events of one kind and lets one pass in reportEvery.
type throttle struct {
	total atomic.Int64

	mu         sync.Mutex
	next       time.Time
	suppressed int64 // since the last one that passed
}

// allow counts an event. It reports whether the event is to be emitted, with the number of
// those suppressed before.
func (t *throttle) allow() (suppressed int64, ok bool) {
	t.total.Add(1)
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.next) {
		t.suppressed++
		return 0, false
	}
	suppressed, t.suppressed, t.next = t.suppressed, 0, now.Add(reportEvery)
	return suppressed, true
}
