package history

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/limit"
)

// A Change is one entry of the trail: what somebody has set or unset for a
// scope, or which change was rolled back. The trail is all there is of live
// thresholds: what is in force follows from it. So a value that was set for a
// day gives way to what had been in force before it, and what is in force
// always has somebody who set it.
type Change struct {
	Number int64       `json:"number"` // 1 is the first
	At     time.Time   `json:"at"`
	Who    string      `json:"who"`
	Node   string      `json:"node"` // on which it was made
	Why    string      `json:"why,omitempty"`
	Scope  string      `json:"scope"`
	Keys   []KeyChange `json:"keys,omitempty"`
	Until  time.Time   `json:"until,omitzero"`   // when it goes by itself; zero: it stays
	Undoes int64       `json:"undoes,omitempty"` // the change that was rolled back by this one
	State  ChangeState `json:"state,omitempty"`  // of History only

	first int64 // number of the first of those that were posted with it; 0: by itself
}

// A postedChange is what the board has of changes that were made at once, under the
// number of the first.
type postedChange struct {
	Change
	Mark string   `json:"mark"` // random: tells it from another of its number
	More []Change `json:"more,omitempty"`
}

// A KeyChange is what a Change does to one key.
type KeyChange struct {
	Key  string `json:"key"`
	From any    `json:"from"` // what was in force of it for the scope; null is none
	To   any    `json:"to"`   // null: left to the other layers
}

// A ChangeState is whether a change still has an effect.
type ChangeState string

// The states of a Change.
const (
	InForce    ChangeState = "in force"
	Expired    ChangeState = "expired"
	Replaced   ChangeState = "replaced" // by a later one of the same keys
	RolledBack ChangeState = "rolled back"
)

const changeKeys = "threshold/"

func Key(number int64) string { return fmt.Sprintf("%s%012d", changeKeys, number) }

// A trail is all changes, by number.
type Log []Change

func Read(board sidecar.LeftBoard, events event.Sink) (t Log) {
	board.Entries(changeKeys, func(key string, value []byte) {
		var posted postedChange
		if err := json.Unmarshal(value, &posted); err != nil {
			events.Emit(event.Event{Kind: event.NoteUnread, Attrs: event.Attrs("note", key), Err: err})
			return
		}
		for _, c := range append([]Change{posted.Change}, posted.More...) {
			for i, k := range c.Keys {
				c.Keys[i].From, c.Keys[i].To = fromJSON(k.From), fromJSON(k.To)
			}
			c.first = posted.Number
			t = append(t, c)
		}
	})
	return t
}

// add returns a trail with changes behind it, as its next.
func (t Log) Add(all []Change) Log {
	t = slices.Clone(t)
	first := t.Last() + 1
	for _, c := range all {
		c.Number, c.first = t.Last()+1, first
		t = append(t, c)
	}
	return t
}

// fromJSON gives a value the type that it has in a Setting.
func fromJSON(v any) any {
	switch v := v.(type) {
	case float64:
		return int64(v)
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			return v
		}
		return n
	case []any:
		list := []string{}
		for _, e := range v {
			text, _ := e.(string)
			list = append(list, text)
		}
		return list
	}
	return v
}

func (t Log) Last() int64 {
	if len(t) == 0 {
		return 0
	}
	return t[len(t)-1].Number
}

// SetBy is what changes, as History tells them, have in force at a time.
func SetBy(changes []Change, now time.Time) []limit.Setting {
	t := Log(slices.Clone(changes))
	slices.SortFunc(t, func(a, b Change) int { return cmp.Compare(a.Number, b.Number) })
	settings := t.Effective(now).Settings
	for i := range settings {
		settings[i].Value = fromJSON(settings[i].Value) // as they came over the admin socket
	}
	return settings
}

// judged tells what has an effect at a time: of each key of a scope the last
// change that is neither expired nor rolled back.
type effectiveChanges struct {
	States   map[int64]ChangeState
	Settings []limit.Setting
	lasting  map[int64][]KeyChange // what of a change has an effect now, or will when what replaced it ends
	Next     time.Time             // when the next of them expires; zero: none does
}

// judge works it out, from the last change back to the first.
func (t Log) Effective(now time.Time) effectiveChanges {
	type keyOf struct{ scope, key string }
	j := effectiveChanges{States: map[int64]ChangeState{}, lasting: map[int64][]KeyChange{}}
	decided, settled := map[keyOf]bool{}, map[keyOf]bool{} // settled: by a change that does not expire
	for _, c := range slices.Backward(t) {
		switch {
		case j.States[c.Number] == RolledBack:
			continue
		case c.Undoes > 0:
			j.States[c.Number], j.States[c.Undoes] = InForce, RolledBack
			continue
		case !c.Until.IsZero() && !now.Before(c.Until):
			j.States[c.Number] = Expired
			continue
		}
		j.States[c.Number] = Replaced
		for _, k := range c.Keys {
			key := keyOf{c.Scope, k.Key}
			if !settled[key] {
				j.lasting[c.Number] = append(j.lasting[c.Number], k)
			}
			settled[key] = settled[key] || c.Until.IsZero()
			if decided[key] {
				continue
			}
			decided[key], j.States[c.Number] = true, InForce
			if k.To != nil {
				j.Settings = append(j.Settings, limit.Setting{Scope: c.Scope, Key: k.Key, Value: k.To, Origin: c.origin()})
			}
		}
		if !c.Until.IsZero() && (j.Next.IsZero() || c.Until.Before(j.Next)) {
			j.Next = c.Until
		}
	}
	return j
}

func (c *Change) origin() limit.Origin {
	return limit.Origin{Layer: limit.LayerLive, Who: c.Who, At: c.At, Until: c.Until, Why: c.Why, Change: c.Number}
}

// spent lists the changes that can go: older than the last keep, and without
// any effect, now or later. They go from the first to the last, so that whatever a
// crash leaves of them still means the same. What was posted at once goes at once, and
// has the number of the first.
func (t Log) Compact(now time.Time, keep int) (numbers []int64) {
	if len(t) <= keep {
		return nil
	}
	j := t.Effective(now)
	sets := map[string]bool{} // scopes with an older change that stays
	stays := map[int64]bool{}
	for at := 0; at < len(t)-keep; {
		end := at + 1
		for end < len(t) && t[at].first != 0 && t[end].first == t[at].first {
			end++
		}
		together := t[at:end]
		needed := end > len(t)-keep || slices.ContainsFunc(together, func(c Change) bool {
			unset := !slices.ContainsFunc(c.Keys, func(k KeyChange) bool { return k.To != nil })
			return c.Undoes > 0 && stays[c.Undoes] || c.Undoes == 0 && j.lasting[c.Number] != nil && !(unset && !sets[c.Scope])
		})
		if !needed {
			numbers = append(numbers, t[at].Number)
		}
		for _, c := range together {
			stays[c.Number] = needed
			sets[c.Scope] = sets[c.Scope] || needed
		}
		at = end
	}
	return numbers
}

// find returns a change that can be rolled back.
func (t Log) Find(number int64, now time.Time) (Change, error) {
	i, found := slices.BinarySearchFunc(t, number, func(c Change, n int64) int { return cmp.Compare(c.Number, n) })
	if !found {
		return Change{}, fmt.Errorf("%w: the history has no change %d", limit.ErrNotFound, number)
	}
	c, state := t[i], t.Effective(now).States[number]
	if state == InForce {
		return c, nil
	}
	why := string(state)
	for _, later := range t[i+1:] {
		if state == RolledBack && later.Undoes == number || state == Replaced && later.replaces(c) {
			why = fmt.Sprintf("%s, by change %d", state, later.Number)
			break
		}
	}
	return Change{}, fmt.Errorf("%w: change %d is %s already, and nothing of it is in force", ErrNoEffect, number, why)
}

// replaces tells whether a change is about a key of an earlier one.
func (c *Change) replaces(earlier Change) bool {
	return c.Scope == earlier.Scope && slices.ContainsFunc(c.Keys, func(k KeyChange) bool {
		return slices.ContainsFunc(earlier.Keys, func(e KeyChange) bool { return e.Key == k.Key })
	})
}

// Describe words what a change does: "hourly 500 -> 2000".
func (c *Change) Describe() string {
	var parts []string
	for _, k := range c.Keys {
		parts = append(parts, fmt.Sprintf("%s %s -> %s", k.Key, ShowValue(k.Key, k.From), ShowValue(k.Key, k.To)))
	}
	text := strings.Join(parts, ", ")
	if c.Undoes > 0 {
		return fmt.Sprintf("rollback of %d: %s", c.Undoes, text)
	}
	return text
}

// ShowValue words the value of a key for a person.
func ShowValue(key string, v any) string {
	switch v := fromJSON(v).(type) {
	case nil:
		return "(not set here)"
	case []string:
		return cmp.Or(strings.Join(v, ","), "none")
	case int64:
		if v == 0 && limit.IsLimit(key) {
			return limit.Unlimited
		}
	}
	return fmt.Sprint(v)
}

// ErrNoEffect is wrapped by errors about changes that would change nothing.
var ErrNoEffect = errors.New("nothing to do")
