package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/sidecar/action"
	"sluice/sidecar/admin"
	"sluice/sidecar/history"
	"sluice/sidecar/printable"
	"sluice/sidecar/remedy"
)

type undoCmd struct {
	Number string `arg:"" help:"Of the action, as sluice actions shows it: 57, or mx1:57. Of a change in sluice history: change:57."`
	Why    string `placeholder:"TEXT" help:"Kept on record."`
	jsonFlag
}

// Help is the long help.
func (undoCmd) Help() string {
	return `Takes back one action, or all steps of a clean, the last first; or one change of the
history, as rollback does. Everything is looked at again before: what is no longer as the
action has left it stays as it is, and is named. Files that a clean has disabled stay so;
they are given back one by one, each by its own number. A bare number that is both an
action's and a change's is refused, with both written out.

Actions are of one node, and are taken back there. Before the number stands the node's name,
as sluice actions prints it; a bare 57 is of this node. The exit code is 1 where anything
could not be taken back; files that a clean has disabled are named and do not count.

Examples:
  sluice undo mx1:57
  sluice undo change:12` + jsonHelp(remedy.Undone{}, "without failed it is taken back.")
}

func (c undoCmd) Run(t *terminal) error {
	number, change, err := c.find(t)
	switch {
	case err != nil:
		return fmt.Errorf("undo %s: %w", printable.Of(c.Number), err)
	case change:
		return rollbackCmd{Number: int64(number), Why: c.Why, jsonFlag: c.jsonFlag}.Run(t)
	}
	u, err := t.host().Undo(t.ctx, number, c.Why)
	if len(u.Undone) > 0 && c.JSON {
		err = errors.Join(printJSON(t.stdout, u), err)
	} else if !c.JSON {
		printUndone(t, u)
	}
	if err != nil {
		return fmt.Errorf("undo %s: %w", printable.Of(c.Number), err)
	}
	return nil
}

// find returns the number that was typed, and whether it is that of a change.
func (c undoCmd) find(t *terminal) (number int, change bool, err error) {
	prefix, digits, found := strings.Cut(c.Number, ":")
	if !found {
		prefix, digits = "", c.Number
	}
	if number, err = strconv.Atoi(digits); err != nil || number < 1 {
		return 0, false, errors.New("an action is named by its number, such as 57 or mx1:57, and a change by change:12; see sluice actions and sluice history")
	}
	if prefix == "change" {
		return number, true, nil
	}
	node, err := t.node()
	switch {
	case err != nil:
		return 0, false, err
	case prefix == node:
		return number, false, nil
	case prefix != "":
		return 0, false, fmt.Errorf("that is an action of another node, and this one is %s: type it there", node)
	}
	return number, false, t.onlyAction(number, node)
}

// onlyAction refuses a number that is a change's too, or only.
func (t *terminal) onlyAction(number int, node string) error {
	changes, err := ask(t, "find out whether it is a change too", func(a *admin.Client) ([]history.Change, error) { return a.History(t.ctx, "") })
	if errors.Is(err, admin.ErrUnreachable) {
		return nil // then no change can be taken back anyway
	}
	if err != nil {
		return err
	}
	i := slices.IndexFunc(changes, func(c history.Change) bool { return c.Number == int64(number) })
	if i < 0 {
		return nil
	}
	change := fmt.Sprintf("change %d (%s: %s) is taken back by: sluice undo change:%d", number, printable.Of(changes[i].Scope), changes[i].Describe(), number)
	record, err := action.Open(t.actions)
	if err != nil {
		return err
	}
	a, _, err := record.Find(number)
	if errors.Is(err, action.ErrNotFound) {
		return no{fmt.Errorf("there is no such action; %s", change)}
	}
	if err != nil {
		return err
	}
	return no{fmt.Errorf("there are two of this number, and which is meant?\nAction %d (%s %s) is taken back by: %s\n%s",
		number, a.Verb, printable.Of(a.Whom), remedy.UndoCommand(node, number), strings.ToUpper(change[:1])+change[1:])}
}

func printUndone(t *terminal, u remedy.Undone) {
	for _, p := range u.Undone {
		what := strings.TrimSpace(fmt.Sprintf("%d %s %s", p.Action, p.Verb, printable.Of(p.Whom)))
		switch {
		case p.Left != "":
			fmt.Fprintf(t.stdout, "%s: files stay as they are; to take it back: %s\n", what, p.Left)
		case p.Failed != "":
			fmt.Fprintf(t.stdout, "%s: stays as it is: %s\n", what, printable.Lines(p.Failed))
		default:
			fmt.Fprintf(t.stdout, "%s: taken back: %s\n", what, printable.Of(p.Text))
		}
	}
}
