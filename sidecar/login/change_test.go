package login

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
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

// Outgoing mail is held with the login where that is wanted, and never otherwise; what somebody else
// holds stays so after undo. Outgoing mail is never suspended, which makes what is queued fail.
func TestOutgoingMailIsHeld(t *testing.T) {
	hosttest.NotShort(t)
	h, called := recordedCPanel(t)
	list := filepath.Join(h.Root, "etc/outgoing_mail_hold_users")
	if err := os.MkdirAll(filepath.Dir(list), 0o755); err != nil {
		t.Fatal(err)
	}
	c := &changes{T: t, Host: h}
	for _, x := range []struct {
		wanted               bool
		before, during, then string
	}{
		{false, "", "", ""},
		{true, "", "hacked@example.com\n", ""},
		{true, "bob\n", "bob\nhacked@example.com\n", "bob\n"},
		{true, "Hacked@example.com\n", "Hacked@example.com\n", "Hacked@example.com\n"},
		{false, "hacked@example.com\n", "hacked@example.com\n", "hacked@example.com\n"},
	} {
		if err := os.WriteFile(list, []byte(x.before), 0o644); err != nil {
			t.Fatal(err)
		}
		h.Holds = x.wanted
		change, left := NewChange(adapterOf(t, h), hacked, Suspended).WithHold(t.Context())
		done := c.do(change)
		if text, _ := os.ReadFile(list); left != "" || string(text) != x.during {
			t.Errorf("%+v: held are %q; %s", x, text, left)
		}
		if err := c.undo(done); err != nil {
			t.Errorf("%+v: undo: %v", x, err)
		}
		if text, _ := os.ReadFile(list); string(text) != x.then {
			t.Errorf("%+v: after undo %q are held", x, text)
		}
	}
	// A login that is resumed otherwise than by undo does not go on with its mail held, and no word of it.
	h.Holds = true
	for _, x := range []struct{ held, left string }{{"hacked@example.com\n", "uapi --user=bob Email release_outgoing email=hacked@example.com"}, {"", ""}} {
		if err := os.WriteFile(list, []byte(x.held), 0o644); err != nil {
			t.Fatal(err)
		}
		left, err := NewChange(adapterOf(t, h), hacked, Active).Do(t.Context())
		if text, _ := os.ReadFile(list); err != nil || string(text) != x.held || (left == "") != (x.left == "") || !strings.Contains(left, x.left) {
			t.Errorf("%+v: resumed by hand: %q is left, %q are held, %v", x, left, text, err)
		}
	}
	for _, call := range called() {
		if strings.Contains(call, "suspend_outgoing") {
			t.Errorf("it called %s", call)
		}
	}
	if err := errors.Join(os.Remove(list), os.Mkdir(list, 0o755)); err != nil {
		t.Fatal(err)
	}
	h.Holds = true
	if change, left := NewChange(adapterOf(t, h), hacked, Suspended).WithHold(t.Context()); change.Holds || !strings.Contains(left, "not held by the panel") {
		t.Errorf("where the list cannot be read: %+v, %q", change, left)
	}
}
