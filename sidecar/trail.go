package sidecar

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/event"
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

	mark string // random: tells this change from another of its number
}

// A postedChange is a Change on the board.
type postedChange struct {
	Change
	Mark string `json:"mark"`
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

const (
	trailKeys = "threshold/"
	// keepChanges is how many changes the history has at least. Older ones go
	// when they have no effect any more.
	keepChanges = 1000
	// maxPosts is how often a change is tried while other nodes make some.
	maxPosts = 100
)

func trailKey(number int64) string { return fmt.Sprintf("%s%012d", trailKeys, number) }

// A trail is all changes, by number.
type trail []Change

func readTrail(board Board, events event.Sink) (t trail) {
	board.Entries(trailKeys, func(key string, value []byte) {
		var c Change
		if err := json.Unmarshal(value, &c); err != nil {
			events.Emit(event.Event{Kind: event.NoteUnread, Attrs: event.Attrs("note", key), Err: err})
			return
		}
		for i, k := range c.Keys {
			c.Keys[i].From, c.Keys[i].To = fromJSON(k.From), fromJSON(k.To)
		}
		t = append(t, c)
	})
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

func (t trail) last() int64 {
	if len(t) == 0 {
		return 0
	}
	return t[len(t)-1].Number
}

// SetBy is what changes, as History tells them, have in force at a time.
func SetBy(changes []Change, now time.Time) []Setting {
	t := trail(slices.Clone(changes))
	slices.SortFunc(t, func(a, b Change) int { return cmp.Compare(a.Number, b.Number) })
	settings := t.judge(now).settings
	for i := range settings {
		settings[i].Value = fromJSON(settings[i].Value) // as they came over the admin socket
	}
	return settings
}

// judged tells what has an effect at a time: of each key of a scope the last
// change that is neither expired nor rolled back.
type judged struct {
	states   map[int64]ChangeState
	settings []Setting
	lasting  map[int64]bool // needed later though replaced now: what replaced it will expire
	next     time.Time      // when the next of them expires; zero: none does
}

// judge works it out, from the last change back to the first.
func (t trail) judge(now time.Time) judged {
	type keyOf struct{ scope, key string }
	j := judged{states: map[int64]ChangeState{}, lasting: map[int64]bool{}}
	decided, settled := map[keyOf]bool{}, map[keyOf]bool{} // settled: by a change that does not expire
	for _, c := range slices.Backward(t) {
		switch {
		case j.states[c.Number] == RolledBack:
			continue
		case c.Undoes > 0:
			j.states[c.Number], j.states[c.Undoes] = InForce, RolledBack
			continue
		case !c.Until.IsZero() && !now.Before(c.Until):
			j.states[c.Number] = Expired
			continue
		}
		j.states[c.Number] = Replaced
		for _, k := range c.Keys {
			key := keyOf{c.Scope, k.Key}
			j.lasting[c.Number] = j.lasting[c.Number] || !settled[key]
			settled[key] = settled[key] || c.Until.IsZero()
			if decided[key] {
				continue
			}
			decided[key], j.states[c.Number] = true, InForce
			if k.To != nil {
				j.settings = append(j.settings, Setting{c.Scope, k.Key, k.To, c.origin()})
			}
		}
		if !c.Until.IsZero() && (j.next.IsZero() || c.Until.Before(j.next)) {
			j.next = c.Until
		}
	}
	return j
}

func (c *Change) origin() Origin {
	return Origin{Layer: LayerLive, Who: c.Who, At: c.At, Until: c.Until, Why: c.Why, Change: c.Number}
}

// spent lists the changes that can go: older than the last keep, and without
// any effect, now or later. They go from the first to the last, so that whatever a
// crash leaves of them still means the same.
func (t trail) spent(now time.Time, keep int) (numbers []int64) {
	if len(t) <= keep {
		return nil
	}
	j, old := t.judge(now), len(t)-keep
	sets := map[string]bool{} // scopes with an older change that stays
	stays := map[int64]bool{}
	for _, c := range t[:old] {
		unset := !slices.ContainsFunc(c.Keys, func(k KeyChange) bool { return k.To != nil })
		switch {
		case c.Undoes > 0 && stays[c.Undoes], c.Undoes == 0 && j.lasting[c.Number] && !(unset && !sets[c.Scope]):
			sets[c.Scope], stays[c.Number] = true, true
		default:
			numbers = append(numbers, c.Number)
		}
	}
	return numbers
}

// find returns a change that can be rolled back.
func (t trail) find(number int64, now time.Time) (Change, error) {
	i, found := slices.BinarySearchFunc(t, number, func(c Change, n int64) int { return cmp.Compare(c.Number, n) })
	if !found {
		return Change{}, fmt.Errorf("%w: the history has no change %d", ErrNotFound, number)
	}
	c, state := t[i], t.judge(now).states[number]
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

// ErrNoEffect is wrapped by errors about changes that would change nothing.
var ErrNoEffect = errors.New("nothing to do")

// post adds a change to the trail, as the next one whatever other nodes add at
// the same time. make is called with the trail as it stands.
func (p *Policy) post(ctx context.Context, make func(trail) (Change, error)) (Change, error) {
	for range maxPosts {
		t := readTrail(p.board, p.events)
		c, err := make(t)
		if err != nil {
			return c, err
		}
		c.Number = t.last() + 1
		value, err := json.Marshal(postedChange{c, c.mark})
		if err != nil {
			return c, err
		}
		stands, err := p.postPatiently(ctx, trailKey(c.Number), value)
		if err != nil {
			return c, fmt.Errorf("write the change for all nodes: %w; nothing is changed, unless `sluice history` shows it when Redis answers", err)
		}
		if strings.Contains(string(stands), c.mark) {
			return c, nil
		}
	}
	return Change{}, fmt.Errorf("other nodes change thresholds all the time: tried %d times; nothing was changed", maxPosts)
}

// postPatiently posts on a board that may be away for a moment: an operator would
// try again, and does not know of a post whose answer was lost.
func (p *Policy) postPatiently(ctx context.Context, key string, value []byte) (stands []byte, err error) {
	for range int(boardPatience / boardPause) {
		if stands, err = p.board.Post(ctx, key, value); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(boardPause):
		}
	}
	return stands, err
}

// A node that Redis did not answer asks it again within a second.
const (
	boardPatience = 2 * time.Second
	boardPause    = 50 * time.Millisecond
)
