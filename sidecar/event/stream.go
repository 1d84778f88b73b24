package event

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// repeatEvery is the least time between two events that repeat each other: some could
// come with every message, or every second.
const repeatEvery = 10 * time.Second

// maxPassed bounds how many events a Stream remembers to find repetitions.
const maxPassed = 1000

// A Stream passes each event on to all of its subscribers.
type Stream struct {
	subscribers []Sink

	mu     sync.Mutex
	passed map[string]time.Time // by key: when such an event was passed on last
}

// NewStream returns a Stream for these subscribers, or for none.
func NewStream(subscribers ...Sink) *Stream {
	return &Stream{subscribers: subscribers, passed: map[string]time.Time{}}
}

// Emit passes an event on, unless it only repeats one that was passed on just now.
func (s *Stream) Emit(e Event) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	if limit := kinds[e.Kind].limit; limit != unlimited && !s.pass(limit.key(e), e.At) {
		return
	}
	for _, to := range s.subscribers {
		to.Emit(e)
	}
}

// Enabled reports whether an event of this kind would be passed on now to anybody.
func (s *Stream) Enabled(k Kind) bool {
	if kinds[k].limit == perKind && s.repeats(string(k), time.Now()) {
		return false
	}
	return slices.ContainsFunc(s.subscribers, func(to Sink) bool { return to.Enabled(k) })
}

// repeats reports whether an event with this key was passed on just now.
func (s *Stream) repeats(key string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.passed[key]) < repeatEvery
}

// pass reports whether to pass on an event with this key, and then remembers that.
func (s *Stream) pass(key string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.passed[key]) < repeatEvery {
		return false
	}
	if len(s.passed) >= maxPassed { // errors with a changing text
		clear(s.passed)
	}
	s.passed[key] = now
	return true
}

// A limit says which events count as repetitions of each other.
type limit int

const (
	unlimited limit = iota
	perKind         // all of a kind
	perError        // those with the same error but for the domain: a full disk is full for all of them
)

// key is the same for events that repeat each other.
func (l limit) key(e Event) string {
	if l == perError && e.Err != nil {
		text := e.Err.Error()
		if e.Domain != "" {
			text = strings.ReplaceAll(text, e.Domain, "")
		}
		return string(e.Kind) + " " + text
	}
	return string(e.Kind)
}
