// Package event is what an operator should know of, as values. It owns the limit
// on events that repeat, and the wording of each in the log (kinds.go). It asks
// nobody. It tells each event to everyone who has subscribed: the log is one.
package event

import (
	"log/slog"
	"time"
)

// A Kind names what has happened. Names are stable: operators look for them in the
// journal as SLUICE_EVENT. All are in kinds.go.
type Kind string

// An Event is something that an operator should know of.
type Event struct {
	Kind   Kind
	At     time.Time // zero: now; a Stream fills it in
	Domain string    // that it concerns; empty if it is not about one
	Attrs  []slog.Attr
	Err    error // why, if something has failed
}

// Attrs are attributes from keys and values, which alternate as in slog.
func Attrs(keysAndValues ...any) []slog.Attr {
	return slog.Group("", keysAndValues...).Value.Group()
}

// A Sink takes events. It may be called by many goroutines at once, and must not
// keep them waiting.
type Sink interface {
	Emit(Event)
	// Enabled reports whether an event of this kind would be taken now. Whoever
	// answers mail asks first, and makes no event in vain.
	Enabled(Kind) bool
}

// Unread returns a func that tells of notes that cannot be read, as events of a kind.
func Unread(s Sink, k Kind) func(key string, err error) {
	return func(key string, err error) { s.Emit(Event{Kind: k, Attrs: Attrs("note", key), Err: err}) }
}

// A Func is a Sink that takes every event.
type Func func(Event)

// Emit calls the function.
func (f Func) Emit(e Event) { f(e) }

// Enabled is true.
func (f Func) Enabled(Kind) bool { return true }
