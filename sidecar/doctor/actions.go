package doctor

import (
	"sluice/sidecar/action"
	"sluice/sidecar/printable"
)

// checkActions looks whether the record of what was done as root is whole, and whether each action
// that was begun has ended.
func (d *doctor) checkActions() {
	record, err := action.Open(d.Actions)
	var all []action.Action
	if err == nil {
		all, err = record.Actions()
	}
	switch {
	case err != nil:
		d.wrong("actions", "Nobody but root may write there. Find out who did; sluice undo takes nothing back by it. Move it away to begin a new one.", "%v", err)
		return
	case len(all) == 0:
		return
	}
	open := 0
	for _, a := range all {
		if a.Did != nil || action.UndoneBy(all, a.Number) > 0 {
			continue
		}
		open++
		d.note("actions", "It goes on just now, or was broken off. sluice actions shows it; sluice undo looks how far it came, and takes that back.",
			"action %d (%s %s by %s at %s) has begun, and not ended", a.Number, a.Verb, printable.Of(a.Whom), printable.Of(a.By), printable.DateTime(a.At))
	}
	if open == 0 {
		d.ok("actions", "%s on record, each with its end", printable.Count(int64(len(all)), "action is", "actions are"))
	}
}
