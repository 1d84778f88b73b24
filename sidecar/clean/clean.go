package clean

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
)

// A Case is what is to be cleaned up: the mail of an author, since a time.
type Case struct {
	Incident string         // of which it is the remedy, such as mx1-42; empty: of none
	Domain   string         // at whose expense was sent; empty: unknown
	Account  string         // that the author or the domain belongs to; empty: unknown
	Author   sidecar.Author // who has sent it
	Since    time.Time      // when the unusual sends began; zero: unknown
	All      bool           // also what was sent before that
	Number   int            // of the action that the actions of all steps are parts of
}

// A Step is one remedy. It looks at the world again in Do: between the plan and that is an
// operator who reads.
type Step interface {
	// Name is the word for the step in --only, such as "queue".
	Name() string
	// Plan says what Do would do, and changes nothing.
	Plan(context.Context, Case) (Plan, error)
	// Do does it, with a record of each action. What was done is returned with an error too. It
	// ends early when the context does, but not in the middle of an action.
	Do(context.Context, Case, Plan) (Done, error)
}

// A Plan is what a step would do.
type Plan struct {
	Lines   []Line `json:"lines"`             // empty: there is nothing to do
	Nothing string `json:"nothing,omitempty"` // why that is so
	Final   bool   `json:"final,omitempty"`   // it could not be taken back
	Values  any    `json:"-"`                 // the step's own
}

// A Line is a part of what would be done.
type Line struct {
	Text    string `json:"text"`
	Command string `json:"command"` // that would do the same, as it may be typed
}

// Done is what a step has done.
type Done struct {
	Text    string   `json:"text"`           // in one line
	Actions []int    `json:"actions"`        // their numbers in the record
	Left    []string `json:"left,omitempty"` // what is left for an operator, with the command if there is one

	Password string `json:"password,omitempty"` // a new one, to be shown once
}

// The names of the steps, in the order in which they are done: the mail stops first, and nobody
// is released before what is wrong has been put right.
const (
	Stop    = "stop"
	Login   = "login"
	Queue   = "queue"
	Script  = "script"
	Scan    = "scan"
	Release = "release"
)

var order = []string{Stop, Login, Queue, Script, Scan, Release}

// A Planned is a step with its plan.
type Planned struct {
	Step
	Plan Plan
	Err  error // why there is no plan
}

// Idle reports whether the step has nothing to do.
func (p *Planned) Idle() bool { return p.Err == nil && len(p.Plan.Lines) == 0 }

// Make plans steps: those that are named in only, or all if it is empty.
func Make(ctx context.Context, c Case, steps []Step, only []string) ([]Planned, error) {
	for _, name := range only {
		if !slices.Contains(order, name) {
			return nil, fmt.Errorf("%q is no step; there are %s", name, strings.Join(order, ", "))
		}
	}
	var all []Planned
	for _, name := range order {
		i := slices.IndexFunc(steps, func(s Step) bool { return s.Name() == name })
		if i < 0 || len(only) > 0 && !slices.Contains(only, name) {
			continue
		}
		p := Planned{Step: steps[i]}
		if p.Plan, p.Err = steps[i].Plan(ctx, c); ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if len(p.Plan.Lines) > 0 {
			p.Plan.Nothing = ""
		}
		all = append(all, p)
	}
	return all, nil
}

// Sure reports whether a plan may be carried out by who only presses Enter: it is proven who has
// sent, each step has a plan, and each can be taken back.
func Sure(c Case, all []Planned) bool {
	return c.Author.Proof == sidecar.Proven && !slices.ContainsFunc(all, func(p Planned) bool { return p.Err != nil || p.Plan.Final })
}

// ErrSkipped: the step was not done, for one before it failed or an operator said no.
var ErrSkipped = errors.New("left out")

// Run does the steps that have something to do, and tells what became of each. wanted is asked
// before each of them. A step that failed keeps nobody but release from its work: who is released
// before what is wrong was put right sends on.
func Run(ctx context.Context, c Case, all []Planned, wanted func(*Planned) bool, told func(*Planned, Done, error)) {
	var failed []string
	for i := range all {
		p := &all[i]
		switch {
		case p.Idle():
			continue
		case ctx.Err() != nil:
			told(p, Done{}, fmt.Errorf("%w: %w", ErrSkipped, ctx.Err()))
		case p.Name() == Release && len(failed) > 0:
			told(p, Done{}, fmt.Errorf("%w, for %s failed", ErrSkipped, strings.Join(failed, ", ")))
		case p.Err != nil:
			failed = append(failed, p.Name())
			told(p, Done{}, p.Err)
		case !wanted(p):
			told(p, Done{}, ErrSkipped)
		default:
			done, err := p.Do(ctx, c, p.Plan)
			if err != nil {
				failed = append(failed, p.Name())
			}
			told(p, done, err)
		}
	}
}
