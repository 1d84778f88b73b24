package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/ratelimit"
)

// A Result is what an Order did, or with Preview would do.
type Result struct {
	Change  Change   `json:"change"`
	Effects []Effect `json:"effects"` // at once, on what is counted now
	Warning string   `json:"warning"` // of a scope that may be a typo; else empty
}

// An Effect is that somebody is refused from now on, or no more.
type Effect struct {
	Scope   string `json:"scope"`
	Refused bool   `json:"refused"` // now; otherwise released
	Sent    int64  `json:"sent"`
	Limit   int64  `json:"limit"` // the one that refuses, or did; 0 where it is the defer and failure percentage
	Text    string `json:"text"`  // "20/20 (100%)", as in a lock file
}

// Change carries out an order, once it was looked at whether its scope may be a typo.
func (p *Policy) Change(ctx context.Context, now time.Time, o Order) (r Result, err error) {
	if scope, _, bad := parseOrder(o); bad == nil && len(o.Set) > 0 {
		if r.Warning, err = p.doubt(now, scope); err != nil {
			return Result{}, err
		}
	}
	before, after := p.settings.Load(), (*Settings)(nil)
	if o.Preview {
		r.Change, after, err = p.settings.Preview(now, o)
	} else {
		r.Change, err = p.settings.Change(ctx, now, o)
		after = p.settings.Load()
	}
	if err != nil {
		return Result{}, err
	}
	r.Effects = p.effects(now, before, after)
	return r, nil
}

// swapped has a domain looked at that other settings refuse or let go.
func (p *Policy) swapped(now time.Time, before, after *Settings) {
	for _, e := range p.effects(now, before, after) {
		if who := after.named(e.Scope); who.domain != "" {
			p.loop.Look(who.domain)
		}
	}
}

// effects compares who is refused under two settings, by what is counted now.
func (p *Policy) effects(now time.Time, before, after *Settings) []Effect {
	all := []Effect{}
	p.store.Standings(p.clock.Store(now), func(st ratelimit.Standing) bool {
		was, is := p.verdict(before, st), p.verdict(after, st)
		switch {
		case was.Refused == is.Refused:
		case is.Refused:
			all = append(all, is)
		default:
			was.Refused = false
			all = append(all, was)
		}
		return true
	})
	slices.SortFunc(all, func(a, b Effect) int { return cmp.Compare(a.Scope, b.Scope) })
	return all
}

// verdict tells whether the next send of a subject would be refused.
func (p *Policy) verdict(s *Settings, st ratelimit.Standing) Effect {
	e := Effect{Scope: st.Name}
	who := s.named(st.Name)
	if s.mode(who, st.Name) != Enforce {
		return e
	}
	if u, full := s.full(st); full {
		return Effect{st.Name, true, u.Used, u.Limit.Max, ratio(u.Used, u.Limit.Max)}
	}
	if isDomain(st.Name) && hasBad(st) {
		if d := s.deferfailOf(st); d.over() || p.deferfail.trips.has(st.Name) && !d.calm() {
			return Effect{Scope: st.Name, Refused: true, Sent: d.sent, Text: d.ratio()}
		}
	}
	return e
}

// History lists the changes, the last first: of one scope, or all for "".
func (p *Policy) History(now time.Time, scope string) ([]Change, error) {
	return p.settings.History(now, scope)
}

// Export lists what is set live; see Live.
func (p *Policy) Export(now time.Time, scope string, left bool) ([]SavedChange, error) {
	return p.settings.Export(now, scope, left)
}

// mostDoubted bounds how many scopes of an import are doubted: each takes a look at all
// that is counted.
const mostDoubted = 20

// Import sets what was saved, all or nothing, but for what would have ended by now.
func (p *Policy) Import(ctx context.Context, now time.Time, lines []SavedChange, who string, preview bool) (r Import, err error) {
	r = Import{Expired: []string{}, Warnings: []string{}}
	var last []SavedChange
	for _, line := range lines {
		if !line.Until.IsZero() && !now.Before(line.Until) {
			r.Expired = append(r.Expired, line.Place)
		} else {
			last = append(last, line)
		}
	}
	var wrong error
	r.Warnings, wrong = p.doubtAll(now, last)
	before, after := p.settings.Load(), (*Settings)(nil)
	if preview || wrong != nil {
		r.Changes, after, err = p.settings.PreviewImport(now, last, who)
	} else {
		r.Changes, err = p.settings.Import(ctx, now, last, who)
		after = p.settings.Load()
	}
	if err = errors.Join(err, wrong); err != nil {
		return Import{}, err
	}
	r.Effects = p.effects(now, before, after)
	return r, nil
}

// doubtAll doubts the scopes of what is to be set, each once.
func (p *Policy) doubtAll(now time.Time, lines []SavedChange) (warnings []string, err error) {
	warnings = []string{}
	doubted := map[string]bool{}
	for _, line := range lines {
		scope, _, bad := ParseSettings(line.Scope, line.Set)
		if bad != nil || doubted[scope] || len(warnings) == mostDoubted {
			continue
		}
		doubted[scope] = true
		warning, wrong := p.doubt(now, scope)
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", line.Place, wrong))
		} else if warning != "" {
			warnings = append(warnings, line.Place+": "+warning)
		}
	}
	return warnings, err
}
