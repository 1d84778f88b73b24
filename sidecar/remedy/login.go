package remedy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/envelope"
	"sluice/sidecar/login"
	"sluice/sidecar/printable"
)

// ChangeLogin makes a change, with its record. The number is that of the action, 0 if it was not
// begun; left is what could not be done beside the change.
func (h *Host) ChangeLogin(ctx context.Context, change login.Change, a action.Action) (number int, left string, err error) {
	a.Verb, a.Whom = change.Verb(), change.Login.Name
	change, notHeld := change.WithHold(ctx)
	number, err = h.Act(a, change, func(int) (_ any, err error) {
		left, err = change.Do(ctx)
		return change.Outcome(ctx, err), err
	})
	if notHeld != "" {
		left = strings.TrimPrefix(left+"; "+notHeld, "; ")
	}
	return number, left, err
}

// A NewPassword is one that was set.
type NewPassword struct {
	Action   int    // its number; 0: it was not begun
	Password string // shown once, and kept nowhere; empty: none was set
	Left     string // what could not be done beside it
}

// NewPassword gives a login a new password, with a record of that, and not of the password. What
// was begun is brought to its end, whatever becomes of ctx. It cannot be taken back. A password
// that was set is returned with an error too.
func (h *Host) NewPassword(ctx context.Context, a login.Adapter, l login.Login, as action.Action) (p NewPassword, err error) {
	ctx = context.WithoutCancel(ctx)
	record := struct {
		Adapter string `json:"adapter"`
		login.Login
	}{a.Name(), l}
	as.Verb, as.Whom = login.PasswordVerb, l.Name
	p.Action, err = h.Act(as, record, func(int) (_ any, err error) {
		password, outcome := login.NewPassword(), passwordOutcome{}
		switch err = a.SetPassword(ctx, l, password); {
		case err == nil:
			p.Password, p.Left = password, login.EndSessions(ctx, a, l)
		case errors.Is(err, login.ErrRefused) || errors.Is(err, login.ErrNotSupported):
			outcome.Unchanged = true
		default:
			err = fmt.Errorf("%w; %w", err, unsureOfPassword(l.Name))
		}
		return outcome, err
	})
	return p, err
}

// A passwordOutcome is what is recorded of how the setting of a password ended. One that failed, as
// what does it did not answer in time, may have been set all the same.
type passwordOutcome struct {
	Unchanged bool `json:"unchanged,omitempty"` // after a failure: it is certain that none was set
}

// unsureOfPassword says that a password may have been set that nobody was shown.
func unsureOfPassword(name string) error {
	return fmt.Errorf("nobody knows whether the password of %s was set; one that is known is set by: %s", name, printable.Command("sluice login password", name))
}

// passwordStays is why a password that an action was to set is not taken back. It wraps
// login.ErrUnchanged if it is certain that none was set, and says so if nobody knows.
func passwordStays(a action.Action) error {
	if a.Did != nil && a.Did.Failed == "" {
		return errFinal
	}
	var outcome passwordOutcome
	if err := a.ReadDid(&outcome); err != nil {
		return err
	}
	if outcome.Unchanged {
		return fmt.Errorf("%w: the password of %s was not set", login.ErrUnchanged, a.Whom)
	}
	return fmt.Errorf("action %d did not come to its end: %w", a.Number, unsureOfPassword(a.Whom))
}

// undoLogin takes back that a login was suspended or resumed.
func (h *Host) undoLogin(ctx context.Context, a action.Action) (did string, err error) {
	all, err := h.Actions()
	if err != nil {
		return "", err
	}
	back, err := login.Host{Root: "/"}.Back(ctx, a, all)
	if errors.Is(err, login.ErrUnchanged) {
		return err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	left, err := back.Do(ctx)
	if did = fmt.Sprintf("the login %s is %s", back.Login.Name, back.To); left != "" {
		did += "; " + left
	}
	return did, err
}

// FindLogin finds the account of a login, and what can suspend it.
func (h *Host) FindLogin(ctx context.Context, name string) (a login.Adapter, l login.Login, err error) {
	l.Name = strings.TrimPrefix(name, sidecar.LoginPrefix)
	c, err := h.Config()
	if err != nil {
		return nil, l, err
	}
	if domain := envelope.DomainOf(l.Name); domain != "" {
		if l.Account, err = h.Account(domain); err != nil {
			return nil, l, err
		}
	}
	a, err = login.Host{Root: "/", Chosen: c.Clean.Adapter, Holds: c.Clean.HoldOutgoing}.Adapter(ctx)
	return a, l, err
}
