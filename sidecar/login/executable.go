package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sluice/sidecar/printable"
)

// An executable is a program of the operator's, for a panel that Sluice does not know. It reads
// one JSON object, a question, and prints one, an answer.
type executable struct {
	root, path string // path begins with root; all between them is looked at
}

// A question is what an executable reads.
type question struct {
	Version int    `json:"version"`
	Verb    string `json:"verb"`
	Login
	Password string `json:"password,omitempty"`
}

// An answer is what an executable prints. It may print nothing where no state is asked for.
type answer struct {
	State State  `json:"state"`
	Text  string `json:"text"` // why it refuses
}

const maxAnswer = 64 << 10 // bytes

// Name implements Adapter.
func (e executable) Name() string { return filepath.Base(e.path) }

// check looks whether nobody but root can have put the program there.
func (e executable) check() error {
	info, err := os.Lstat(e.path)
	switch {
	case err != nil:
		return fmt.Errorf("adapter: %w", err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o100 == 0:
		return fmt.Errorf("adapter %s is not run: it is no regular file that can be executed (mode %v)", e.path, info.Mode())
	}
	if err := owned(e.root, e.path); err != nil {
		return fmt.Errorf("adapter %s is not run, for it could be somebody else's than root's: %w", e.path, err)
	}
	return nil
}

// call has the program do one verb.
func (e executable) call(ctx context.Context, verb string, l Login, password string) (a answer, err error) {
	if err = e.check(); err != nil {
		return a, err
	}
	text, err := json.Marshal(question{1, verb, l, password})
	if err != nil {
		return a, fmt.Errorf("adapter %s: %w", e.Name(), err)
	}
	r, err := program{path: e.path, input: append(text, '\n'), most: maxAnswer}.run(ctx)
	if err != nil {
		return a, fmt.Errorf("adapter %s, %s: %w", e.Name(), verb, err)
	}
	wrong := error(nil)
	if len(r.out) > 0 {
		wrong = json.Unmarshal(r.out, &a)
	}
	if a.Text == "" {
		a.Text = r.said
	}
	switch {
	case r.code == 1:
		return a, fmt.Errorf("adapter %s, %s: %w: %s", e.Name(), verb, ErrRefused, printable.Of(a.Text))
	case r.code == 3:
		return a, fmt.Errorf("adapter %s, %s: %w", e.Name(), verb, ErrNotSupported)
	case r.code != 0:
		return a, fmt.Errorf("adapter %s, %s: exit code %d: %s", e.Name(), verb, r.code, printable.Of(a.Text))
	case wrong != nil:
		return a, fmt.Errorf("adapter %s, %s: it printed no JSON object: %w", e.Name(), verb, wrong)
	}
	return a, nil
}

// State implements Adapter.
func (e executable) State(ctx context.Context, l Login) (State, error) {
	a, err := e.call(ctx, "state", l, "")
	switch {
	case err != nil:
		return "", err
	case a.State != Active && a.State != Suspended && a.State != Absent:
		return "", fmt.Errorf("adapter %s, state: it printed the state %q, which is not active, suspended or absent", e.Name(), a.State)
	}
	return a.State, nil
}

// Suspend implements Adapter.
func (e executable) Suspend(ctx context.Context, l Login) error {
	return e.change(ctx, "suspend-login", l, Suspended)
}

// Resume implements Adapter.
func (e executable) Resume(ctx context.Context, l Login) error {
	return e.change(ctx, "resume-login", l, Active)
}

func (e executable) change(ctx context.Context, verb string, l Login, want State) error {
	if _, err := e.call(ctx, verb, l, ""); err != nil {
		return err
	}
	return becomes(ctx, e, l, want)
}

// SetPassword implements Adapter.
func (e executable) SetPassword(ctx context.Context, l Login, password string) error {
	_, err := e.call(ctx, "set-password", l, password)
	return err
}

// Kick implements Adapter.
func (e executable) Kick(ctx context.Context, l Login) error {
	_, err := e.call(ctx, "kick", l, "")
	if errors.Is(err, ErrNotSupported) {
		return fmt.Errorf("%w: what is logged in stays so until it ends by itself", err)
	}
	return err
}
