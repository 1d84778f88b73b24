package settings

import (
	"context"
	"fmt"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/history"
	"sluice/sidecar/limit"
)

// Bounds on what a change can be.
const (
	LongestChange = 10 * 366 * sidecar.Day // that --for can be
	longestWhy    = 500                    // bytes
)

// Change carries out an order, on all nodes. What it says of a wrong one is for
// whoever gave it; nothing is changed then.
func (l *Live) Change(ctx context.Context, now time.Time, o history.Edit) (history.Change, error) {
	all, err := history.Post(ctx, l.board, l.events, func(t history.Log) ([]history.Change, error) { return l.draft(t, now, o) })
	if err != nil {
		return history.Change{}, err
	}
	l.changed(ctx, now, all)
	return all[0], nil
}

// Preview tells what Change would do, and returns the settings that would be in force.
func (l *Live) Preview(now time.Time, o history.Edit) (history.Change, *Settings, error) {
	t := history.Read(l.board, l.events)
	all, err := l.draft(t, now, o)
	if err != nil {
		return history.Change{}, nil, err
	}
	t = t.Add(all)
	settings, _ := l.settingsWith(l.now.Load(), t, now)
	return t[len(t)-1], settings, nil
}

// changed puts in force what was changed here.
func (l *Live) changed(ctx context.Context, now time.Time, all []history.Change) {
	for _, c := range all {
		l.emitChanged(c)
	}
	l.swap(now, func(*liveValue) {})
	for _, number := range l.now.Load().changes.Compact(now, history.KeepChanges) {
		if err := l.board.Remove(ctx, history.Key(number)); err != nil {
			l.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
			return
		}
	}
}

// draft makes a change of an order.
func (l *Live) draft(t history.Log, now time.Time, o history.Edit) ([]history.Change, error) {
	if o.For < 0 || o.For > LongestChange || len(o.Why) > longestWhy {
		return nil, fmt.Errorf("--for must be from 1s to %d days, and --why at most %d bytes long", LongestChange/sidecar.Day, longestWhy)
	}
	c := history.Change{At: now.Round(0).Truncate(time.Millisecond), Who: o.Who, Node: l.node, Why: o.Why}
	if o.For > 0 {
		c.Until = c.At.Add(o.For)
	}
	if o.Rollback != 0 {
		undone, err := t.Find(o.Rollback, now)
		c.Scope, c.Undoes, c.Until = undone.Scope, o.Rollback, time.Time{}
		for _, k := range undone.Keys {
			c.Keys = append(c.Keys, history.KeyChange{Key: k.Key, From: k.To, To: k.From})
		}
		return []history.Change{c}, err
	}
	scope, settings, err := history.ParseEdit(o)
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
			return nil, fmt.Errorf("%w: %s of %s is not set by `sluice set`", history.ErrNoEffect, s.Key, scope)
		}
	}
	c.Scope, c.Keys = scope, present.keyChanges(settings)
	if len(c.Keys) == 0 {
		return nil, fmt.Errorf("%w: nothing of %s is set by `sluice set`", history.ErrNoEffect, scope)
	}
	return []history.Change{c}, nil
}

// keyChanges are what settings change of what is in force.
func (s *Settings) keyChanges(settings []limit.Setting) (keys []history.KeyChange) {
	for _, to := range settings {
		keys = append(keys, history.KeyChange{Key: to.Key, From: s.valueOf(to.Key, to.Scope), To: to.Value})
	}
	return keys
}
