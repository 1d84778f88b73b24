package history

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/limit"
)

// An Order is what an operator wants changed.
type Edit struct {
	Scope    string        // as commands take it
	Set      []string      // KEY=VALUE
	Unset    []string      // keys; with Set empty, none is all that are set live
	Rollback int64         // number of a change; then nothing else is there
	For      time.Duration // after which it goes by itself; 0 is never
	Why      string
	Who      string
	Preview  bool // change nothing, and only tell the effects
}

const (
	// keepChanges is how many changes the history has at least. Older ones go
	// when they have no effect any more.
	KeepChanges = 1000
	// maxPosts is how often a change is tried while other nodes make some.
	maxPosts = 100
)

// parseOrder reads what is to be set, or with values nil to be unset.
func ParseEdit(o Edit) (scope string, settings []limit.Setting, err error) {
	if len(o.Set) > 0 {
		return limit.ParseSettings(o.Scope, o.Set)
	}
	if scope, err = limit.CanonicalScope(o.Scope); err != nil {
		return "", nil, err
	}
	for _, key := range o.Unset {
		if _, err := new(limit.Thresholds).Key(key); err != nil {
			return "", nil, err
		}
		settings = append(settings, limit.Setting{Scope: scope, Key: key})
	}
	return scope, settings, nil
}

// post adds changes to the trail, all or none, as the next ones whatever is added at
// the same time, here or by other nodes: who finds that others were first begins
// again. draft makes the changes for the trail as it stands.
func Post(ctx context.Context, board sidecar.Board, events event.Sink, draft func(Log) ([]Change, error)) ([]Change, error) {
	for range maxPosts {
		t := Read(board, events)
		drafted, err := draft(t)
		if err != nil {
			return nil, err
		}
		all := t.Add(drafted)[len(t):]
		posted := postedChange{Change: all[0], Mark: rand.Text(), More: all[1:]}
		value, err := json.Marshal(posted)
		if err != nil {
			return nil, err
		}
		stands, err := postPatiently(ctx, board, Key(posted.Number), value)
		if err != nil {
			return nil, fmt.Errorf("write the change for all nodes: %w; nothing is changed, unless `sluice history` shows it when Redis answers", err)
		}
		if strings.Contains(string(stands), posted.Mark) {
			return all, nil
		}
	}
	return nil, fmt.Errorf("other nodes change thresholds all the time: tried %d times; nothing was changed", maxPosts)
}

// postPatiently posts on a board that may be away for a moment: an operator would
// try again, and does not know of a post whose answer was lost.
func postPatiently(ctx context.Context, board sidecar.Board, key string, value []byte) (stands []byte, err error) {
	for range int(boardPatience / boardPause) {
		if stands, err = board.Post(ctx, key, value); err == nil {
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

// A SavedChange is a line of what `sluice history --export` prints and `sluice set
// --import` reads: what somebody has set live, and is in force or will be again when
// something that was set for a time has ended.
type Saved struct {
	Scope string    `json:"scope"`
	Set   []string  `json:"set"`            // KEY=VALUE
	Until time.Time `json:"until,omitzero"` // when it goes by itself; zero: it stays
	Why   string    `json:"why,omitempty"`
	Who   string    `json:"who,omitempty"` // who set it, and when: kept in the reason when it is set again
	At    time.Time `json:"at,omitzero"`

	Place string `json:"place,omitempty"` // FILE:LINE where it was read, for errors
}

// saved lists what a trail sets, the first first, without what has no effect any more.
func (t Log) Saved(now time.Time) (all []Saved) {
	j := t.Effective(now)
	for _, c := range t {
		saved := Saved{Scope: c.Scope, Until: c.Until, Why: c.Why, Who: c.Who, At: c.At}
		for _, k := range j.lasting[c.Number] {
			if k.To != nil {
				saved.Set = append(saved.Set, k.Key+"="+typedValue(k.To))
			}
		}
		if len(saved.Set) > 0 {
			all = append(all, saved)
		}
	}
	return all
}

// typedValue is a value as an operator would type it.
func typedValue(v any) string {
	if list, ok := v.([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(v)
}

// why is the reason that is kept of a change that is set again.
func (s *Saved) Reason() string {
	if s.Who == "" {
		return s.Why
	}
	before := fmt.Sprintf("set before by %s at %s", s.Who, s.At.Format(time.DateTime+" -0700"))
	if s.Why == "" {
		return before
	}
	return s.Why + "; " + before
}
