package clean

import (
	"context"
	"errors"
	"fmt"

	"sluice/sidecar/action"
	"sluice/sidecar/login"
	"sluice/sidecar/printable"
	"sluice/sidecar/remedy"
)

// A loginStep suspends the login of a mailbox, or gives it a new password.
type loginStep struct {
	host     *remedy.Host
	password bool
}

// A loginPlan is the plan of a loginStep.
type loginPlan struct {
	adapter login.Adapter
	change  login.Change // that suspends it
	set     bool         // a new password instead
}

// Name implements Step.
func (s loginStep) Name() string { return Login }

// Plan implements Step. Where nothing can suspend logins that is no failure: the stop holds.
func (s loginStep) Plan(ctx context.Context, c Case) (p Plan, err error) {
	name, ok := login.OfAuthor(c.Author.Key)
	if !ok {
		return Plan{Nothing: c.Author.Key + " logs in to no mailbox that could be suspended"}, nil
	}
	a, l, err := s.host.FindLogin(ctx, name)
	if errors.Is(err, login.ErrNone) {
		return Plan{Nothing: fmt.Sprintf("%v; have its owner change the password", err)}, nil
	}
	if err != nil {
		return p, err
	}
	plan := loginPlan{adapter: a, change: login.NewChange(a, l, login.Suspended)}
	cannot := ""
	if s.password {
		if err := login.WithoutPasswords(a); err != nil {
			cannot = fmt.Sprintf(", for it can get no new password (%v)", err)
		}
		plan.set = cannot == ""
	}
	needed, err := plan.change.Needed(ctx)
	switch {
	case errors.Is(err, login.ErrAbsent):
		return Plan{Nothing: err.Error()}, nil
	case err != nil:
		return p, err
	case plan.set:
		text := fmt.Sprintf("%s: set a new password for %s, and show it once; it is not suspended", a.Name(), l.Name)
		return Plan{Final: true, Lines: []Line{{Text: text, Command: printable.Command("sluice login password", name)}}, Values: plan}, nil
	case !needed:
		return Plan{Nothing: fmt.Sprintf("the login %s is suspended already (%s)", name, a.Name())}, nil
	}
	text := fmt.Sprintf("%s: suspend the login of %s", a.Name(), name)
	if l.Account != "" {
		text += fmt.Sprintf(" (account %s)", l.Account)
	}
	return Plan{Lines: []Line{{Text: text + cannot, Command: printable.Command("sluice login suspend", name)}}, Values: plan}, nil
}

// Do implements Step. Somebody else may have suspended the login since the plan.
func (s loginStep) Do(ctx context.Context, c Case, p Plan) (done Done, err error) {
	plan, _ := p.Values.(loginPlan) // of Plan, or there is nothing to do
	as := action.Action{Incident: c.Incident, Part: c.Number, Why: "sluice clean"}
	if plan.set {
		done, err = s.newPassword(ctx, plan, as)
		if !errors.Is(err, login.ErrNotSupported) {
			return done, err
		}
		done.Left = []string{fmt.Sprintf("a new password, which %s cannot set", plan.adapter.Name())} // but suspend
	}
	change := plan.change
	needed, err := change.Needed(ctx)
	if err != nil || !needed {
		done.Text = fmt.Sprintf("the login %s is suspended already", change.Login.Name)
		return done, err
	}
	number, left, err := s.host.ChangeLogin(ctx, change, as)
	if done.Text = fmt.Sprintf("the login %s is suspended (%s)", change.Login.Name, change.Name); number > 0 {
		done.Actions = append(done.Actions, number)
	}
	if left != "" {
		done.Left = append(done.Left, left)
	}
	return done, err
}

// newPassword sets a new password, which ends the sessions in which mail is read.
func (s loginStep) newPassword(ctx context.Context, plan loginPlan, as action.Action) (done Done, err error) {
	set, err := s.host.NewPassword(ctx, plan.adapter, plan.change.Login, as)
	if set.Action > 0 {
		done.Actions = []int{set.Action}
	}
	if set.Left != "" {
		done.Left = []string{set.Left}
	}
	done.Text, done.Password = fmt.Sprintf("%s has a new password (%s)", plan.change.Login.Name, plan.adapter.Name()), set.Password
	return done, err
}
