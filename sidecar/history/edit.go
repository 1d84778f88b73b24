package history

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/sidecar/limit"
	"sluice/sidecar/notes"
	"sluice/sidecar/typed"
)

// An Edit is a change that an operator asks for.
type Edit struct {
	Scope    string        // in any form that typed.Settable takes
	Set      []string      // KEY=VALUE
	Unset    []string      // keys; if Set is empty too: all that are set live
	Rollback int64         // number of a change to undo; 0: none; otherwise Set and Unset are ignored
	For      time.Duration // after which it expires; 0 is never
	Why      string
	Who      string
	Preview  bool // change nothing, and only show the effects
}

const (
	// KeepChanges is how many changes are kept at least. Older ones are removed when
	// they have no effect any more.
	KeepChanges = 1000
	// maxPosts bounds the attempts while other nodes make changes.
	maxPosts = 100
)

// ParseEdit parses what is to be set, or to be unset: then the values are nil.
func ParseEdit(o Edit) (scope string, settings []limit.Setting, err error) {
	if len(o.Set) > 0 {
		return typed.Settings(o.Scope, o.Set)
	}
	if scope, err = typed.Settable(o.Scope); err != nil {
		return "", nil, err
	}
	for _, key := range o.Unset {
		if err := typed.CheckKey(key); err != nil {
			return "", nil, err
		}
		settings = append(settings, limit.Setting{Scope: scope, Key: key})
	}
	return scope, settings, nil
}

// Post tries for boardPatience. A node that Redis did not answer asks it again within a
// second.
const (
	boardPatience = 2 * time.Second
	boardPause    = 50 * time.Millisecond
)

// postPatiently repeats a post until it succeeds: a failed one may have been written all
// the same, and to repeat it finds out.
func postPatiently(ctx context.Context, board notes.Board, key string, value []byte) (stands []byte, err error) {
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

// Saved is a line of what `sluice history --export` prints and `sluice set --import`
// reads: what somebody has set that is in force, or will be again when a later change
// expires.
type Saved struct {
	Scope string    `json:"scope"`
	Set   []string  `json:"set"`            // KEY=VALUE
	Until time.Time `json:"until,omitzero"` // when it expires; zero: never
	Why   string    `json:"why,omitempty"`
	Who   string    `json:"who,omitempty"` // who set it, and when: an import mentions them in its reason
	At    time.Time `json:"at,omitzero"`

	Place string `json:"place,omitempty"` // FILE:LINE where it was read, for errors
}

// Saved lists what the log sets, the first first, without what has no effect any more.
func (t Log) Saved(now time.Time) (all []Saved) {
	e := t.Effective(now)
	for _, c := range t {
		saved := Saved{Scope: c.Scope, Until: c.Until, Why: c.Why, Who: c.Who, At: c.At}
		for _, k := range e.lasting[c.Number] {
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

// Reason is the reason for the change that an import makes.
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
