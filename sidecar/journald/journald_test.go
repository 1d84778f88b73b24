package journald

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/event"
)

// What senders chose stays in its field, and the text is one line.
func TestJournalEntries(t *testing.T) {
	type sent struct {
		Message  string
		Priority journal.Priority
		Fields   map[string]string
	}
	var got []sent
	var stderr bytes.Buffer
	h := &handler{level: slog.LevelDebug, stderr: &stderr, send: func(m string, p journal.Priority, f map[string]string) error {
		got = append(got, sent{m, p, f})
		return errors.New("no journal")
	}}
	log := event.NewLog(slog.New(h))
	forged := "x@a.example\n<0>all is lost"
	log.Emit(event.Event{Kind: event.Refused, Attrs: event.Attrs("sender", forged, "identity.owners", []string{"a", "b c"})})
	log.Emit(event.Event{Kind: event.Tripped, Domain: "a.example", Attrs: event.Attrs("bad", "5/5 (100%)")})
	log.Emit(event.Event{Kind: event.StoreFailed, At: time.Now(), Err: errors.New("disk full")})
	slog.New(h).With("until", time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)).Info("two\nlines")
	name := func(fields ...string) map[string]string {
		m := map[string]string{"SYSLOG_IDENTIFIER": "sluice"}
		for i := 0; i < len(fields); i += 2 {
			m[fields[i]] = fields[i+1]
		}
		return m
	}
	want := []sent{
		{`refused sender="x@a.example\n<0>all is lost" identity.owners="[a b c]"`, journal.PriDebug,
			name("SLUICE_EVENT", "refused", "SLUICE_SENDER", forged, "SLUICE_IDENTITY_OWNERS", "[a b c]")},
		{`too many defers and failures, domain locked domain=a.example bad="5/5 (100%)"`, journal.PriWarning,
			name("SLUICE_EVENT", "trip", "SLUICE_DOMAIN", "a.example", "SLUICE_BAD", "5/5 (100%)")},
		{`store failed error="disk full"`, journal.PriErr, name("SLUICE_EVENT", "store-failed", "SLUICE_ERROR", "disk full")},
		{`two\u000alines until=2026-03-01T12:00:00.000Z`, journal.PriInfo, name("SLUICE_UNTIL", "2026-03-01T12:00:00Z")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var lines string
	for _, s := range want {
		lines += fmt.Sprintf("<%d>%s\n", s.Priority, s.Message)
	}
	if diff := cmp.Diff(lines, stderr.String()); diff != "" {
		t.Errorf("on stderr (-want +got)\n%s", diff)
	}
}
