package quarantine

import (
	"context"
	"fmt"
	"slices"
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
	}
	return Result{Left: idsOf(messages)}, fmt.Errorf("%s is nothing that is done to Exim's queue", verb)
}

// opposites are what takes a verb back.
var opposites = map[action.Verb]action.Verb{Quarantine: Restore, Restore: Quarantine, Freeze: Thaw, Thaw: Freeze}

// Undo returns what takes an action back: the verb, and the messages that are as the action left
// them. gone is how many are not: they were delivered, removed, or changed by others. The error
// is an ErrChanged if that are all, or that nothing takes the action back.
func (q Queues) Undo(a *action.Action) (verb action.Verb, messages []Place, gone int, err error) {
	verb, is := opposites[a.Verb]
	if !is {
		return "", nil, 0, fmt.Errorf("action %d (%s): nothing takes that back", a.Number, a.Verb)
	}
	acted, err := Acted(a)
	if err != nil {
		return "", nil, 0, err
	}
	messages = slices.DeleteFunc(slices.Clone(acted), func(p Place) bool { return !q.isAfter(a.Verb, p) })
	if gone = len(acted) - len(messages); len(messages) == 0 {
		err = fmt.Errorf("%w: none of %s is as action %d (%s) has left it; they were delivered, removed or changed by others",
			action.ErrChanged, sidecar.Count(int64(len(acted)), "message", "messages"), a.Number, a.Verb)
	}
	return verb, messages, gone, err
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
