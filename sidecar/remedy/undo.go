package remedy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sluice/sidecar/action"
	"sluice/sidecar/login"
	"sluice/sidecar/printable"
	"sluice/sidecar/quarantine"
	"sluice/sidecar/script"
)

// An undoer takes back actions of one verb. undo looks first whether the world is still as the
// action has left it, and returns an action.ErrChanged that says what is not; what it has done
// it says in one line. It may meet an action without an end: then nobody knows how far that came.
type undoer struct {
	undo  func(*Host, context.Context, action.Action) (did string, err error)
	alone bool // only by its own number, and not with the rest of a clean
}

// undoers are what takes back actions, by their verbs.
func undoers() map[action.Verb]undoer {
	return map[action.Verb]undoer{
		VerbStop:              {undo: (*Host).undoStop},
		quarantine.Quarantine: {undo: (*Host).undoQueue},
		quarantine.Restore:    {undo: (*Host).undoQueue},
		quarantine.Freeze:     {undo: (*Host).undoQueue},
		quarantine.Thaw:       {undo: (*Host).undoQueue},
		VerbRelease:           {undo: (*Host).undoStop}, // of the author, in place of its domain
		script.Disabled:       {undo: (*Host).undoScript, alone: true},
		login.SuspendVerb:     {undo: (*Host).undoLogin},
		login.ResumeVerb:      {undo: (*Host).undoLogin},
	}
}

// Verbs of actions that no other package has.
const (
	VerbClean   action.Verb = "clean" // is made of others
	verbUndo    action.Verb = "undo"
	VerbStop    action.Verb = "stop"
	VerbRelease action.Verb = "release" // defers and failures of the author count no more against its domain
	VerbReset   action.Verb = "reset"   // the domain starts at zero
)

// Undoable reports whether there is something that takes back actions of a verb.
func Undoable(verb action.Verb) bool {
	_, can := undoers()[verb]
	return can || verb == VerbClean
}

// Standings are what undo can still do, by the record alone: what else has changed it finds itself.
type Standings struct {
	all     []action.Action
	removed map[string]int
}

// StandingsOf finds them out of all actions on record.
func StandingsOf(all []action.Action) (Standings, error) {
	removed, err := quarantine.Removed(all)
	return Standings{all, removed}, err
}

// Of reports whether undo can take back something of an action that was not taken back, and says
// what it cannot, if that was removed for good.
func (s Standings) Of(a *action.Action) (can bool, lost string, err error) {
	var gone quarantine.Removals
	parts := []action.Action{*a}
	if a.Verb == VerbClean {
		parts = slices.DeleteFunc(slices.Clone(s.all), func(p action.Action) bool { return p.Part != a.Number })
		can = len(parts) == 0 // nobody knows how far it came
	}
	for i := range parts {
		p := &parts[i]
		if _, is := undoers()[p.Verb]; is && action.UndoneBy(s.all, p.Number) == 0 {
			all, err := gone.Add(p, s.removed)
			if err != nil {
				return false, "", err
			}
			can = can || !all
		}
	}
	if gone.N > 0 {
		lost = fmt.Sprintf("of %s %s", printable.Count(int64(gone.Of), "message", "messages"), gone)
	}
	return can, lost, nil
}

// A No is an error for a negative result, rather than for a failure.
type No struct{ error }

// Undone is what was taken back, of one action or of all of a clean.
type Undone struct {
	Undone []UndonePart `json:"undone"`
}

// An UndonePart is one action that was to be taken back.
type UndonePart struct {
	Action int         `json:"action"`
	Verb   action.Verb `json:"verb"`
	Whom   string      `json:"whom"`
	Text   string      `json:"text,omitempty"`   // what was done
	Failed string      `json:"failed,omitempty"` // why it stays
	Left   string      `json:"left,omitempty"`   // the command that takes it back alone
}

// BeginClean keeps others from cleaning up after the same author or incident, and from taking that
// back, until end is called.
func BeginClean(record *action.Log, a *action.Action) (end func(), err error) {
	if end, err = record.Begin(a.Cases()...); errors.Is(err, action.ErrBusy) {
		err = fmt.Errorf("another clean of it, or the undo of one, is under way: wait for its end, and type this again: %w", err)
	}
	return end, err
}

// Undo takes back an action, with its parts if it has some.
func (h *Host) Undo(ctx context.Context, number int, why string) (u Undone, err error) {
	record, err := action.Open(h.Record)
	if err != nil {
		return u, err
	}
	a, parts, err := record.Find(number)
	if err == nil && a.Verb == VerbClean { // which may go on just now, or be begun again meanwhile
		end, busy := BeginClean(record, &a)
		if busy != nil {
			return u, busy
		}
		defer end()
		a, parts, err = record.Find(number)
	}
	if err != nil {
		return u, err
	}
	all, err := record.Actions()
	if err != nil {
		return u, err
	}
	if by := action.UndoneBy(all, number); by > 0 {
		return u, No{fmt.Errorf("it was taken back already, by action %d", by)}
	}
	switch {
	case a.Verb == verbUndo:
		return u, errors.New("it has taken back another one, and is not taken back itself: do that again")
	case a.Verb == login.PasswordVerb:
		return u, passwordStays(a)
	case !Undoable(a.Verb):
		return u, fmt.Errorf("what %q has done cannot be taken back", a.Verb)
	}
	again := action.Action{Verb: verbUndo, Whom: a.Whom, Incident: a.Incident, Undoes: a.Number, Why: why}
	if a.Verb != VerbClean {
		part, err := h.undoOne(ctx, a, again)
		if err != nil {
			return u, err
		}
		return Undone{[]UndonePart{part}}, nil
	}
	_, err = h.Act(again, nil, func(number int) (any, error) {
		u, err = h.undoParts(ctx, all, parts, action.Action{Verb: verbUndo, Incident: a.Incident, Part: number, Why: why})
		return nil, err
	})
	return u, err
}

// errFinal says that nothing takes back an action of its verb.
var errFinal = errors.New("that cannot be taken back")

// undoParts takes back the parts of a clean, the last first. again is the action of each.
func (h *Host) undoParts(ctx context.Context, all, parts []action.Action, again action.Action) (u Undone, err error) {
	node, err := h.Node()
	if err != nil {
		return u, err
	}
	var stay []string
	for _, a := range slices.Backward(parts) {
		undoer, can := undoers()[a.Verb]
		switch {
		case action.UndoneBy(all, a.Number) > 0:
			continue
		case a.Verb == login.PasswordVerb && errors.Is(passwordStays(a), login.ErrUnchanged):
			continue
		case !can:
			failed := errFinal
			if a.Verb == login.PasswordVerb {
				failed = passwordStays(a)
			}
			u.Undone = append(u.Undone, UndonePart{Action: a.Number, Verb: a.Verb, Whom: a.Whom, Failed: failed.Error()})
			stay = append(stay, fmt.Sprint(a.Number))
			continue
		case undoer.alone:
			u.Undone = append(u.Undone, UndonePart{Action: a.Number, Verb: a.Verb, Whom: a.Whom, Left: UndoCommand(node, a.Number)})
			continue
		case ctx.Err() != nil:
			return u, ctx.Err()
		}
		again.Whom, again.Undoes = a.Whom, a.Number
		part, err := h.undoOne(ctx, a, again)
		if u.Undone = append(u.Undone, part); err != nil {
			stay = append(stay, fmt.Sprint(a.Number))
		}
	}
	if len(stay) > 0 {
		return u, No{fmt.Errorf("not all of it is taken back: %s stays as it is", strings.Join(stay, ", "))}
	}
	return u, nil
}

// undoOne takes back one action; again is the record of that.
func (h *Host) undoOne(ctx context.Context, a, again action.Action) (part UndonePart, err error) {
	part = UndonePart{Action: a.Number, Verb: a.Verb, Whom: a.Whom}
	_, err = h.Act(again, nil, func(int) (_ any, err error) {
		part.Text, err = undoers()[a.Verb].undo(h, ctx, a)
		return part, err
	})
	if err != nil {
		part.Failed = err.Error()
	}
	return part, err
}
