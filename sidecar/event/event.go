package event

import (
	"log/slog"
	"time"
)

// A Kind names what has happened. Names do not change: operators search the journal for
// them, as SLUICE_EVENT. All are in kinds.go.
type Kind string

// An Event is something that an operator should know of.
type Event struct {
	Kind   Kind
	At     time.Time // zero: now; a Stream fills it in
	Domain string    // that it is about; empty if it is not about one
	Attrs  []slog.Attr
	Err    error // why, if something has failed
}

// Attrs are attributes from keys and values, which alternate as in slog.
func Attrs(keysAndValues ...any) []slog.Attr {
	return slog.Group("", keysAndValues...).Value.Group()
}

// A Sink receives events. It may be called by many goroutines at once, and must not block.
type Sink interface {
	Emit(Event)
	// Enabled reports whether the sink would do something with an event of this kind now.
	// Where speed matters it is called first, to make no event for nothing.
	Enabled(Kind) bool
}

// EmitError emits an event of a kind for an error; for nil it emits none.
func EmitError(s Sink, k Kind, err error) {
	if err != nil {
		s.Emit(Event{Kind: k, Err: err})
	}
}

// Unread returns a func that emits an event of a kind for a note that cannot be read.
func Unread(s Sink, k Kind) func(key string, err error) {
	return func(key string, err error) { s.Emit(Event{Kind: k, Attrs: Attrs("note", key), Err: err}) }
}

// A Func is a Sink that is called for every event.
type Func func(Event)

// Emit calls the function.
func (f Func) Emit(e Event) { f(e) }

// Enabled is true.
func (f Func) Enabled(Kind) bool { return true }
