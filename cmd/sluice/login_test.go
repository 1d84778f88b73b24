package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"sluice/sidecar/action"
	"sluice/sidecar/login"
)

// A oneState is a panel with logins of one state, and can spoil what comes after a password was set.
type oneState struct {
	state    login.State
	password string
	then     func()
	fails    error
}

func (p *oneState) Name() string { return "panel" }
func (p *oneState) State(context.Context, login.Login) (login.State, error) {
	return p.state, nil
}
func (p *oneState) Suspend(context.Context, login.Login) error { return p.fails }
func (p *oneState) Resume(context.Context, login.Login) error  { return p.fails }
func (p *oneState) Kick(context.Context, login.Login) error    { return nil }
func (p *oneState) SetPassword(_ context.Context, _ login.Login, password string) error {
	p.password = password
	p.then()
	return p.fails
}

// A password that was set is kept nowhere else: it is shown even where the end of that cannot be
// recorded.
func TestAPasswordThatCannotBeRecordedIsShown(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		n := &servedNode{dir: t.TempDir()}
		root, out := n.root(t), &strings.Builder{}
		root.stdout, root.stderr = newScreen(out), newScreen(io.Discard)
		p := &oneState{then: func() { writeFile(t, root.actions+"/actions", "full\n") }}
		c := loginPasswordCmd{loginArg: loginArg{jsonFlag: jsonFlag{JSON: asJSON}}}
		s := shownLogin{Login: hacked}
		err := c.set(root, p, &s)
		err = c.end(root, "password", s, err)
		if err == nil || !strings.Contains(err.Error(), "not on record") || !strings.Contains(out.String(), p.password) {
			t.Errorf("json %v: %v: %s", asJSON, err, out)
		}
		var shown shownLogin
		if asJSON && (json.Unmarshal([]byte(out.String()), &shown) != nil || !shown.Changed || shown.Password != p.password) {
			t.Errorf("%s", out)
		}
	}
}

func TestAPasswordThatWasNotSetIsNotShown(t *testing.T) {
	n := &servedNode{dir: t.TempDir()}
	root, out := n.root(t), &strings.Builder{}
	root.stdout = newScreen(out)
	s := shownLogin{Login: hacked}
	c := loginPasswordCmd{}
	err := c.end(root, "password", s, c.set(root, &oneState{then: func() {}, fails: login.ErrRefused}, &s))
	if exitCode(err) != exitNo || out.String() != "" || s.Password != "" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTheStateOfALoginThatIsNotThere(t *testing.T) {
	n := &servedNode{dir: t.TempDir()}
	root, out := n.root(t), &strings.Builder{}
	root.stdout = newScreen(out)
	for state, want := range map[login.State]int{login.Active: exitDone, login.Absent: exitNo} {
		c, s := loginStateCmd{}, shownLogin{Login: hacked, Adapter: "panel"}
		code := exitDone
		err := c.end(root, "state", s, c.show(root, &oneState{state: state}, &s))
		if err != nil {
			code = exitCode(err)
		}
		if code != want {
			t.Errorf("%s: exit %d: %v", state, code, err)
		}
	}
	if want := hacked + " is active (panel)\n"; out.String() != want {
		t.Error(out)
	}
}

// A login that was left active by a suspension that failed is somebody else's when it is suspended.
func TestAFailedSuspensionIsOnRecordWithItsState(t *testing.T) {
	n := &servedNode{dir: t.TempDir()}
	writeFile(t, n.dir+"/sluice.toml", clusterConfig(n.dir, "mx1.example", "redis://127.0.0.1:1"))
	refused := errors.New("refused")
	change := login.NewChange(&oneState{state: login.Active, fails: refused}, login.Login{Name: hacked}, login.Suspended)
	if _, _, err := n.root(t).host().ChangeLogin(t.Context(), change, action.Action{}); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	n.wantTyped(t, "", exitDone, "1 suspend-login "+hacked+": taken back: nothing was changed: the login "+hacked+" was left active", "undo", "mx1.example:1")
}
