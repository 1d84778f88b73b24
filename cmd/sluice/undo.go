package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/admin"
	"sluice/sidecar/history"
	"sluice/sidecar/login"
	"sluice/sidecar/quarantine"
	"sluice/sidecar/script"
)

// An undoer takes back actions of one verb. undo looks first whether the world is still as the
// action has left it, and returns an action.ErrChanged that says what is not; what it has done
// it says in one line. It may meet an action without an end: then nobody knows how far that came.
type undoer struct {
	undo  func(*terminal, action.Action) (did string, err error)
	alone bool // only by its own number, and not with the rest of a clean
}

// undoers are what takes back actions, by their verbs.
func undoers() map[action.Verb]undoer {
	return map[action.Verb]undoer{
		verbStop:              {undo: (*terminal).undoStop},
		quarantine.Quarantine: {undo: (*terminal).undoQueue},
		quarantine.Restore:    {undo: (*terminal).undoQueue},
		quarantine.Freeze:     {undo: (*terminal).undoQueue},
		quarantine.Thaw:       {undo: (*terminal).undoQueue},
		verbRelease:           {undo: (*terminal).undoStop}, // of the author, in place of its domain
		script.Disabled:       {undo: (*terminal).undoScript, alone: true},
		login.SuspendVerb:     {undo: (*terminal).undoLogin},
		login.ResumeVerb:      {undo: (*terminal).undoLogin},
	}
}

// Verbs of actions that are made of others.
const (
	verbClean action.Verb = "clean"
	verbUndo  action.Verb = "undo"
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
  sluice undo change:12` + jsonHelp(undone{}, "without failed it is taken back.")
}

// undone is what undo prints with --json.
type undone struct {
	Undone []undonePart `json:"undone"`
}

// An undonePart is one action that was to be taken back.
type undonePart struct {
	Action int         `json:"action"`
	Verb   action.Verb `json:"verb"`
	Whom   string      `json:"whom"`
	Text   string      `json:"text,omitempty"`   // what was done
	Failed string      `json:"failed,omitempty"` // why it stays
	Left   string      `json:"left,omitempty"`   // the command that takes it back alone
}

func (c undoCmd) Run(t *terminal) error {
	number, change, err := c.find(t)
	switch {
	case err != nil:
		return fmt.Errorf("undo %s: %w", sidecar.Printable(c.Number), err)
	case change:
		return rollbackCmd{Number: int64(number), Why: c.Why, jsonFlag: c.jsonFlag}.Run(t)
	}
	u, err := t.undo(number, c.Why)
	if len(u.Undone) > 0 && c.JSON {
		err = errors.Join(printJSON(t.stdout, u), err)
	} else if !c.JSON {
		u.print(t)
	}
	if err != nil {
		return fmt.Errorf("undo %s: %w", sidecar.Printable(c.Number), err)
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
	change := fmt.Sprintf("change %d (%s: %s) is taken back by: sluice undo change:%d", number, sidecar.Printable(changes[i].Scope), changes[i].Describe(), number)
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
		number, a.Verb, sidecar.Printable(a.Whom), undoCommand(node, number), strings.ToUpper(change[:1])+change[1:])}
}

// undoCommand is the command that takes back an action, and no change.
func undoCommand(node string, number int) string {
	return sidecar.Command("sluice undo", fmt.Sprintf("%s:%d", node, number))
}

// node is the name of this node.
func (t *terminal) node() (string, error) {
	c, err := t.loadConfig()
	if err != nil {
		return "", err
	}
	return nodeName(c)
}

// undo takes back an action, with its parts if it has some.
func (t *terminal) undo(number int, why string) (u undone, err error) {
	record, err := action.Open(t.actions)
	if err != nil {
		return u, err
	}
	a, parts, err := record.Find(number)
	if err != nil {
		return u, err
	}
	all, err := record.Actions()
	if err != nil {
		return u, err
	}
	if by := action.UndoneBy(all, number); by > 0 {
		return u, no{fmt.Errorf("it was taken back already, by action %d", by)}
	}
	switch _, known := undoers()[a.Verb]; {
	case a.Verb == verbUndo:
		return u, errors.New("it has taken back another one, and is not taken back itself: do that again")
	case a.Verb != verbClean && !known:
		return u, fmt.Errorf("what %q has done cannot be taken back", a.Verb)
	}
	again := action.Action{Verb: verbUndo, Whom: a.Whom, Incident: a.Incident, Undoes: a.Number, Why: why}
	if a.Verb != verbClean {
		part, err := t.undoOne(a, again)
		if err != nil {
			return u, err
		}
		return undone{[]undonePart{part}}, nil
	}
	_, err = t.act(again, nil, func(number int) (any, error) {
		u, err = t.undoParts(all, parts, action.Action{Verb: verbUndo, Incident: a.Incident, Part: number, Why: why})
		return nil, err
	})
	return u, err
}

// errFinal says that nothing takes back an action of its verb.
var errFinal = errors.New("that cannot be taken back")

// undoParts takes back the parts of a clean, the last first. again is the action of each.
func (t *terminal) undoParts(all, parts []action.Action, again action.Action) (u undone, err error) {
	node, err := t.node()
	if err != nil {
		return u, err
	}
	var stay []string
	for _, a := range slices.Backward(parts) {
		undoer, can := undoers()[a.Verb]
		switch {
		case action.UndoneBy(all, a.Number) > 0:
			continue
		case !can:
			u.Undone = append(u.Undone, undonePart{Action: a.Number, Verb: a.Verb, Whom: a.Whom, Failed: errFinal.Error()})
			stay = append(stay, fmt.Sprint(a.Number))
			continue
		case undoer.alone:
			u.Undone = append(u.Undone, undonePart{Action: a.Number, Verb: a.Verb, Whom: a.Whom, Left: undoCommand(node, a.Number)})
			continue
		case t.ctx.Err() != nil:
			return u, t.ctx.Err()
		}
		again.Whom, again.Undoes = a.Whom, a.Number
		part, err := t.undoOne(a, again)
		if u.Undone = append(u.Undone, part); err != nil {
			stay = append(stay, fmt.Sprint(a.Number))
		}
	}
	if len(stay) > 0 {
		return u, no{fmt.Errorf("not all of it is taken back: %s stays as it is", strings.Join(stay, ", "))}
	}
	return u, nil
}

// undoOne takes back one action; again is the record of that.
func (t *terminal) undoOne(a, again action.Action) (part undonePart, err error) {
	part = undonePart{Action: a.Number, Verb: a.Verb, Whom: a.Whom}
	_, err = t.act(again, nil, func(int) (_ any, err error) {
		part.Text, err = undoers()[a.Verb].undo(t, a)
		return part, err
	})
	if err != nil {
		part.Failed = err.Error()
	}
	return part, err
}

func (u undone) print(t *terminal) {
	for _, p := range u.Undone {
		what := fmt.Sprintf("%d %s %s", p.Action, p.Verb, sidecar.Printable(p.Whom))
		switch {
		case p.Left != "":
			fmt.Fprintf(t.stdout, "%s: files stay as they are; to take it back: %s\n", what, p.Left)
		case p.Failed != "":
			fmt.Fprintf(t.stdout, "%s: stays as it is: %s\n", what, sidecar.PrintableLines(p.Failed))
		default:
			fmt.Fprintf(t.stdout, "%s: taken back: %s\n", what, sidecar.Printable(p.Text))
		}
	}
}
