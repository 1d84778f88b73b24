package remedy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"time"

	"sluice/sidecar/action"
	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/printable"
	"sluice/sidecar/script"
	"sluice/sidecar/senders"
	"sluice/sidecar/typed"
)

// A Host is the one that root acts on, as the files of it say that only root can write, and what
// a command has for it. All fields are required.
type Host struct {
	Record string       // directory of the record of actions
	Audit  *slog.Logger // is told of each action, too

	Config  func() (*config.Config, error)
	Node    func() (string, error)              // the name of this node
	Account func(domain string) (string, error) // that a domain belongs to; empty: none is known

	// Queue finds Exim's queue. What of it is held only a running sluice knows: held, nil if none
	// runs.
	Queue func(ctx context.Context, held func() map[string]int) (*Queue, error)

	Ask     func(what string, ask func(*admin.Client) error) error // asks the running sluice
	ReadLog func(*mainlog.History, mainlog.Reader) error           // reads a log, and shows how far it has come
	Say     func(text string)                                      // tells who has typed the command
}

// Ask asks the running sluice of a host, and returns its answer.
func Ask[T any](h *Host, what string, question func(*admin.Client) (T, error)) (answer T, err error) {
	err = h.Ask(what, func(a *admin.Client) (err error) {
		answer, err = question(a)
		return err
	})
	return answer, err
}

// Who asks the running sluice of an author; of one that it does not know there is nothing.
func (h *Host) Who(ctx context.Context, author string) (senders.Who, error) {
	who, err := Ask(h, "who", func(a *admin.Client) (senders.Who, error) { return a.WhoSends(ctx, author, script.Listed) })
	if errors.Is(err, typed.ErrNotFound) {
		return senders.Who{}, nil
	}
	return who, err
}

// Act does something to the world for an operator, with a record of it before and after. values
// are what the verb is about, and what do returns is what takes it back; both are of the verb's
// own type. Nothing is done where it cannot be recorded. The number is that of the action; 0 if
// it was not begun.
func (h *Host) Act(a action.Action, values any, do func(number int) (did any, err error)) (number int, err error) {
	record, err := action.Open(h.Record)
	if err != nil {
		return 0, err
	}
	a.At, a.By = time.Now(), operatorName()
	if number, err = record.Will(a, values); err != nil {
		return 0, err
	}
	a.Number = number
	h.Audit.Info("will "+string(a.Verb), auditAttrs(&a, nil)...)
	did, failure := do(number)
	if err = record.Did(time.Now(), number, did, failure); err != nil && failure == nil {
		failure = fmt.Errorf("it is done, but not on record: %w", err)
	}
	h.Audit.Info("did "+string(a.Verb), auditAttrs(&a, failure)...)
	return number, failure
}

// Actions are those on record.
func (h *Host) Actions() ([]action.Action, error) {
	record, err := action.Open(h.Record)
	if err != nil {
		return nil, err
	}
	return record.Actions()
}

// UndoCommand is the command that takes back an action, and no change.
func UndoCommand(node string, number int) string {
	return printable.Command("sluice undo", fmt.Sprintf("%s:%d", node, number))
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
