package journald

import (
	"bytes"
	"context"
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"sluice/sidecar/event"
	"sluice/sidecar/printable"
)

// A stream is stderr where systemd has connected it to its journal. What is printed
// there says why a command failed, so each line gets the priority of an error
// (sd-daemon(3)).
type stream struct{ io.Writer }

func (s stream) Write(p []byte) (int, error) {
	var b bytes.Buffer
	for line := range bytes.Lines(p) {
		fmt.Fprintf(&b, "<%d>%s", journal.PriErr, line)
	}
	if _, err := s.Writer.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Stderr returns this process's stderr. JOURNAL_STREAM alone does not show that this
// is the journal: it may be inherited from a process with another stderr
// (systemd.exec(5)).
func Stderr() io.Writer {
	if ours, err := journal.StderrIsJournalStream(); ours && err == nil {
		return stream{os.Stderr}
	}
	return os.Stderr
}

// NewLog logs to stderr, or directly to the journal where stderr is the journal.
func NewLog(stderr io.Writer, level slog.Level) *slog.Logger {
	if s, ok := stderr.(stream); ok {
		return slog.New(&handler{level: level, send: journal.Send, stderr: s.Writer})
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
}

// NewAudit tells the journal of actions, whatever stderr is; nobody if there is no journal.
func NewAudit() *slog.Logger {
	if !journal.Enabled() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(&handler{level: slog.LevelInfo, send: journal.Send, stderr: io.Discard})
}

// A handler sends lines to systemd's journal, which adds the time. The name of the
// event and each attribute are fields beside the text:
//
//	journalctl -u sluice -p warning
//	journalctl SLUICE_EVENT=trip SLUICE_DOMAIN=shop.example
type handler struct {
	level  slog.Level
	send   func(message string, p journal.Priority, fields map[string]string) error
	stderr io.Writer // the journal too, but without fields; for when sending fails
	attrs  []slog.Attr
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.attrs = slices.Concat(h.attrs, attrs)
	return &with
}

// WithGroup implements slog.Handler. It ignores the group: no line of ours has one.
func (h *handler) WithGroup(string) slog.Handler { return h }

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	attrs := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	fields := map[string]string{"SYSLOG_IDENTIFIER": "sluice"}
	for _, a := range attrs {
		fields[fieldName(a.Key)] = fieldValue(a.Value)
	}
	if k := event.KindOf(ctx); k != "" {
		fields["SLUICE_EVENT"] = string(k)
	}
	message, p := oneLine(r.Message, attrs), priority(r.Level)
	if h.send(message, p, fields) == nil {
		return nil
	}
	_, err := fmt.Fprintf(h.stderr, "<%d>%s\n", p, message)
	return err
}

// priority is syslog's priority for a level.
func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}

// oneLine is a text with its attributes in the format of slog's TextHandler, which escapes
// what senders have chosen.
func oneLine(text string, attrs []slog.Attr) string {
	text = printable.Of(text)
	var b bytes.Buffer
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.LevelKey || a.Key == slog.MessageKey {
			return slog.Attr{}
		}
		return a
	}})
	r := slog.NewRecord(time.Time{}, slog.LevelInfo, "", 0)
	r.AddAttrs(attrs...)
	h.Handle(context.Background(), r) // a Buffer takes everything
	return strings.TrimSpace(text + " " + b.String())
}

// fieldName is the journal's name for an attribute.
func fieldName(key string) string {
	return "SLUICE_" + strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z':
			return c - 'a' + 'A'
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			return c
		}
		return '_'
	}, key)
}

// fieldValue is the value as it may be shown: `journalctl -o verbose` shows it.
func fieldValue(v slog.Value) string { return printable.Lines(textOf(v)) }

func textOf(v slog.Value) string {
	v = v.Resolve()
	if v.Kind() == slog.KindTime {
		return v.Time().Format(time.RFC3339Nano)
	}
	if m, ok := v.Any().(encoding.TextMarshaler); ok && v.Kind() == slog.KindAny {
		if text, err := m.MarshalText(); err == nil {
			return string(text)
		}
	}
	return v.String()
}
