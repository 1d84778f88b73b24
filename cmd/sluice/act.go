package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"sluice/sidecar/action"
)

// act does something to the world for an operator, with a record of it before and after. values
// are what the verb is about, and what do returns is what takes it back; both are of the verb's
// own type. Nothing is done where it cannot be recorded. The number is that of the action; 0 if
// it was not begun.
func (t *terminal) act(a action.Action, values any, do func(number int) (did any, err error)) (number int, err error) {
	record, err := action.Open(t.actions)
	if err != nil {
		return 0, err
	}
	a.At, a.By = time.Now(), operatorName()
	if number, err = record.Will(a, values); err != nil {
		return 0, err
	}
	a.Number = number
	t.audit.Info("will "+string(a.Verb), auditAttrs(&a, nil)...)
	did, failure := do(number)
	if err = record.Did(time.Now(), number, did, failure); err != nil && failure == nil {
		failure = fmt.Errorf("it is done, but not on record: %w", err)
	}
	t.audit.Info("did "+string(a.Verb), auditAttrs(&a, failure)...)
	return number, failure
}

// allActions are those on record.
func (t *terminal) allActions() ([]action.Action, error) {
	record, err := action.Open(t.actions)
	if err != nil {
		return nil, err
	}
	return record.Actions()
}

// auditAttrs are what the journal is told of an action.
func auditAttrs(a *action.Action, failure error) []any {
	attrs := []any{"action", a.Number, "by", a.By, "whom", a.Whom}
	for _, more := range []struct {
		key   string
		value int
	}{{"part", a.Part}, {"undoes", a.Undoes}} {
		if more.value > 0 {
			attrs = append(attrs, more.key, more.value)
		}
	}
	if a.Incident != "" {
		attrs = append(attrs, "incident", a.Incident)
	}
	if failure != nil {
		attrs = append(attrs, "err", failure)
	}
	return attrs
}

// newAudit tells the journal of actions, whatever stderr is; nobody if there is no journal.
func newAudit() *slog.Logger {
	if !journal.Enabled() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(&journalHandler{level: slog.LevelInfo, send: journal.Send, stderr: io.Discard})
}

// operatorName is who types: the login before sudo, or else the one of the session, which the
// kernel keeps (/proc/self/loginuid), or else the user of this program.
func operatorName() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	const none = "4294967295" // of what no login has begun, as a timer
	if b, err := os.ReadFile("/proc/self/loginuid"); err == nil {
		if uid := strings.TrimSpace(string(b)); uid != none {
			if u, err := user.LookupId(uid); err == nil {
				return u.Username
			}
		}
	}
	uid := fmt.Sprint(os.Geteuid())
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}
