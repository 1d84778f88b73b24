package settings

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

// Bounds on what a change can be.
const (
	LongestChange = 10 * 366 * sidecar.Day // that --for can be
	longestWhy    = 500                    // bytes
)

const (
	// keepChanges is how many changes the history has at least. Older ones go
	// when they have no effect any more.
	keepChanges = 1000
	// maxPosts is how often a change is tried while other nodes make some.
	maxPosts = 100
)

// Change carries out an order, on all nodes. What it says of a wrong one is for
// whoever gave it; nothing is changed then.
func (l *Live) Change(ctx context.Context, now time.Time, o Edit) (Change, error) {
	all, err := l.post(ctx, func(t changeLog) ([]Change, error) { return l.draft(t, now, o) })
	if err != nil {
		return Change{}, err
	}
	l.changed(ctx, now, all)
	return all[0], nil
}

// Preview tells what Change would do, and returns the settings that would be in force.
func (l *Live) Preview(now time.Time, o Edit) (Change, *Settings, error) {
	t := readChanges(l.board, l.events)
	all, err := l.draft(t, now, o)
	if err != nil {
		return Change{}, nil, err
	}
	t = t.add(all)
	settings, _ := l.settingsWith(l.now.Load(), t, now)
	return t[len(t)-1], settings, nil
}

// changed puts in force what was changed here.
func (l *Live) changed(ctx context.Context, now time.Time, all []Change) {
	for _, c := range all {
		l.emitChanged(c)
	}
	l.swap(now, func(*liveValue) {})
	for _, number := range l.now.Load().changes.compact(now, keepChanges) {
		if err := l.board.Remove(ctx, changeKey(number)); err != nil {
			l.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
			return
		}
	}
}

// draft makes a change of an order.
func (l *Live) draft(t changeLog, now time.Time, o Edit) ([]Change, error) {
	if o.For < 0 || o.For > LongestChange || len(o.Why) > longestWhy {
		return nil, fmt.Errorf("--for must be from 1s to %d days, and --why at most %d bytes long", LongestChange/sidecar.Day, longestWhy)
	}
	c := Change{At: now.Round(0).Truncate(time.Millisecond), Who: o.Who, Node: l.node, Why: o.Why}
	if o.For > 0 {
		c.Until = c.At.Add(o.For)
	}
	if o.Rollback != 0 {
		undone, err := t.find(o.Rollback, now)
		c.Scope, c.Undoes, c.Until = undone.Scope, o.Rollback, time.Time{}
		for _, k := range undone.Keys {
			c.Keys = append(c.Keys, KeyChange{Key: k.Key, From: k.To, To: k.From})
		}
		return []Change{c}, err
	}
	scope, settings, err := ParseEdit(o)
	if err != nil {
		return nil, err
	}
	present, _ := l.settingsWith(l.now.Load(), t, now)
	if len(settings) == 0 { // unset all
		for _, s := range present.Scopes[scope].Live() {
			settings = append(settings, limit.Setting{Scope: scope, Key: s.Key})
		}
	}
	for _, s := range settings {
		own := present.Scopes[scope].Set(s.Key)
		if s.Value == nil && (own == nil || own.Layer != limit.LayerLive) {
			return nil, fmt.Errorf("%w: %s of %s is not set by `sluice set`", ErrNoEffect, s.Key, scope)
		}
	}
	c.Scope, c.Keys = scope, present.keyChanges(settings)
	if len(c.Keys) == 0 {
		return nil, fmt.Errorf("%w: nothing of %s is set by `sluice set`", ErrNoEffect, scope)
	}
	return []Change{c}, nil
}

// keyChanges are what settings change of what is in force.
func (s *Settings) keyChanges(settings []limit.Setting) (keys []KeyChange) {
	for _, to := range settings {
		keys = append(keys, KeyChange{Key: to.Key, From: s.valueOf(to.Key, to.Scope), To: to.Value})
	}
	return keys
}

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
func (l *Live) post(ctx context.Context, draft func(changeLog) ([]Change, error)) ([]Change, error) {
	for range maxPosts {
		t := readChanges(l.board, l.events)
		drafted, err := draft(t)
		if err != nil {
			return nil, err
		}
		all := t.add(drafted)[len(t):]
		posted := postedChange{Change: all[0], Mark: rand.Text(), More: all[1:]}
		value, err := json.Marshal(posted)
		if err != nil {
			return nil, err
		}
		stands, err := l.postPatiently(ctx, changeKey(posted.Number), value)
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
func (l *Live) postPatiently(ctx context.Context, key string, value []byte) (stands []byte, err error) {
	for range int(boardPatience / boardPause) {
		if stands, err = l.board.Post(ctx, key, value); err == nil {
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
