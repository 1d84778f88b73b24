package quarantine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
)

// What is done to the queue, as actions are recorded.
const (
	Quarantine action.Verb = "queue-quarantine"
	Restore    action.Verb = "queue-restore"
	Remove     action.Verb = "queue-remove"
	Flush      action.Verb = "queue-flush"
	Freeze     action.Verb = "queue-freeze"
	Thaw       action.Verb = "queue-thaw"
	Mend       action.Verb = "queue-mend" // what an interrupted move has left in two queues
)

// Values are what an action of these verbs is about to do; what it did is a Result.
type Values struct {
	Messages []Place `json:"messages"`
}

// Do does what a verb says.
func (q Queues) Do(ctx context.Context, now time.Time, verb action.Verb, messages []Place) (Result, error) {
	switch verb {
	case Quarantine:
		return q.Quarantine(ctx, messages)
	case Restore:
		return q.Restore(ctx, now, messages)
	case Remove:
		return q.Remove(ctx, messages)
	case Flush:
		return q.Deliver(ctx, messages)
	case Freeze:
		return q.Freeze(ctx, messages)
	case Thaw:
		return q.Thaw(ctx, messages)
	case Mend:
		return q.Mend(ctx, messages)
	}
	return Result{Left: idsOf(messages)}, fmt.Errorf("%s is nothing that is done to Exim's queue", verb)
}

// opposites are what takes a verb back.
var opposites = map[action.Verb]action.Verb{Quarantine: Restore, Restore: Quarantine, Freeze: Thaw, Thaw: Freeze}

// A Back is what takes an action back.
type Back struct {
	Verb     action.Verb
	Messages []Place // that are as the action left them
	Changed  int     // how many are not: they were delivered, removed, or changed by others
	Kept     int     // how many stay, since later actions have done the same to them again
	By       []int   // those actions
}

// Undo returns what takes an action back, by all actions on record. The error is an ErrChanged if
// no message is as the action left it, or that nothing takes the action back.
func (q Queues) Undo(a *action.Action, all []action.Action) (b Back, err error) {
	verb, is := opposites[a.Verb]
	if !is {
		return b, fmt.Errorf("action %d (%s): nothing takes that back", a.Number, a.Verb)
	}
	b.Verb = verb
	acted, err := Acted(a)
	if err != nil {
		return b, err
	}
	again, err := later(a, all)
	if err != nil {
		return b, err
	}
	for _, p := range acted {
		by, is := again[p.ID]
		switch {
		case !q.isAfter(a.Verb, p):
			b.Changed++
		case !is:
			b.Messages = append(b.Messages, p)
		default:
			if b.Kept++; !slices.Contains(b.By, by) {
				b.By = append(b.By, by)
			}
		}
	}
	if len(b.Messages) == 0 {
		err = fmt.Errorf("%w: none of %s is as action %d (%s) has left it; %s",
			action.ErrChanged, sidecar.Count(int64(len(acted)), "message", "messages"), a.Number, a.Verb, cmp.Or(b.Rest(), "it was done to none"))
	}
	return b, err
}

// Rest says what is not taken back, and why; empty if all is.
func (b Back) Rest() string {
	var rest []string
	if b.Changed > 0 {
		rest = append(rest, fmt.Sprintf("%d were delivered, removed or changed by others since", b.Changed))
	}
	if b.Kept > 0 {
		slices.Sort(b.By)
		rest = append(rest, fmt.Sprintf("%d stay, for the same was done to them again, by action %s", b.Kept, strings.Trim(fmt.Sprint(b.By), "[]")))
	}
	return strings.Join(rest, "; ")
}

// later are the messages to which the same was done again after an action, and is not taken back,
// with the number of the last action that did.
func later(a *action.Action, all []action.Action) (map[string]int, error) {
	again := map[string]int{}
	for i := range all {
		if all[i].Number <= a.Number || all[i].Verb != a.Verb || action.UndoneBy(all, all[i].Number) > 0 {
			continue
		}
		acted, err := Acted(&all[i])
		if err != nil {
			return nil, err
		}
		for _, p := range acted {
			again[p.ID] = all[i].Number
		}
	}
	return again, nil
}

// isAfter reports whether a message is as a verb has left it.
func (q Queues) isAfter(verb action.Verb, p Place) bool {
	if verb == Quarantine {
		p.Queue = sidecar.QuarantineQueue
	}
	frozen, there := q.Frozen(p)
	return there && (verb != Freeze || frozen) && (verb != Thaw || !frozen)
}

// Acted are the messages to which an action has done what it should, with the queues where they
// were. Of one that has not ended they are all that it was to be done to.
func Acted(a *action.Action) ([]Place, error) {
	if a.Did == nil {
		var v Values
		err := a.Read(&v)
		return v.Messages, err
	}
	var r Result
	err := a.ReadDid(&r)
	return r.Done, err
}

// Origins are the queues from which messages came into the quarantine, by id, as recorded.
func Origins(actions []action.Action) (map[string]string, error) {
	queues := map[string]string{}
	for i := range actions {
		if actions[i].Verb != Quarantine {
			continue
		}
		acted, err := Acted(&actions[i])
		if err != nil {
			return nil, err
		}
		for _, p := range acted {
			queues[p.ID] = p.Queue
		}
	}
	return queues, nil
}
