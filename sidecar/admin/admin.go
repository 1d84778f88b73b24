// Package admin is the front for operators: HTTP with JSON on a unix socket,
// which the commands of cmd/sluice ask. The package has both ends of it.
//
//	GET  /status[?scope=S]    Status
//	POST /lock    {"domain"}   {"warning"}
//	POST /unlock  {"domain"}   {"warning"}
//	POST /reset   {"scope"}    {"warning"}
//	POST /change  Order       sidecar.Result
//	GET  /history[?scope=S]   []sidecar.Change
//	GET  /explain?scope=S     sidecar.Explanation
//	GET  /export[?scope=S&left=true]  []sidecar.SavedChange
//	POST /import  Lines       sidecar.Import
//	GET  /config              []sidecar.ConfigValue
//	GET  /version             Version
//
// Whoever asks is known by the credentials of the socket, never by what is
// sent. A refusal is {"error": "..."}: 400 a bad question, 403 who asks may
// not, 404 nothing is known of that domain, 409 it would change nothing, or
// the panel still stops that domain, 500 it
// could not be done.
package admin

import (
	"context"
	"errors"
	"time"

	"sluice/sidecar/history"
	"sluice/sidecar/operator"
)

// A Policy is what operators look at and command; *sidecar.Policy is one.
// Errors that wrap sidecar.ErrNotFound say that nothing is known of the domain
// or scope.
type Policy interface {
	// Status tells of one domain, mailbox or account, or of all for "".
	Status(ctx context.Context, now time.Time, scope string) (operator.Status, error)
	// Lock locks a domain until a hand unlocks it, and warns if it may be a typo.
	Lock(ctx context.Context, now time.Time, domain, who string) (warning string, err error)
	// Unlock removes every lock of a domain and resets it.
	Unlock(ctx context.Context, now time.Time, domain, who string) error
	// Reset restarts the counts of a domain, an account or a mailbox at zero.
	Reset(ctx context.Context, now time.Time, scope, who string) error
	// Change sets, unsets or rolls back thresholds.
	Change(ctx context.Context, now time.Time, o history.Edit) (operator.Result, error)
	// History lists the changes of one scope, or of all for "", the last first.
	History(now time.Time, scope string) ([]history.Change, error)
	// Explain tells what is in force for a scope.
	Explain(now time.Time, scope string) (operator.Explanation, error)
	// Export lists what is set live, or with left what was before store.url changed.
	Export(now time.Time, scope string, left bool) ([]history.Saved, error)
	// Import sets what was exported, all or nothing.
	Import(ctx context.Context, now time.Time, lines []history.Saved, who string, preview bool) (operator.Import, error)
}

// An Order is a sidecar.Order as it is sent. Whose it is the server knows.
type Order struct {
	Scope    string        `json:"scope,omitempty"`
	Set      []string      `json:"set,omitempty"`
	Unset    []string      `json:"unset,omitempty"`
	Rollback int64         `json:"rollback,omitempty"`
	For      time.Duration `json:"for,omitempty"` // nanoseconds
	Why      string        `json:"why,omitempty"`
	Sudo     string        `json:"sudo,omitempty"` // who became root to give it; believed of root
	Preview  bool          `json:"preview,omitempty"`
}

// Lines are what is to be imported.
type Lines struct {
	Lines   []history.Saved `json:"lines"`
	Sudo    string          `json:"sudo,omitempty"` // as in Order
	Preview bool            `json:"preview,omitempty"`
}

// A Version tells which program runs.
type Version struct {
	Version string    `json:"version"`
	Started time.Time `json:"started,omitzero"` // of a running one
	PID     int       `json:"pid,omitzero"`
}

// The errors of a Client, beside sidecar.ErrNotFound and sidecar.ErrNoEffect.
var (
	// ErrUnreachable: nobody answers on the socket.
	ErrUnreachable = errors.New("nobody answers")
	// ErrSilent: somebody listens on the socket, and does not answer.
	ErrSilent = errors.New("no answer")
	// ErrForbidden: this user may not ask.
	ErrForbidden = errors.New("permission denied")
)

// The bodies of a question and of a refusal.
type (
	question struct {
		Domain string `json:"domain,omitempty"`
		Scope  string `json:"scope,omitempty"`
	}
	refusal struct {
		Error string `json:"error"`
	}
	done struct {
		Warning string `json:"warning"`
	}
)
