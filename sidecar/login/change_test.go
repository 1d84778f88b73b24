package login

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"sluice/sidecar/action"
	"sluice/sidecar/hosttest"
)

// changes is a host with the recorded cPanel, and a record of actions in memory.
type changes struct {
	*testing.T
	Host
	all []action.Action
}

func newChanges(t *testing.T) (*changes, Adapter) {
	t.Helper()
	hosttest.NotShort(t)
	h, _ := recordedCPanel(t)
	return &changes{T: t, Host: h}, adapterOf(t, h)
}

// do does a change that is needed, and returns its action.
func (c *changes) do(change Change) action.Action {
	c.Helper()
	needed, err := change.Needed(c.Context())
	if err == nil {
		_, err = change.Do(c.Context())
	}
	if err != nil || !needed {
		c.Fatalf("needed %v, %v", needed, err)
	}
	values, err := json.Marshal(change)
	if err != nil {
		c.Fatal(err)
	}
	c.all = append(c.all, action.Action{Number: len(c.all) + 1, Verb: change.Verb(), Values: values, Did: &action.Did{}})
	return c.all[len(c.all)-1]
}

// undo takes an action back as sluice undo does.
func (c *changes) undo(a action.Action) error {
	back, err := c.Back(c.Context(), a, c.all)
	if err == nil {
		_, err = back.Do(c.Context())
	}
	if err == nil {
		c.all = append(c.all, action.Action{Number: len(c.all) + 1, Verb: "undo", Undoes: a.Number, Did: &action.Did{}})
	}
	return err
}

func TestASuspensionIsTakenBack(t *testing.T) {
	c, a := newChanges(t)
	first := c.do(NewChange(a, hacked, Suspended))
	if err := c.undo(first); err != nil {
		t.Fatal(err)
	}
	wantState(t, a, hacked, Active)
	if err := c.undo(first); !errors.Is(err, action.ErrChanged) {
		t.Errorf("a second time: %v", err)
	}
}

// A halting adapter fails, before it does what it is asked to do or after that.
type halting struct {
	Adapter
	after bool
	blind bool // it cannot even tell a state
}

var errHalt = errors.New("halted")

func (h halting) Suspend(ctx context.Context, l Login) error {
	if h.after {
		return errors.Join(h.Adapter.Suspend(ctx, l), errHalt)
	}
	return errHalt
}

func (h halting) State(ctx context.Context, l Login) (State, error) {
	if h.blind {
		return "", errHalt
	}
	return h.Adapter.State(ctx, l)
}

// fail does a change that fails, and returns its action.
func (c *changes) fail(change Change) action.Action {
	c.Helper()
	_, err := change.Do(c.Context())
	if !errors.Is(err, errHalt) {
		c.Fatal(err)
	}
	values, err1 := json.Marshal(change)
	did, err2 := json.Marshal(change.Outcome(c.Context(), err))
	if err := errors.Join(err1, err2); err != nil {
		c.Fatal(err)
	}
	c.all = append(c.all, action.Action{Number: len(c.all) + 1, Verb: change.Verb(), Values: values, Did: &action.Did{Failed: err.Error(), Values: did}})
	return c.all[len(c.all)-1]
}

// What is suspended after a suspension that failed is only ours if that has come so far.
func TestASuspensionThatFailed(t *testing.T) {
	c, a := newChanges(t)
	failed := c.fail(NewChange(halting{Adapter: a}, hacked, Suspended))
	unknown := c.fail(NewChange(halting{Adapter: a, blind: true}, hacked, Suspended))
	begun := failed
	begun.Did = nil
	if err := a.Suspend(t.Context(), hacked); err != nil { // in the panel
		t.Fatal(err)
	}
	if err := c.undo(failed); !errors.Is(err, ErrUnchanged) {
		t.Errorf("%v", err)
	}
	for _, a := range []action.Action{unknown, begun} {
		if err := c.undo(a); err == nil || !strings.Contains(err.Error(), "nobody knows") || !strings.Contains(err.Error(), "sluice login resume hacked@example.com") {
			t.Errorf("%+v: %v", a, err)
		}
	}
	wantState(t, a, hacked, Suspended)
	if err := a.Resume(t.Context(), hacked); err != nil {
		t.Fatal(err)
	}
	if err := c.undo(c.fail(NewChange(halting{Adapter: a, after: true}, hacked, Suspended))); err != nil {
		t.Errorf("%v", err)
	}
	wantState(t, a, hacked, Active)
}

func TestAResumptionIsTakenBack(t *testing.T) {
	c, a := newChanges(t)
	first := c.do(NewChange(a, hacked, Suspended))
	second := c.do(NewChange(a, hacked, Active))
	if err := c.undo(second); err != nil {
		t.Fatal(err)
	}
	wantState(t, a, hacked, Suspended)
	if err := c.undo(first); err != nil { // what came after it was taken back
		t.Fatal(err)
	}
	wantState(t, a, hacked, Active)
}

func TestASuspensionThatIsSomebodyElsesByNow(t *testing.T) {
	c, a := newChanges(t)
	first := c.do(NewChange(a, hacked, Suspended))
	c.do(NewChange(a, hacked, Active))
	c.do(NewChange(a, hacked, Suspended))
	if err := c.undo(first); !errors.Is(err, action.ErrChanged) {
		t.Errorf("another action has suspended it since: %v", err)
	}
	wantState(t, a, hacked, Suspended)
}

func TestALoginThatSomebodyElseHasResumed(t *testing.T) {
	c, a := newChanges(t)
	first := c.do(NewChange(a, hacked, Suspended))
	if err := a.Resume(t.Context(), hacked); err != nil { // in the panel
		t.Fatal(err)
	}
	if err := c.undo(first); !errors.Is(err, action.ErrChanged) {
		t.Errorf("taken back: %v", err)
	}
}

func TestALoginThatWasSuspendedBeforeIsNotOurs(t *testing.T) {
	_, a := newChanges(t)
	if needed, err := NewChange(a, Login{"unpaid@example.com", "bob"}, Suspended).Needed(t.Context()); err != nil || needed {
		t.Errorf("needed %v, %v", needed, err)
	}
	if _, err := NewChange(a, Login{"nobody@example.com", "bob"}, Suspended).Needed(t.Context()); !errors.Is(err, ErrAbsent) {
		t.Errorf("a login that is not there: %v", err)
	}
}

// A suspension that was begun is not left half done by ^C, and says what stays.
func TestAnInterruptedSuspension(t *testing.T) {
	_, a := newChanges(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	left, err := NewChange(a, hacked, Suspended).Do(ctx)
	if err != nil || left == "" {
		t.Errorf("left %q, %v", left, err)
	}
	wantState(t, a, hacked, Suspended)
}
