package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/history"
	"sluice/sidecar/limit"
	"sluice/sidecar/settings"
	"sluice/sidecar/typed"
)

// Bounds of a change.
const (
	LongestChange = 10 * 366 * limit.Day // of --for
	longestWhy    = 500                  // bytes
)

// Change carries out an edit, on all nodes. If it returns an error, nothing was changed;
// the error is worded for the operator.
func (l *Live) Change(ctx context.Context, now time.Time, o history.Edit) (history.Change, error) {
	all, err := l.post(ctx, now, func() ([]history.Change, error) { return l.draft(now, o) })
	if err != nil {
		return history.Change{}, err
	}
	return all[0], nil
}

// Preview is Change without an effect: it also returns the settings that would be in force.
func (l *Live) Preview(now time.Time, o history.Edit) (history.Change, *settings.Settings, error) {
	all, settings, err := l.preview(now, func() ([]history.Change, error) { return l.draft(now, o) })
	if err != nil {
		return history.Change{}, nil, err
	}
	return all[0], settings, nil
}

// Import sets what was saved, each line as a change of its own, and all or nothing.
func (l *Live) Import(ctx context.Context, now time.Time, lines []history.Saved, who string) ([]history.Change, error) {
	return l.post(ctx, now, func() ([]history.Change, error) { return l.draftImport(now, lines, who) })
}

// PreviewImport is Import without an effect: it also returns the settings that would be
// in force.
func (l *Live) PreviewImport(now time.Time, lines []history.Saved, who string) ([]history.Change, *settings.Settings, error) {
	return l.preview(now, func() ([]history.Change, error) { return l.draftImport(now, lines, who) })
}

// post makes the drafted changes on all nodes, and puts them in force here.
func (l *Live) post(ctx context.Context, now time.Time, draft func() ([]history.Change, error)) ([]history.Change, error) {
	all, err := l.book.Post(ctx, draft)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		l.emitChanged(c)
	}
	l.swap(now, nil)
	if err := l.book.Compact(ctx, now); err != nil {
		l.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
	return all, nil
}

// preview returns the drafted changes, and the settings that would be in force with them.
func (l *Live) preview(now time.Time, draft func() ([]history.Change, error)) ([]history.Change, *settings.Settings, error) {
	drafted, err := draft()
	if err != nil {
		return nil, nil, err
	}
	all := l.book.Next(drafted)
	live := map[string][]limit.Setting{}
	for _, c := range all {
		live[c.Scope] = nil
	}
	for scope := range live {
		with := slices.DeleteFunc(slices.Clone(all), func(c history.Change) bool { return c.Scope != scope })
		live[scope] = append(l.book.Of(scope), with...).Effective(now).Settings
	}
	return all, l.Load().With(live), nil
}

// present is the settings in force with all that is on the board.
func (l *Live) present(now time.Time) *settings.Settings {
	l.Expire(now)
	l.Reload(now)
	return l.Load()
}

// draft makes a change of an edit. It is an error if the edit would have no effect.
func (l *Live) draft(now time.Time, o history.Edit) ([]history.Change, error) {
	if o.For < 0 || o.For > LongestChange || len(o.Why) > longestWhy {
		return nil, fmt.Errorf("--for must be from 1s to %d days, and --why at most %d bytes long", LongestChange/limit.Day, longestWhy)
	}
	c := history.Change{At: now.Round(0).Truncate(time.Millisecond), Who: o.Who, Node: l.host.Node, Why: o.Why}
	if o.Rollback != 0 {
		undone, err := l.book.Find(o.Rollback, now)
		c.Scope, c.Undoes = undone.Scope, o.Rollback
		for _, k := range undone.Keys {
			c.Keys = append(c.Keys, history.KeyChange{Key: k.Key, From: k.To, To: k.From})
		}
		return []history.Change{c}, err
	}
	if o.For > 0 {
		c.Until = c.At.Add(o.For)
	}
	scope, settings, err := history.ParseEdit(o)
	if err != nil {
		return nil, err
	}
	present := l.present(now)
	isLive := func(key string) bool {
		set := present.Scope(scope).Set(key)
		return set != nil && set.Layer == limit.LayerLive
	}
	unsetAll := len(settings) == 0
	for _, key := range limit.Keys() {
		if unsetAll && isLive(key) {
			settings = append(settings, limit.Setting{Scope: scope, Key: key})
		}
	}
	for _, s := range settings {
		if s.Value == nil && !isLive(s.Key) {
			return nil, fmt.Errorf("%w: %s of %s is not set by `sluice set`", history.ErrNoEffect, s.Key, scope)
		}
	}
	c.Scope, c.Keys = scope, keyChanges(present, settings)
	if len(c.Keys) == 0 {
		return nil, fmt.Errorf("%w: nothing of %s is set by `sluice set`", history.ErrNoEffect, scope)
	}
	return []history.Change{c}, nil
}

// draftImport makes changes of what was saved. Its error is about all wrong lines.
func (l *Live) draftImport(now time.Time, lines []history.Saved, who string) (all []history.Change, err error) {
	present := l.present(now)
	set := map[[2]string]any{} // values of the lines before, by scope and key
	var errs []error
	for _, line := range lines {
		scope, settings, err := typed.Settings(line.Scope, line.Set)
		switch {
		case err != nil:
		case len(line.Why) > longestWhy:
			err = fmt.Errorf("why must be at most %d bytes long", longestWhy)
		case line.Until.Sub(now) > LongestChange:
			err = fmt.Errorf("until must be within %d days", LongestChange/limit.Day)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", line.Place, err))
			continue
		}
		keys := keyChanges(present, settings)
		for i, k := range keys {
			at := [2]string{scope, k.Key}
			if from, before := set[at]; before {
				keys[i].From = from
			}
			set[at] = k.To
		}
		all = append(all, history.Change{At: now.Round(0).Truncate(time.Millisecond), Who: who, Node: l.host.Node, Why: line.Reason(),
			Scope: scope, Until: line.Until, Keys: keys})
	}
	if len(errs) == 0 && len(all) == 0 {
		errs = append(errs, fmt.Errorf("%w: nothing is left to set", history.ErrNoEffect))
	}
	return all, errors.Join(errs...)
}

// keyChanges lists how some settings would change what is in force.
func keyChanges(s *settings.Settings, set []limit.Setting) (keys []history.KeyChange) {
	for _, to := range set {
		keys = append(keys, history.KeyChange{Key: to.Key, From: valueOf(s, to.Key, to.Scope), To: to.Value})
	}
	return keys
}

// valueOf is the value in force of a key for a scope; nil if there is none.
func valueOf(s *settings.Settings, key, scope string) any {
	who := s.PayerOfScope(scope)
	scopes := who.Scopes()
	if limit.IsLimit(key) {
		scopes = who.LimitScopes(scope)
	}
	if set := s.Decisive(key, scopes); set != nil {
		return set.Value
	}
	return nil
}

func (l *Live) emitChanged(c history.Change) {
	attrs := event.Attrs("who", c.Who, "scope", c.Scope, "change", c.Number, "what", c.Describe())
	if !c.Until.IsZero() {
		attrs = append(attrs, event.Attrs("until", c.Until)...)
	}
	if c.Why != "" {
		attrs = append(attrs, event.Attrs("why", c.Why)...)
	}
	l.events.Emit(event.Event{Kind: event.Changed, Attrs: attrs})
}

// History lists the changes, the last first: of one scope, or all for "".
func (l *Live) History(now time.Time, scope string) ([]history.Change, error) {
	scope, err := canonicalOrAll(scope)
	if err != nil {
		return nil, err
	}
	t := l.book.Log()
	states := t.Effective(now).States
	all := []history.Change{}
	for _, c := range slices.Backward(t) {
		if scope == "" || c.Scope == scope {
			c.State = states[c.Number]
			all = append(all, c)
		}
	}
	return all, nil
}

// Export lists what is set live: of one scope, or all for "". With left it is what was
// set while store.url named another store, and is not in force.
func (l *Live) Export(now time.Time, scope string, left bool) ([]history.Saved, error) {
	scope, err := canonicalOrAll(scope)
	if err != nil {
		return nil, err
	}
	changes := l.stayedBehind(now)
	if !left {
		changes = l.book.Log().Saved(now)
	}
	return slices.DeleteFunc(changes, func(c history.Saved) bool { return scope != "" && c.Scope != scope }), nil
}

// canonicalOrAll is typed.Settable, or "" for "".
func canonicalOrAll(scope string) (string, error) {
	if scope == "" {
		return "", nil
	}
	return typed.Settable(scope)
}

// stayedBehind lists what was set while store.url named another store, without the keys
// that were set or unset since.
func (l *Live) stayedBehind(now time.Time) (all []history.Saved) {
	here := l.book.Log()
	for _, c := range l.former.Saved(now) {
		c.Set = slices.DeleteFunc(c.Set, func(assignment string) bool {
			key, _, _ := strings.Cut(assignment, "=")
			return slices.ContainsFunc(here, func(h history.Change) bool {
				return h.Scope == c.Scope && h.At.After(c.At) && slices.ContainsFunc(h.Keys, func(k history.KeyChange) bool { return k.Key == key })
			})
		})
		if len(c.Set) > 0 {
			all = append(all, c)
		}
	}
	return all
}
