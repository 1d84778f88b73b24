package settings

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/history"
	"sluice/sidecar/limit"
)

// Export lists what is set live: of one scope, or all for "". With left it is what was
// set before store.url was another one.
func (l *Live) Export(now time.Time, scope string, left bool) (all []history.Saved, err error) {
	if scope != "" {
		if scope, err = limit.CanonicalScope(scope); err != nil {
			return nil, err
		}
	}
	changes := history.Read(l.board, l.events).Saved(now)
	if left {
		changes = l.stayedBehind(now)
	}
	return slices.DeleteFunc(changes, func(c history.Saved) bool { return scope != "" && c.Scope != scope }), nil
}

// stayedBehind lists what was set before store.url was another one, and nobody has set
// or unset since.
func (l *Live) stayedBehind(now time.Time) (all []history.Saved) {
	if l.left == nil {
		return nil
	}
	here := history.Read(l.board, l.events)
	for _, c := range history.Read(l.left, l.events).Saved(now) {
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

// Import sets what was saved, each as a change of its own, and all or nothing.
func (l *Live) Import(ctx context.Context, now time.Time, lines []history.Saved, who string) ([]history.Change, error) {
	all, err := history.Post(ctx, l.board, l.events, func(t history.Log) ([]history.Change, error) { return l.draftImport(t, now, lines, who) })
	if err == nil {
		l.changed(ctx, now, all)
	}
	return all, err
}

// PreviewImport tells what Import would do, and returns the settings that would be in
// force.
func (l *Live) PreviewImport(now time.Time, lines []history.Saved, who string) ([]history.Change, *Settings, error) {
	t := history.Read(l.board, l.events)
	drafted, err := l.draftImport(t, now, lines, who)
	if err != nil {
		return nil, nil, err
	}
	all := t.Add(drafted)
	settings, _ := l.settingsWith(l.now.Load(), all, now)
	return all[len(t):], settings, nil
}

// draftImport makes changes of what was saved. Its error says what is wrong with each
// line.
func (l *Live) draftImport(t history.Log, now time.Time, lines []history.Saved, who string) (all []history.Change, err error) {
	at := now.Round(0).Truncate(time.Millisecond)
	present, _ := l.settingsWith(l.now.Load(), t, now)
	set := map[[2]string]any{} // by the lines before, by scope and key
	var errs []error
	for _, line := range lines {
		scope, settings, err := limit.ParseSettings(line.Scope, line.Set)
		switch {
		case err != nil:
		case len(line.Why) > longestWhy:
			err = fmt.Errorf("why must be at most %d bytes long", longestWhy)
		case line.Until.Sub(now) > LongestChange:
			err = fmt.Errorf("until must be within %d days", LongestChange/sidecar.Day)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", line.Place, err))
			continue
		}
		c := history.Change{At: at, Who: who, Node: l.node, Why: line.Reason(), Scope: scope, Until: line.Until, Keys: present.keyChanges(settings)}
		for i, k := range c.Keys {
			at := [2]string{scope, k.Key}
			if from, before := set[at]; before {
				c.Keys[i].From = from
			}
			set[at] = k.To
		}
		all = append(all, c)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: nothing is left to set", history.ErrNoEffect)
	}
	return all, nil
}
