package event

import (
	"context"
	"log/slog"
)

// A Log writes events to the service's own log, worded as in kinds.go.
type Log struct{ log *slog.Logger }

// NewLog writes to log.
func NewLog(log *slog.Logger) *Log { return &Log{log} }

// Enabled reports whether the log has events of this kind's level.
func (l *Log) Enabled(k Kind) bool { return l.log.Enabled(context.Background(), k.Level()) }

// Emit writes an event: its text, its domain, its attributes, and its error last.
func (l *Log) Emit(e Event) {
	if !l.Enabled(e.Kind) {
		return
	}
	r := slog.NewRecord(e.At, e.Kind.Level(), e.Kind.Text(), 0)
	if e.Domain != "" {
		r.AddAttrs(slog.String("domain", e.Domain))
	}
	r.AddAttrs(e.Attrs...)
	if e.Err != nil {
		r.AddAttrs(slog.Any("error", e.Err))
	}
	// There is no place to report that the log cannot be written.
	_ = l.log.Handler().Handle(context.WithValue(context.Background(), kindKey{}, e.Kind), r)
}

// kindKey is the key under which KindOf finds the kind in a context.
type kindKey struct{}

// KindOf is the kind of the event that a Log is writing, for a slog.Handler that writes it
// as a field; empty for a line of the log that is not an event.
func KindOf(ctx context.Context) Kind {
	k, _ := ctx.Value(kindKey{}).(Kind)
	return k
}
