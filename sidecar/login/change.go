package login

import (
	"context"
	"fmt"

	"sluice/sidecar/action"
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
	To State `json:"to"` // Suspended or Active

	adapter Adapter
}

// NewChange is the change that brings a login into a state.
func NewChange(a Adapter, l Login, to State) Change {
	return Change{Name: a.Name(), Login: l, To: to, adapter: a}
}

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
	if c.To == Active {
		return "", c.adapter.Resume(ctx, c.Login)
	}
	if err := c.adapter.Suspend(ctx, c.Login); err != nil {
		return "", err
	}
	return EndSessions(ctx, c.adapter, c.Login), nil
}

// EndSessions has an adapter end the sessions of a login, after something that matters more.
func EndSessions(ctx context.Context, a Adapter, l Login) (left string) {
	if err := a.Kick(ctx, l); err != nil {
		left = "sessions in which mail is read may go on: " + err.Error()
	}
	return left
}

// Back is the change that takes an action back, with the adapter of that. It looks first whether
// the login still is as the action left it, and whether no later one of all actions has changed
// it; otherwise the error wraps action.ErrChanged.
func (h Host) Back(ctx context.Context, undone action.Action, all []action.Action) (Change, error) {
	var done Change
	if err := undone.Read(&done); err != nil {
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
	adapter, err := h.Named(ctx, done.Name)
	if err != nil {
		return done, err
	}
	state, err := adapter.State(ctx, done.Login)
	if err == nil && state != done.To {
		err = fmt.Errorf("%w: the login %s is %s, and was left %s", action.ErrChanged, done.Login.Name, state, done.To)
	}
	back := NewChange(adapter, done.Login, Active)
	if done.To == Active {
		back.To = Suspended
	}
	return back, err
}
