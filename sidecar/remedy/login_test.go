package remedy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sluice/sidecar/action"
	"sluice/sidecar/login"
)

// A panel is one that sets passwords, or fails to.
type panel struct {
	login.Adapter
	fails error
}

func (panel) Name() string                                             { return "panel" }
func (p panel) SetPassword(context.Context, login.Login, string) error { return p.fails }
func (panel) Kick(context.Context, login.Login) error                  { return nil }
func (panel) State(context.Context, login.Login) (login.State, error)  { return login.Active, nil }

const stolen = "hacked@example.com"

// cleaned is a host on which a clean of one step was done.
func cleaned(t *testing.T, step func(h *Host, as action.Action) error) *Host {
	t.Helper()
	h := host(t)
	h.Node = func() (string, error) { return "mx1", nil }
	_, err := h.Act(action.Action{Verb: VerbClean, Whom: stolen}, nil, func(number int) (any, error) {
		return nil, step(h, action.Action{Part: number})
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A panel that did not answer in time may have set the password all the same: that is said when it
// fails, and by undo of it and of its clean, with what to type. Where it is certain that none was
// set, undo of the clean does not speak of it.
func TestAPasswordThatMayHaveBeenSetIsNamed(t *testing.T) {
	const command = "sluice login password " + stolen
	for _, c := range []struct {
		fails  error
		unsure bool
		parts  int // of the undone clean
		alone  string
	}{
		{errors.New("it did not end within 30s"), true, 1, command},
		{fmt.Errorf("cPanel's Email::passwd_pop: %w: too weak", login.ErrRefused), false, 0, "was not set"},
		{login.ErrNotSupported, false, 0, "was not set"},
		{nil, false, 1, errFinal.Error()},
	} {
		h := cleaned(t, func(h *Host, as action.Action) error {
			p, err := h.NewPassword(t.Context(), panel{fails: c.fails}, login.Login{Name: stolen}, as)
			if !errors.Is(err, c.fails) || (p.Password == "") != (c.fails != nil) || err != nil && strings.Contains(err.Error(), command) != c.unsure {
				t.Errorf("%v: %+v, %v", c.fails, p, err)
			}
			return nil
		})
		if _, err := h.Undo(t.Context(), 2, ""); err == nil || !strings.Contains(err.Error(), c.alone) {
			t.Errorf("%v: undo of it alone: %v", c.fails, err)
		}
		u, err := h.Undo(t.Context(), 1, "")
		if len(u.Undone) != c.parts || (err != nil) != (c.parts > 0) {
			t.Fatalf("%v: undo of its clean: %+v, %v", c.fails, u, err)
		}
		if c.parts > 0 && strings.Contains(u.Undone[0].Failed, command) != c.unsure {
			t.Errorf("%v: undo of its clean: %+v", c.fails, u)
		}
	}
}

// A command that was killed while a panel set a password has left no end on record.
func TestAPasswordWithoutAnEndOnRecord(t *testing.T) {
	h := cleaned(t, func(h *Host, as action.Action) error {
		record, err := action.Open(h.Record)
		if err != nil {
			return err
		}
		as.Verb, as.Whom = login.PasswordVerb, stolen
		_, err = record.Will(as, nil)
		return err
	})
	if u, err := h.Undo(t.Context(), 1, ""); err == nil || len(u.Undone) != 1 || !strings.Contains(u.Undone[0].Failed, "nobody knows whether") {
		t.Errorf("%+v, %v", u, err)
	}
}

// A suspension that failed is taken back only where it is known that it was made: else a login would
// be resumed that somebody else has suspended.
func TestAFailedSuspensionIsNotTakenBack(t *testing.T) {
	for state, want := range map[login.State]struct{ text, failed string }{
		login.Active: {text: "nothing was changed"},
		"":           {failed: "nobody knows whether"},
	} {
		h := cleaned(t, func(h *Host, as action.Action) error {
			as.Verb, as.Whom = login.SuspendVerb, stolen
			h.Act(as, login.NewChange(panel{}, login.Login{Name: stolen}, login.Suspended), func(int) (any, error) {
				return login.Outcome{State: state}, errors.New("timed out")
			})
			return nil
		})
		u, err := h.Undo(t.Context(), 1, "")
		if len(u.Undone) != 1 || (err != nil) != (want.failed != "") {
			t.Fatalf("left %q: %+v, %v", state, u, err)
		}
		if p := u.Undone[0]; !strings.Contains(p.Text, want.text) || !strings.Contains(p.Failed, want.failed) || (p.Failed == "") != (want.failed == "") {
			t.Errorf("left %q: %+v", state, p)
		}
	}
}
