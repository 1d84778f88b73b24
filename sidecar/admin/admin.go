package admin

import (
	"context"
	"errors"
	"time"

	"sluice/sidecar/attribution"
	"sluice/sidecar/history"
	"sluice/sidecar/incident"
	"sluice/sidecar/operator"
	"sluice/sidecar/senders"
	"sluice/sidecar/stop"
)

// A Backend carries out what operators ask; *engine.Engine is one. Errors that wrap
// typed.ErrNotFound say that nothing is known of the domain or scope.
type Backend interface {
	// Status returns that of one domain, mailbox or account, or of all for "".
	Status(ctx context.Context, now time.Time, scope string) (operator.Status, error)
	// WhoSends returns who sends of a scope, at most n of each domain; or for "" the n authors
	// that have tried most.
	WhoSends(now time.Time, scope string, n int) (senders.Who, error)
	// Learn adds how much the authors of domains usually send, and tells what was not known.
	Learn(now time.Time, all map[string]attribution.Hours) attribution.Learned
	// Lock locks a domain until an operator unlocks it, and warns if it may be a typo.
	Lock(ctx context.Context, now time.Time, domain, who string) (warning string, err error)
	// Unlock removes every lock of a domain and resets it.
	Unlock(ctx context.Context, now time.Time, domain, who string) error
	// StayStopped says which authors of a domain that was released stay stopped.
	StayStopped(now time.Time, domain string) string
	// Stop stops an author or an account, and warns of what that does not do.
	Stop(ctx context.Context, now time.Time, o stop.Request) (operator.StopStatus, string, error)
	// Start ends the stops of an author or account, and warns of what stays held.
	Start(ctx context.Context, now time.Time, scope, who string, release bool) (warning string, err error)
	// LeaveOut stops an author in place of a subject that is refused for defers and failures.
	LeaveOut(ctx context.Context, now time.Time, scope, subject, who string) (operator.StopStatus, error)
	// EndStop ends one stop by its mark, and warns likewise.
	EndStop(ctx context.Context, now time.Time, scope, mark, who string) (warning string, err error)
	// Stops lists the stops of one author or account, or of all for "", the last first.
	Stops(now time.Time, scope string) ([]operator.StopStatus, error)
	// Happened returns what has happened since a time to a scope, or to all for "".
	Happened(now, since time.Time, scope string) (operator.Past, error)
	// Incidents returns those of a number or domain, or all for "", the last first.
	Incidents(scope string) ([]incident.Incident, error)
	// Reset restarts the counts of a domain, an account or a mailbox at zero.
	Reset(ctx context.Context, now time.Time, scope, who string) error
	// Change sets, unsets or rolls back limits.
	Change(ctx context.Context, now time.Time, o history.Edit) (operator.Result, error)
	// History lists the changes of one scope, or of all for "", the last first.
	History(now time.Time, scope string) ([]history.Change, error)
	// Explain returns what is in force for a scope.
	Explain(now time.Time, scope string) (operator.Explanation, error)
	// Export lists what is set live, or with left what was set before store.url changed.
	Export(now time.Time, scope string, left bool) ([]history.Saved, error)
	// Import sets what was exported, all or nothing.
	Import(ctx context.Context, now time.Time, lines []history.Saved, who string, preview bool) (operator.Import, error)
}

// A ChangeRequest is a history.Edit as it is sent. The server adds who asks.
type ChangeRequest struct {
	Scope    string        `json:"scope,omitempty"`
	Set      []string      `json:"set,omitempty"`
	Unset    []string      `json:"unset,omitempty"`
	Rollback int64         `json:"rollback,omitempty"`
	For      time.Duration `json:"for,omitempty"` // nanoseconds
	Why      string        `json:"why,omitempty"`
	Sudo     string        `json:"sudo,omitempty"` // who became root to ask; believed only from root
	Preview  bool          `json:"preview,omitempty"`
}

// Lines are what is to be imported.
type Lines struct {
	Lines   []history.Saved `json:"lines"`
	Sudo    string          `json:"sudo,omitempty"` // as in ChangeRequest
	Preview bool            `json:"preview,omitempty"`
}

// A StopRequest is a stop.Request as it is sent, or what ends one. The server adds who asks.
type StopRequest struct {
	Scope   string        `json:"scope"`
	For     time.Duration `json:"for,omitempty"` // nanoseconds
	Why     string        `json:"why,omitempty"`
	Reject  bool          `json:"reject,omitempty"`
	Release bool          `json:"release,omitempty"` // of a start: also what is older than an hour
	Mark    string        `json:"mark,omitempty"`    // of a start: ends only this stop
	Of      string        `json:"of,omitempty"`      // of a stop: in place of this subject, as Backend.LeaveOut does
	Sudo    string        `json:"sudo,omitempty"`    // as in ChangeRequest
}

// A Stopped is the answer to a StopRequest.
type Stopped struct {
	operator.StopStatus
	Warning string `json:"warning"`
}

// A Version says which program runs.
type Version struct {
	Version string    `json:"version"`
	Started time.Time `json:"started,omitzero"` // of a running program
	PID     int       `json:"pid,omitzero"`
}

// These are the errors of a Client, beside typed.ErrNotFound and history.ErrNoEffect.
var (
	// ErrUnreachable says that no server listens on the socket.
	ErrUnreachable = errors.New("nobody answers")
	// ErrSilent says that a server listens on the socket, and does not answer.
	ErrSilent = errors.New("no answer")
	// ErrForbidden says that this user may not ask.
	ErrForbidden = errors.New("permission denied")
)

// These are the bodies of a question, of a refusal, and of the answer to a command.
type (
	question struct {
		Domain string `json:"domain,omitempty"`
		Scope  string `json:"scope,omitempty"`

		Channel string `json:"channel,omitempty"`
	}
	refusal struct {
		Error string `json:"error"`
	}
	done struct {
		Warning string `json:"warning"`
	}
)
