package clean

import (
	"context"
	"fmt"
	"os"

	"sluice/sidecar/action"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
	"sluice/sidecar/remedy"
)

// A stopStep stops the author on all nodes.
type stopStep struct{ host *remedy.Host }

// Name implements Step.
func (s stopStep) Name() string { return Stop }

// Plan implements Step.
func (s stopStep) Plan(ctx context.Context, c Case) (p Plan, err error) {
	all, running, err := s.host.Stops(ctx, c.Author.Key)
	if err != nil {
		return p, err
	}
	for _, st := range all {
		if lasting(st) {
			return Plan{Nothing: c.Author.Key + " is " + st.Origin() + " already"}, nil
		}
	}
	text := c.Author.Key + ", on all nodes"
	if !running {
		if !lockfile.StopFile(c.Author.Key) {
			return p, fmt.Errorf("%s can be stopped only while sluice runs: no file can have its name", c.Author.Key)
		}
		if path, err := s.host.StopFile(c.Author.Key); err == nil {
			if _, err = os.Lstat(path); err == nil {
				return Plan{Nothing: c.Author.Key + " is stopped already, by " + path}, nil
			}
		}
		text = c.Author.Key + ", by its file on this node, for sluice does not run; all nodes are told when it runs again"
	}
	return Plan{Lines: []Line{{Text: text, Command: printable.Command("sluice stop", c.Author.Key)}}}, nil
}

// lasting reports whether a stop refuses all of its author's mail until somebody ends it.
func lasting(st operator.StopStatus) bool {
	return st.State == "in force" && st.Until.IsZero() && st.Of == ""
}

// Do implements Step.
func (s stopStep) Do(ctx context.Context, c Case, _ Plan) (done Done, err error) {
	why := "sluice clean"
	if c.Incident != "" {
		why += " " + c.Incident
	}
	a := action.Action{Verb: remedy.VerbStop, Whom: c.Author.Key, Incident: c.Incident, Part: c.Number, Why: why}
	n, err := s.host.Act(a, remedy.Stopped{Scope: c.Author.Key}, func(int) (any, error) { return s.host.Stop(ctx, c.Author.Key, why) })
	if n > 0 {
		done.Actions = []int{n}
	}
	done.Text = c.Author.Key + " is stopped"
	return done, err
}
