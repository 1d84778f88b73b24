package history

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/limit"
	"sluice/sidecar/typed"
)

// A Change is one entry of the change log: what somebody has set or unset for a scope,
// or which change was rolled back. Live thresholds are stored in no other way, they
// follow from the changes: when a value that was set for a day expires, the one before
// is in force again, and each has somebody who set it.
type Change struct {
	Number int64       `json:"number"` // 1 is the first
	At     time.Time   `json:"at"`
	Who    string      `json:"who"`
	Node   string      `json:"node"` // on which it was made
	Why    string      `json:"why,omitempty"`
	Scope  string      `json:"scope"`
	Keys   []KeyChange `json:"keys,omitempty"`
	Until  time.Time   `json:"until,omitzero"`   // when it expires; zero: never
	Undoes int64       `json:"undoes,omitempty"` // the change that was rolled back by this one
	State  ChangeState `json:"state,omitempty"`  // only in what Live.History returns

	first int64 // number of the first of the changes that were posted together with this one
}

// A postedChange is one entry of the board: changes that were made together, under the
// number of the first.
type postedChange struct {
	Change
	Mark string   `json:"mark"` // random: tells it from that of another node with the same number
	More []Change `json:"more,omitempty"`
}

// A KeyChange is what a Change does to one key.
type KeyChange struct {
	Key  string `json:"key"`
	From any    `json:"from"` // what was in force for the scope; null: nothing
	To   any    `json:"to"`   // null: no longer set here
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

// Key is the key of the board under which a change is, or several made together under
// the number of the first.
func Key(number int64) string { return fmt.Sprintf("%s%012d", changeKeys, number) }

// A Log is all changes, by number.
type Log []Change

// Read reads the changes among the entries of a board, and reports as events those that
// cannot be read.
func Read(entries func(prefix string, f func(key string, value []byte)), events event.Sink) Log {
	b := &Book{events: events, groups: map[int64]Log{}, touched: map[string]int{}, scopes: map[string]Log{}}
	entries(changeKeys, b.receive)
	return b.Log()
}

// decode reads one value of the board: changes that were posted together, whose first has
// a number.
func decode(number int64, value []byte) (t Log, err error) {
	var posted postedChange
	if err := json.Unmarshal(value, &posted); err != nil {
		return nil, err
	}
	if posted.Number != number || posted.Scope == "" {
		return nil, fmt.Errorf("it is no change %d", number)
	}
	for _, c := range append([]Change{posted.Change}, posted.More...) {
		for i, k := range c.Keys {
			c.Keys[i].From, c.Keys[i].To = fromJSON(k.From), fromJSON(k.To)
		}
		c.first = number
		t = append(t, c)
	}
	return t, nil
}

// fromJSON gives a value that was decoded from JSON the type that it has in a Setting.
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

// SettingsOf lists what is set at a time by changes in any order, as Live.History returns them.
func SettingsOf(changes []Change, now time.Time) []limit.Setting {
	t := Log(slices.Clone(changes))
	slices.SortFunc(t, func(a, b Change) int { return cmp.Compare(a.Number, b.Number) })
	settings := t.Effective(now).Settings
	for i := range settings {
		settings[i].Value = fromJSON(settings[i].Value) // as they came over the admin socket
	}
	return settings
}

// effectiveChanges is what has an effect at a time: of each key of a scope the last
// change that is neither expired nor rolled back.
type effectiveChanges struct {
	States   map[int64]ChangeState
	Settings []limit.Setting
	lasting  map[int64][]KeyChange // by number of the change: its keys that have an effect now, or will when a later change expires
	Next     time.Time             // when the next change expires; zero: none does
}

// Effective finds what has an effect, from the last change back to the first.
func (t Log) Effective(now time.Time) effectiveChanges {
	type keyOf struct{ scope, key string }
	e := effectiveChanges{States: map[int64]ChangeState{}, lasting: map[int64][]KeyChange{}}
	decided := map[keyOf]bool{} // by a later change
	settled := map[keyOf]bool{} // by a later change that does not expire
	for _, c := range slices.Backward(t) {
		switch {
		case e.States[c.Number] == RolledBack:
			continue
		case c.Undoes > 0:
			e.States[c.Number], e.States[c.Undoes] = InForce, RolledBack
			continue
		case !c.Until.IsZero() && !now.Before(c.Until):
			e.States[c.Number] = Expired
			continue
		}
		e.States[c.Number] = Replaced
		for _, k := range c.Keys {
			key := keyOf{c.Scope, k.Key}
			if !settled[key] {
				e.lasting[c.Number] = append(e.lasting[c.Number], k)
			}
			settled[key] = settled[key] || c.Until.IsZero()
			if decided[key] {
				continue
			}
			decided[key], e.States[c.Number] = true, InForce
			if k.To != nil {
				e.Settings = append(e.Settings, limit.Setting{Scope: c.Scope, Key: k.Key, Value: k.To, Origin: limit.Origin{
					Layer: limit.LayerLive, Who: c.Who, At: c.At, Until: c.Until, Why: c.Why, Change: c.Number}})
			}
		}
		if !c.Until.IsZero() && (e.Next.IsZero() || c.Until.Before(e.Next)) {
			e.Next = c.Until
		}
	}
	return e
}

// compact lists the changes to remove: those before the last keep ones that have no
// effect, now or later. They must be removed in this order: if a crash comes between,
// the rest means the same. Changes that were posted together are removed together, by
// the number of the first.
func (t Log) compact(now time.Time, keep int) (numbers []int64) {
	if len(t) <= keep {
		return nil
	}
	e := t.Effective(now)
	sets := map[string]bool{} // scopes with an older change that stays
	stays := map[int64]bool{}
	needed := func(c Change) bool {
		if c.Undoes > 0 {
			return stays[c.Undoes]
		}
		set := slices.ContainsFunc(c.Keys, func(k KeyChange) bool { return k.To != nil })
		return e.lasting[c.Number] != nil && (set || sets[c.Scope])
	}
	for at, end := 0, 0; at < len(t)-keep; at = end {
		end = at + 1
		for end < len(t) && t[at].first != 0 && t[end].first == t[at].first {
			end++
		}
		stay := end > len(t)-keep || slices.ContainsFunc(t[at:end], needed)
		if !stay {
			numbers = append(numbers, t[at].Number)
		}
		for _, c := range t[at:end] {
			stays[c.Number] = stay
			sets[c.Scope] = sets[c.Scope] || stay
		}
	}
	return numbers
}

// find returns a change that can be rolled back: one that is in force.
func (t Log) find(number int64, now time.Time) (Change, error) {
	i, found := slices.BinarySearchFunc(t, number, func(c Change, n int64) int { return cmp.Compare(c.Number, n) })
	if !found {
		return Change{}, fmt.Errorf("%w: the history has no change %d", typed.ErrNotFound, number)
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

// replaces reports whether a change has a key of an earlier one.
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
			return typed.Unlimited
		}
	}
	return fmt.Sprint(v)
}

// ErrNoEffect is wrapped by errors about changes that would change nothing.
var ErrNoEffect = errors.New("nothing to do")
