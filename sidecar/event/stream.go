package event

import (
	"strings"
	"sync"
	"time"
)

// repeatEvery is how often an event that may come with every message, or every
// second, is passed on at most.
const repeatEvery = 10 * time.Second

// maxPassed bounds what a Stream remembers of events passed on.
const maxPassed = 1000

// A Stream passes each event on to all of its subscribers.
type Stream struct {
	subscribers []Sink

	mu     sync.Mutex
	passed map[string]time.Time // when an event that repeats was passed on last, by its key
}

// NewStream returns a Stream for these subscribers. One without any is for nobody.
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
	for _, to := range s.subscribers {
		if to.Enabled(k) {
			return true
		}
	}
	return false
}

// repeats reports whether an event with this key was passed on just now.
func (s *Stream) repeats(key string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.passed[key]) < repeatEvery
}

// pass reports whether an event with this key is to be passed on.
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
	perError        // those that fail alike, whatever the domain: a full disk is full for all of them
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
