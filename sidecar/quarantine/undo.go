package quarantine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/action"
	"sluice/sidecar/logline"
	"sluice/sidecar/printable"
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
	Messages []Place  // that are as the action left them
	Changed  int      // how many are not, and were not removed as recorded: delivered, or changed by others
	Kept     int      // how many stay, since later actions have done the same to them again
	By       []int    // those actions
	Removed  Removals // how many are not, for good
}

// Undo returns what takes an action back, by all actions on record. The error is an ErrChanged if
// no message is as the action left it, or that nothing takes the action back.
func (q Queues) Undo(a *action.Action, all []action.Action) (b Back, err error) {
	verb, is := opposites[a.Verb]
	if !is {
		return b, fmt.Errorf("action %d (%s): nothing takes that back", a.Number, a.Verb)
	}
	b.Verb = verb
	acted, err := doneBy(a)
	if err != nil {
		return b, err
	}
	again, err := later(a, all)
	if err != nil {
		return b, err
	}
	removed, err := Removed(all)
	if err != nil {
		return b, err
	}
	for _, p := range acted {
		by, is := again[p.ID]
		_, gone := removed[p.ID]
		switch after := q.isAfter(a.Verb, p); {
		case !after && gone:
			b.Removed.add(removed, p.ID)
		case !after:
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
			action.ErrChanged, printable.Count(int64(len(acted)), "message", "messages"), a.Number, a.Verb, cmp.Or(b.Rest(), "it was done to none"))
	}
	return b, err
}

// Rest says what is not taken back, and why; empty if all is.
func (b Back) Rest() string {
	var rest []string
	if b.Removed.N > 0 {
		rest = append(rest, b.Removed.String())
	}
	if b.Changed > 0 {
		rest = append(rest, fmt.Sprintf("%d were delivered, removed or changed by others since", b.Changed))
	}
	if b.Kept > 0 {
		rest = append(rest, fmt.Sprintf("%d stay, for the same was done to them again, by action %s", b.Kept, numbers(b.By)))
	}
	return strings.Join(rest, "; ")
}

func numbers(of []int) string {
	slices.Sort(of)
	return strings.Trim(fmt.Sprint(of), "[]")
}

// Removals are messages of an action that were removed for good since: nothing brings them back.
type Removals struct {
	N, Of int   // how many of how many
	By    []int // the actions that have removed them
}

// add adds a message if it was removed, and reports that.
func (r *Removals) add(removed map[string]int, id string) bool {
	by, is := removed[id]
	if r.Of++; is {
		if r.N++; !slices.Contains(r.By, by) {
			r.By = append(r.By, by)
		}
	}
	return is
}

// Add adds those of an action, where undo would move its messages or have Exim try them again, and
// reports whether there is nothing else of it. removed is as Removed has it.
func (r *Removals) Add(a *action.Action, removed map[string]int) (all bool, err error) {
	if _, is := opposites[a.Verb]; !is {
		return false, nil
	}
	acted, err := doneBy(a)
	all = len(acted) > 0
	for _, p := range acted {
		is := r.add(removed, p.ID)
		all = all && is
	}
	return all, err
}

// String says it in words.
func (r Removals) String() string {
	return fmt.Sprintf("%d were removed for good, by action %s", r.N, numbers(r.By))
}

// Removed are the messages that were removed for good, with the number of the action that did.
func Removed(all []action.Action) (map[string]int, error) {
	removed := map[string]int{}
	for i := range all {
		if all[i].Verb != Remove || all[i].Did == nil { // how far that came nobody knows
			continue
		}
		acted, err := doneBy(&all[i])
		if err != nil {
			return nil, err
		}
		for _, p := range acted {
			removed[p.ID] = all[i].Number
		}
	}
	return removed, nil
}

// later are the messages to which the same was done again after an action, and is not taken back,
// with the number of the last action that did.
func later(a *action.Action, all []action.Action) (map[string]int, error) {
	again := map[string]int{}
	for i := range all {
		if all[i].Number <= a.Number || all[i].Verb != a.Verb || action.UndoneBy(all, all[i].Number) > 0 {
			continue
		}
		acted, err := doneBy(&all[i])
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
	switch verb {
	case Quarantine:
		return q.has(p.ID, logline.QuarantineQueue)
	case Restore:
		return q.has(p.ID, p.Queue)
	}
	frozen, there, err := q.Frozen(p)
	return there && err == nil && frozen == (verb == Freeze)
}

// doneBy are the messages to which an action has done what it should, with the queues where they
// were. Of one that has not ended they are all that it was to be done to.
func doneBy(a *action.Action) ([]Place, error) {
	if a.Did == nil {
		var v Values
		err := a.Read(&v)
		return v.Messages, err
	}
	var r Result
	err := a.ReadDid(&r)
	return r.Done, err
}

// PutBefore are the messages that were put into the quarantine before a time, and not taken out
// of it since, as recorded. They will be removed for good: so what was undone in part, or nobody
// knows how far, counts as taken out.
func PutBefore(actions []action.Action, before time.Time) (all []Place, err error) {
	put, known := map[string]time.Time{}, map[int]*action.Action{}
	for i := range actions {
		a := &actions[i]
		known[a.Number] = a
		did, puts := a, a.Verb == Quarantine
		if undone := known[a.Undoes]; undone != nil {
			did, puts = undone, undone.Verb == Restore && a.Did != nil && a.Did.Failed == ""
		}
		if did.Verb != Quarantine && did.Verb != Restore {
			continue
		}
		acted, err := doneBy(did)
		if err != nil {
			return nil, err
		}
		for _, p := range acted {
			if put[p.ID] = a.At; !puts {
				delete(put, p.ID)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(put)) {
		if put[id].Before(before) {
			all = append(all, Place{id, logline.QuarantineQueue})
		}
	}
	return all, nil
}

// Origins are the queues from which messages came into the quarantine, by id, as recorded.
func Origins(actions []action.Action) (map[string]string, error) {
	queues := map[string]string{}
	for i := range actions {
		if actions[i].Verb != Quarantine {
			continue
		}
		acted, err := doneBy(&actions[i])
		if err != nil {
			return nil, err
		}
		for _, p := range acted {
			queues[p.ID] = p.Queue
		}
	}
	return queues, nil
}
