package main

import (
	"context"
	"errors"
	"fmt"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/clean"
	"sluice/sidecar/login"
)

// A loginStep suspends the login of a mailbox.
type loginStep struct{ t *terminal }

// Name implements clean.Step.
func (s loginStep) Name() string { return clean.Login }

// Plan implements clean.Step. Where nothing can suspend logins that is no failure: the stop holds.
func (s loginStep) Plan(ctx context.Context, c clean.Case) (p clean.Plan, err error) {
	name, ok := login.OfAuthor(c.Author.Key)
	if !ok {
		return clean.Plan{Nothing: c.Author.Key + " logs in to no mailbox that could be suspended"}, nil
	}
	a, l, err := s.t.findLogin(name)
	if errors.Is(err, login.ErrNone) {
		return clean.Plan{Nothing: fmt.Sprintf("%v; have its owner change the password", err)}, nil
	}
	if err != nil {
		return p, err
	}
	change := login.NewChange(a, l, login.Suspended)
	needed, err := change.Needed(ctx)
	switch {
	case errors.Is(err, login.ErrAbsent):
		return clean.Plan{Nothing: err.Error()}, nil
	case err != nil:
		return p, err
	case !needed:
		return clean.Plan{Nothing: fmt.Sprintf("the login %s is suspended already (%s)", name, a.Name())}, nil
	}
	text := fmt.Sprintf("%s: suspend the login of %s", a.Name(), name)
	if l.Account != "" {
		text += fmt.Sprintf(" (account %s)", l.Account)
	}
	return clean.Plan{Lines: []clean.Line{{Text: text, Command: sidecar.Command("sluice login suspend", name)}}, Values: change}, nil
}

// Do implements clean.Step. Somebody else may have suspended the login since the plan.
func (s loginStep) Do(ctx context.Context, c clean.Case, p clean.Plan) (done clean.Done, err error) {
	change, _ := p.Values.(login.Change) // of Plan, or there is nothing to do
	needed, err := change.Needed(ctx)
	if err != nil || !needed {
		return clean.Done{Text: fmt.Sprintf("the login %s is suspended already", change.Login.Name)}, err
	}
	shown := shownLogin{}
	err = s.t.changeLogin(change, action.Action{Incident: c.Incident, Part: c.Number, Why: "sluice clean"}, &shown)
	if done.Text = fmt.Sprintf("the login %s is suspended (%s)", change.Login.Name, change.Name); shown.Action > 0 {
		done.Actions = []int{shown.Action}
	}
	if shown.Left != "" {
		done.Left = []string{shown.Left}
	}
	return done, err
}
