package sidecar

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// An Order is what an operator wants changed.
type Order struct {
	Scope    string        // as commands take it
	Set      []string      // KEY=VALUE
	Unset    []string      // keys; with Set empty, none is all that are set live
	Rollback int64         // number of a change; then nothing else is there
	For      time.Duration // after which it goes by itself; 0 is never
	Why      string
	Who      string
	Preview  bool // change nothing, and only tell the effects
}

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

// Bounds on what a change can be.
const (
	LongestChange = 10 * 366 * day // that --for can be
	longestWhy    = 500            // bytes
)

// thresholds are what Settings are made of.
type thresholds struct {
	mu    sync.Mutex // held while they change
	from  sources
	until time.Time // when the next live one expires; zero: none does
	trail trail     // as it was read last

	since map[string]time.Time // when counts began; see since.go
}

// Change carries out an order. Counts stay. What it says of a wrong one is for
// whoever gave it; nothing is changed then.
func (p *Policy) Change(ctx context.Context, now time.Time, o Order) (Result, error) {
	p.thresholds.mu.Lock()
	defer p.thresholds.mu.Unlock()
	if o.For < 0 || o.For > LongestChange || len(o.Why) > longestWhy {
		return Result{}, fmt.Errorf("--for must be from 1s to %d days, and --why at most %d bytes long", LongestChange/day, longestWhy)
	}
	var warning string
	if len(o.Set) > 0 {
		scope, _, err := parseOrder(o)
		if err != nil {
			return Result{}, err
		}
		if warning, err = p.doubt(now, scope); err != nil {
			return Result{}, err
		}
	}
	draft := func(t trail) (Change, error) { return p.draft(t, now, o) }
	if o.Preview {
		t := readTrail(p.board, p.events)
		c, err := draft(t)
		if err != nil {
			return Result{}, err
		}
		c.Number = t.last() + 1
		settings, _ := p.compile(append(t, c), now)
		return Result{c, p.effects(now, p.settings.Load(), settings), warning}, nil
	}
	c, err := p.post(ctx, draft)
	if err != nil {
		return Result{}, err
	}
	p.emitChanged(c)
	effects := p.load(now)
	p.trim(ctx, now)
	return Result{c, effects, warning}, nil
}

// trim has old changes go that have no effect any more.
func (p *Policy) trim(ctx context.Context, now time.Time) {
	for _, number := range p.thresholds.trail.spent(now, keepChanges) {
		if err := p.board.Remove(ctx, trailKey(number)); err != nil {
			p.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
			return
		}
	}
}

// draft makes a change of an order.
func (p *Policy) draft(t trail, now time.Time, o Order) (c Change, err error) {
	c = Change{At: now.Round(0).Truncate(time.Millisecond), Who: o.Who, Node: p.settings.Load().Node, Why: o.Why, mark: rand.Text()}
	if o.For > 0 {
		c.Until = c.At.Add(o.For)
	}
	if o.Rollback != 0 {
		undone, err := t.find(o.Rollback, now)
		c.Scope, c.Undoes, c.Until = undone.Scope, o.Rollback, time.Time{}
		for _, k := range undone.Keys {
			c.Keys = append(c.Keys, KeyChange{Key: k.Key, From: k.To, To: k.From})
		}
		return c, err
	}
	scope, settings, err := parseOrder(o)
	if err != nil {
		return c, err
	}
	c.Scope = scope
	present := p.settings.Load()
	if len(settings) == 0 { // unset all
		for _, s := range present.scopes[scope].live() {
			settings = append(settings, Setting{Scope: scope, Key: s.Key})
		}
	}
	for _, s := range settings {
		own := present.scopes[scope].set(s.Key)
		if s.Value == nil && (own == nil || own.Layer != LayerLive) {
			return c, fmt.Errorf("%w: %s of %s is not set by `sluice set`", ErrNoEffect, s.Key, scope)
		}
		c.Keys = append(c.Keys, KeyChange{Key: s.Key, From: present.valueOf(s.Key, scope), To: s.Value})
	}
	if len(c.Keys) == 0 {
		return c, fmt.Errorf("%w: nothing of %s is set by `sluice set`", ErrNoEffect, scope)
	}
	return c, nil
}

// parseOrder reads what is to be set, or with values nil to be unset.
func parseOrder(o Order) (scope string, settings []Setting, err error) {
	if len(o.Set) > 0 {
		return ParseSettings(o.Scope, o.Set)
	}
	if scope, err = CanonicalScope(o.Scope); err != nil {
		return "", nil, err
	}
	for _, key := range o.Unset {
		if _, err := new(Thresholds).key(key); err != nil {
			return "", nil, err
		}
		settings = append(settings, Setting{Scope: scope, Key: key})
	}
	return scope, settings, nil
}

// live lists what is set live for a scope.
func (s *scoped) live() (all []*Setting) {
	if s == nil {
		return nil
	}
	for _, setting := range s.from {
		if setting.Layer == LayerLive {
			all = append(all, setting)
		}
	}
	return all
}

// compile makes settings with live values as a trail has them.
func (p *Policy) compile(t trail, now time.Time) (*Settings, judged) {
	j := t.judge(now)
	from := p.thresholds.from
	from.live = j.settings
	before := p.settings.Load()
	s, err := newSettings(from, before.Node, before.EximUser, before)
	if err != nil {
		p.events.Emit(event.Event{Kind: event.FileUnread, Err: err})
	}
	return s, j
}

// load puts in force what the thresholds are now. thresholds.mu is held.
func (p *Policy) load(now time.Time) []Effect {
	p.thresholds.trail = readTrail(p.board, p.events)
	s, j := p.compile(p.thresholds.trail, now)
	before := p.settings.Swap(s)
	p.thresholds.until = j.next
	p.noteSince(now, s)
	effects := p.effects(now, before, s)
	for _, e := range effects {
		if who := s.named(e.Scope); who.domain != "" {
			p.loop.Look(who.domain)
		}
	}
	return effects
}

// reload puts in force what other nodes have changed. Most of what changes on the
// board is not the trail.
func (p *Policy) reload(now time.Time) {
	p.thresholds.mu.Lock()
	defer p.thresholds.mu.Unlock()
	if known := p.thresholds.trail; readTrail(p.board, p.events).last() != known.last() {
		p.load(now)
	}
}

// expire ends what was set for a time.
func (p *Policy) expire(now time.Time) {
	p.thresholds.mu.Lock()
	defer p.thresholds.mu.Unlock()
	if until := p.thresholds.until; !until.IsZero() && !now.Before(until) {
		p.events.Emit(event.Event{Kind: event.Expired})
		p.load(now)
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
	if scope != "" {
		var err error
		if scope, err = CanonicalScope(scope); err != nil {
			return nil, err
		}
	}
	t := readTrail(p.board, p.events)
	states := t.judge(now).states
	all := []Change{}
	for _, c := range slices.Backward(t) {
		if scope == "" || c.Scope == scope {
			c.State = states[c.Number]
			all = append(all, c)
		}
	}
	return all, nil
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
		if v == 0 && isLimit(key) {
			return unlimited
		}
	}
	return fmt.Sprint(v)
}
