package settings

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/limit"
)

// A SavedChange is a line of what `sluice history --export` prints and `sluice set
// --import` reads: what somebody has set live, and is in force or will be again when
// something that was set for a time has ended.
type SavedChange struct {
	Scope string    `json:"scope"`
	Set   []string  `json:"set"`            // KEY=VALUE
	Until time.Time `json:"until,omitzero"` // when it goes by itself; zero: it stays
	Why   string    `json:"why,omitempty"`
	Who   string    `json:"who,omitempty"` // who set it, and when: kept in the reason when it is set again
	At    time.Time `json:"at,omitzero"`

	Place string `json:"place,omitempty"` // FILE:LINE where it was read, for errors
}

// Export lists what is set live: of one scope, or all for "". With left it is what was
// set before store.url was another one.
func (l *Live) Export(now time.Time, scope string, left bool) (all []SavedChange, err error) {
	if scope != "" {
		if scope, err = limit.CanonicalScope(scope); err != nil {
			return nil, err
		}
	}
	changes := readChanges(l.board, l.events).saved(now)
	if left {
		changes = l.stayedBehind(now)
	}
	return slices.DeleteFunc(changes, func(c SavedChange) bool { return scope != "" && c.Scope != scope }), nil
}

// saved lists what a trail sets, the first first, without what has no effect any more.
func (t changeLog) saved(now time.Time) (all []SavedChange) {
	j := t.effective(now)
	for _, c := range t {
		saved := SavedChange{Scope: c.Scope, Until: c.Until, Why: c.Why, Who: c.Who, At: c.At}
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

// stayedBehind lists what was set before store.url was another one, and nobody has set
// or unset since.
func (l *Live) stayedBehind(now time.Time) (all []SavedChange) {
	if l.left == nil {
		return nil
	}
	here := readChanges(l.board, l.events)
	for _, c := range readChanges(l.left, l.events).saved(now) {
		c.Set = slices.DeleteFunc(c.Set, func(assignment string) bool {
			key, _, _ := strings.Cut(assignment, "=")
			return slices.ContainsFunc(here, func(h Change) bool {
				return h.Scope == c.Scope && h.At.After(c.At) && slices.ContainsFunc(h.Keys, func(k KeyChange) bool { return k.Key == key })
			})
		})
		if len(c.Set) > 0 {
			all = append(all, c)
		}
	}
	return all
}

// Import sets what was saved, each as a change of its own, and all or nothing.
func (l *Live) Import(ctx context.Context, now time.Time, lines []SavedChange, who string) ([]Change, error) {
	all, err := l.post(ctx, func(t changeLog) ([]Change, error) { return l.draftImport(t, now, lines, who) })
	if err == nil {
		l.changed(ctx, now, all)
	}
	return all, err
}

// PreviewImport tells what Import would do, and returns the settings that would be in
// force.
func (l *Live) PreviewImport(now time.Time, lines []SavedChange, who string) ([]Change, *Settings, error) {
	t := readChanges(l.board, l.events)
	drafted, err := l.draftImport(t, now, lines, who)
	if err != nil {
		return nil, nil, err
	}
	all := t.add(drafted)
	settings, _ := l.settingsWith(l.now.Load(), all, now)
	return all[len(t):], settings, nil
}

// draftImport makes changes of what was saved. Its error says what is wrong with each
// line.
func (l *Live) draftImport(t changeLog, now time.Time, lines []SavedChange, who string) (all []Change, err error) {
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
		c := Change{At: at, Who: who, Node: l.node, Why: line.why(), Scope: scope, Until: line.Until, Keys: present.keyChanges(settings)}
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
		return nil, fmt.Errorf("%w: nothing is left to set", ErrNoEffect)
	}
	return all, nil
}

// why is the reason that is kept of a change that is set again.
func (s *SavedChange) why() string {
	if s.Who == "" {
		return s.Why
	}
	before := fmt.Sprintf("set before by %s at %s", s.Who, s.At.Format(time.DateTime+" -0700"))
	if s.Why == "" {
		return before
	}
	return s.Why + "; " + before
}
