package policyd

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
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

// logEvery is the time in which each kind of event is logged once at most.
// Whoever can connect can cause events, and must not fill the disk with them.
const logEvery = 10 * time.Second

// events counts what happens and tells operators of it. All wording is here.
type events struct {
	log          *slog.Logger
	answeredOnes atomic.Int64

	unansweredOnes, late, slow, refused, shed, crowd, accepts, panics throttle
}

func newEvents(log *slog.Logger) *events { return &events{log: log} }

func (e *events) answered() { e.answeredOnes.Add(1) }

func (e *events) unanswered(err error) {
	e.warn(&e.unansweredOnes, 1, "policy question not answered", "error", err)
}

func (e *events) tooLate(err error) {
	e.warn(&e.late, 1, "policy answer came too late: the client has gone", "error", err)
}

func (e *events) tooSlow(p phase) {
	what := map[phase]string{
		silent:  "asked nothing",
		reading: "did not end its request",
		writing: "did not read its reply",
	}[p]
	e.warn(&e.slow, 1, "policy client closed: too slow", "client", what)
}

func (e *events) peerRefused(err error) {
	e.warn(&e.refused, 1, "policy client refused", "error", err)
}

// crowded tells of a new connection at MaxConns and of those that made room for it.
func (e *events) crowded(shed int) {
	e.shed.total.Add(int64(shed))
	if shed == 0 {
		e.warn(&e.crowd, 1, "policy connections at their maximum, all being answered: new one refused")
		return
	}
	e.warn(&e.crowd, 1, "policy connections at their maximum: slow and idle ones closed", "closed", shed)
}

// acceptFailed tells of a failed accept and of the connections closed because of it.
func (e *events) acceptFailed(err error, shed int) {
	e.shed.total.Add(int64(shed))
	e.warn(&e.accepts, 1, "policy connections cannot be accepted: slow and idle ones closed, trying again",
		"error", err, "closed", shed)
}

func (e *events) drainedByForce(n int) {
	e.log.Warn("policy server stopped with questions unanswered", "connections", n)
}

func (e *events) panicked(p any, stack []byte) {
	if more, ok := e.panics.pass(1); ok {
		e.log.Error("policy panicked over a question, which gets no answer",
			"panic", fmt.Sprint(p), "stack", string(stack), "more", more)
	}
}

// warn logs unless the event was logged just before; "more" says how many went
// unlogged since.
func (e *events) warn(t *throttle, n int64, msg string, args ...any) {
	if more, ok := t.pass(n); ok {
		e.log.Warn(msg, append(args, "more", more)...)
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

// A throttle counts an event and lets it be logged once in logEvery.
type throttle struct {
	total atomic.Int64

	mu   sync.Mutex
	next time.Time
	held int64 // not logged since the last time
}

// pass counts the event. It is true if the event is to be logged, with the
// number of those that were not logged before.
func (t *throttle) pass(n int64) (held int64, ok bool) {
	t.total.Add(n)
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.next) {
		t.held += n
		return 0, false
	}
	held, t.held, t.next = t.held, 0, now.Add(logEvery)
	return held, true
}
