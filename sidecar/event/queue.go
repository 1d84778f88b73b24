package event

import (
	"log/slog"
	"sync"
)

// maxQueued bounds the events of a Queue: they come at most a second before they are taken.
const maxQueued = 20_000

// A Queue is a Sink that keeps events until they are taken, for who may have to wait. What only
// a log of debugging has, as single refusals, it does not keep.
type Queue struct {
	mu     sync.Mutex
	events []Event
	lost   int
}

// Emit implements Sink. With no room left it only counts.
func (q *Queue) Emit(e Event) {
	if !q.Enabled(e.Kind) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) >= maxQueued {
		q.lost++
		return
	}
	q.events = append(q.events, e)
}

// Enabled implements Sink.
func (q *Queue) Enabled(k Kind) bool { return k.Level() > slog.LevelDebug }

// Take returns the events that have come since the last Take, the first first, and how many
// there was no room for.
func (q *Queue) Take() (events []Event, lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, lost = q.events, q.lost
	q.events, q.lost = nil, 0
	return events, lost
}
