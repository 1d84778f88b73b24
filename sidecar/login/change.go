package login

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sluice/sidecar/action"
	"sluice/sidecar/printable"
)

// The verbs of actions.
const (
	SuspendVerb  action.Verb = "suspend-login"
	ResumeVerb   action.Verb = "resume-login"
	PasswordVerb action.Verb = "set-password"
)

// A Change is what can be done to a login, and be taken back. It is also what is recorded of it.
type Change struct {
	Name string `json:"adapter"` // of the adapter
	Login
	To    State `json:"to"`              // Suspended or Active
	Holds bool  `json:"holds,omitempty"` // it holds outgoing mail too, or releases it

	adapter Adapter
}

// An Outcome is what is recorded of how a change ended: a change that failed may have been made
// all the same.
type Outcome struct {
	State State `json:"state,omitempty"` // of the login, after a failure; empty: not known
}

// ErrUnchanged: the change failed, and left the login as it was. There is nothing to take back.
var ErrUnchanged = errors.New("nothing was changed")

// NewChange is the change that brings a login into a state.
func NewChange(a Adapter, l Login, to State) Change {
	return Change{Name: a.Name(), Login: l, To: to, adapter: a}
}

// A holder is an adapter that can also hold the mail that a login sends.
type holder interface {
	// mayHold reports whether mail is to be held that is not held yet: what somebody else holds
	// is not to be released by undo.
	mayHold(ctx context.Context, l Login) (bool, error)
	hold(ctx context.Context, l Login, hold bool) error
	// released is how what the panel holds of a login is released; empty if it holds nothing.
	released(l Login) (by string)
}

// WithHold is the change with outgoing mail held, where the adapter is to hold it. left is why that
// cannot be done.
func (c Change) WithHold(ctx context.Context) (with Change, left string) {
	h, can := c.adapter.(holder)
	if !can || c.To != Suspended {
		return c, ""
	}
	may, err := h.mayHold(ctx, c.Login)
	if err != nil {
		return c, notHeld(err)
	}
	c.Holds = may
	return c, ""
}

func notHeld(err error) string { return "its outgoing mail is not held by the panel: " + err.Error() }

// Verb is by what it is recorded.
func (c Change) Verb() action.Verb {
	if c.To == Suspended {
		return SuspendVerb
	}
	return ResumeVerb
}

// Needed reports whether there is something to do. What is suspended already stays as it is, and
// is not to be recorded: whoever has suspended it, as for a bill that was not paid, is to resume it.
func (c Change) Needed(ctx context.Context) (bool, error) {
	state, err := c.adapter.State(ctx, c.Login)
	if err == nil && state == Absent {
		err = fmt.Errorf("%s (%s): %w", c.Login.Name, c.Name, ErrAbsent)
	}
	return state != c.To, err
}

// Do does it, and ends the sessions of a login that it suspends. left is what could not be done
// beside it. What was begun is brought to its end, also when ctx is done.
func (c Change) Do(ctx context.Context) (left string, err error) {
	ctx = context.WithoutCancel(ctx)
	h, can := c.adapter.(holder)
	if c.To == Active {
		switch err = c.adapter.Resume(ctx, c.Login); {
		case err != nil || !can:
		case c.Holds:
			err = h.hold(ctx, c.Login, false)
		default:
			if by := h.released(c.Login); by != "" {
				left = "its outgoing mail is held by the panel still: " + by
			}
		}
		return left, err
	}
	if err := c.adapter.Suspend(ctx, c.Login); err != nil {
		return "", err
	}
	if can && c.Holds {
		if err := h.hold(ctx, c.Login, true); err != nil {
			left = notHeld(err)
		}
	}
	if more := EndSessions(ctx, c.adapter, c.Login); more != "" {
		left = strings.TrimPrefix(left+"; "+more, "; ")
	}
	return left, nil
}

// Outcome is how the change ended, with the failure of Do.
func (c Change) Outcome(ctx context.Context, failure error) (o Outcome) {
	if failure != nil {
		o.State, _ = c.adapter.State(context.WithoutCancel(ctx), c.Login) // an error: not known
	}
	return o
}

// EndSessions has an adapter end the sessions of a login, after something that matters more.
func EndSessions(ctx context.Context, a Adapter, l Login) (left string) {
	if err := a.Kick(ctx, l); err != nil {
		left = "sessions in which mail is read may go on: " + err.Error()
	}
	return left
}

// Back is the change that takes an action back, with the adapter of that. It looks first whether
// the action has changed the login (otherwise the error wraps ErrUnchanged, or says that nobody
// knows), whether that still is as the action left it, and whether no later one of all actions
// has changed it; otherwise the error wraps action.ErrChanged.
func (h Host) Back(ctx context.Context, undone action.Action, all []action.Action) (Change, error) {
	var done Change
	if err := undone.Read(&done); err != nil {
		return done, err
	}
	if err := done.made(undone); err != nil {
		return done, err
	}
	for _, later := range all {
		var other Change
		if later.Number <= undone.Number || later.Verb != SuspendVerb && later.Verb != ResumeVerb || action.UndoneBy(all, later.Number) > 0 {
			continue
		}
		if err := later.Read(&other); err != nil {
			return done, err
		}
		if other.Login == done.Login && other.Name == done.Name {
			return done, fmt.Errorf("%w: action %d (%s) came after it", action.ErrChanged, later.Number, later.Verb)
		}
	}
	adapter, err := h.named(ctx, done.Name)
	if err != nil {
		return done, err
	}
	state, err := adapter.State(ctx, done.Login)
	if err == nil && state != done.To {
		err = fmt.Errorf("%w: the login %s is %s, and was left %s", action.ErrChanged, done.Login.Name, state, done.To)
	}
	back := NewChange(adapter, done.Login, Active)
	back.Holds = done.Holds
	if done.To == Active {
		back.To = Suspended
	}
	return back, err
}

// made is an error unless an action has made the change. Else undo would resume a login that
// somebody else has suspended, as for a bill that was not paid.
func (c Change) made(a action.Action) error {
	var outcome Outcome
	if err := a.ReadDid(&outcome); err != nil {
		return err
	}
	switch {
	case a.Did != nil && (a.Did.Failed == "" || outcome.State == c.To):
		return nil
	case outcome.State != "":
		return fmt.Errorf("%w: the login %s was left %s when action %d failed", ErrUnchanged, c.Login.Name, outcome.State, a.Number)
	}
	by := printable.Command("sluice login resume", c.Login.Name)
	if c.To == Active {
		by = printable.Command("sluice login suspend", c.Login.Name)
	}
	return fmt.Errorf("action %d did not come to its end, and nobody knows whether the login %s is %s by it or by somebody else; if it is to be taken back: %s",
		a.Number, c.Login.Name, c.To, by)
}
