package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"sluice/sidecar/action"
	"sluice/sidecar/printable"
	"sluice/sidecar/remedy"
)

type actionsCmd struct {
	Whom string `arg:"" predictor:"scope" optional:"" help:"Only what was done about this author, domain or incident."`
	Last int    `default:"50" placeholder:"N" help:"Only the last N (default: 50)."`
	jsonFlag
}

// Help is the long help.
func (actionsCmd) Help() string {
	return `What commands of sluice have done as root on this node: mail taken out of the queue,
logins suspended, scripts disabled. The last comes first; the steps of a clean have its
number under OF. The record is in a directory that only root can write to, and whatever was
altered there makes this command and undo refuse.
STATE is done, failed, undone by a later action, or "begun": then the machine or the command
was stopped before its end, and undo looks at how far it came.

Examples:
  sluice actions
  sluice actions hacked@example.com
  sluice actions --json | jq '.actions[] | select(.did == null)'` +
		jsonHelp(actionList{}, "values are those of the verb. state as in the table; undo is the command.")
}

// actionList is what actions prints with --json.
type actionList struct {
	Node    string        `json:"node"`
	Actions []shownAction `json:"actions"`
}

// A shownAction is an action with what became of it.
type shownAction struct {
	action.Action
	State string `json:"state"`
	Undo  string `json:"undo,omitempty"` // the command that takes it back, if there is one
}

func (c actionsCmd) Run(t *terminal) error {
	if c.Last < 1 {
		return fmt.Errorf("actions: --last is %d, it must be 1 at least", c.Last)
	}
	node, err := t.node()
	if err != nil {
		return fmt.Errorf("actions: %w", err)
	}
	all, err := t.host().Actions()
	if err != nil {
		return err
	}
	var wanted []action.Action
	for _, a := range slices.Backward(all) {
		if len(wanted) < c.Last && (c.Whom == "" || a.Whom == c.Whom || a.Incident == c.Whom) {
			wanted = append(wanted, a)
		}
	}
	l := actionList{Node: node}
	if l.Actions, err = showActions(all, wanted, node); err != nil {
		return fmt.Errorf("actions: %w", err)
	}
	if c.JSON {
		return printJSON(t.stdout, l)
	}
	l.print(t.stdout)
	return nil
}

// showActions finds what became of some of all actions.
func showActions(all, some []action.Action, node string) ([]shownAction, error) {
	standings, err := remedy.StandingsOf(all)
	if err != nil {
		return nil, err
	}
	shown := make([]shownAction, len(some))
	for i, a := range some {
		if shown[i], err = showAction(all, a, node, standings); err != nil {
			return nil, err
		}
	}
	return shown, nil
}

// showAction finds what became of an action.
func showAction(all []action.Action, a action.Action, node string, standings remedy.Standings) (shownAction, error) {
	s := shownAction{Action: a, State: "done"}
	switch by := action.UndoneBy(all, a.Number); {
	case by > 0:
		s.State = fmt.Sprintf("undone by %d", by)
		return s, nil
	case a.Did == nil:
		s.State = "begun"
	case a.Did.Failed != "":
		s.State = "failed: " + a.Did.Failed
	}
	can, lost, err := standings.Of(&a)
	if can {
		s.Undo = remedy.UndoCommand(node, a.Number)
	}
	switch {
	case lost != "" && can:
		s.State += "; " + lost + ": undo takes back only the rest"
	case lost != "":
		s.State += "; " + lost + ": nothing takes that back"
	}
	return s, err
}

func (l actionList) print(w io.Writer) {
	if len(l.Actions) == 0 {
		fmt.Fprintln(w, "nothing was done on this node")
		return
	}
	rows := [][]printable.Text{cells("NO", "OF", "WHEN", "WHO", "WHAT", "WHOM", "INCIDENT", "UNDO", "STATE")}
	for _, a := range l.Actions {
		of := "-"
		if a.Part > 0 {
			of = fmt.Sprint(a.Part)
		}
		what := string(a.Verb)
		if a.Undoes > 0 {
			what = fmt.Sprintf("%s %d", a.Verb, a.Undoes)
		}
		rows = append(rows, cells(a.Number, of, printable.DateTime(a.At), a.By, what, cmp.Or(a.Whom, "-"), cmp.Or(a.Incident, "-"),
			cmp.Or(a.Undo, "-"), a.State))
	}
	printTable(w, "rrlllllll", rows)
}
