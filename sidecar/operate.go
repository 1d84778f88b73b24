package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// Status tells of one domain, mailbox or account, or of all that have a count,
// a lock or something held for "". The fullest come first. It wraps ErrNotFound
// for a scope of which nothing is known.
func (p *Policy) Status(ctx context.Context, now time.Time, scope string) (Status, error) {
	s := Status{Node: p.settings.Load().Node, Now: now, Domains: []DomainStatus{}, Scopes: []ScopeStatus{}, Totals: p.status(), Config: p.settings.Status()}
	names := map[string]bool{scope: true}
	if scope == "" {
		names = p.subjects(now)
	}
	for name := range names {
		if !isDomain(name) {
			if sc, known := p.scopeStatus(ctx, now, name); known {
				s.Scopes = append(s.Scopes, sc)
			}
		} else if d, known := p.domainStatus(ctx, now, name); known || d.Stopped != "" {
			s.Domains = append(s.Domains, d)
		}
	}
	if scope != "" && len(s.Domains)+len(s.Scopes) == 0 {
		return s, p.notFound(now, scope)
	}
	slices.SortFunc(s.Domains, func(a, b DomainStatus) int {
		return cmp.Or(len(b.Locks)-len(a.Locks), tighter(a.Windows, b.Windows), cmp.Compare(a.Domain, b.Domain))
	})
	slices.SortFunc(s.Scopes, func(a, b ScopeStatus) int {
		return cmp.Or(tighter(a.Windows, b.Windows), cmp.Compare(a.Scope, b.Scope))
	})
	return s, nil
}

// notFound says that nothing is known of a scope, and what would be.
func (p *Policy) notFound(now time.Time, scope string) error {
	if isDomain(scope) {
		return fmt.Errorf("%w: nothing of it is counted, locked or held%s", ErrNotFound, p.hint(now, scope))
	}
	return fmt.Errorf("%w: nothing of it is counted or held; mailboxes and accounts are counted from when a limit names them%s", ErrNotFound, p.hint(now, scope))
}

func tighter(a, b []Window) int { return cmp.Compare(Tightest(b).Percent, Tightest(a).Percent) }

// subjects are all of whom there may be something to tell.
func (p *Policy) subjects(now time.Time) map[string]bool {
	names := map[string]bool{}
	p.store.Standings(p.clock.Store(now), func(s ratelimit.Standing) bool {
		names[s.Name] = true
		return true
	})
	for _, f := range p.locks.Files("") {
		names[f.Domain] = true
	}
	for _, domain := range p.holds.Domains() {
		names[domain] = true
	}
	for scope := range p.settings.Load().stops {
		names[scope] = true
	}
	return names
}

// scopeStatus tells of a mailbox or an account. It is known while a limit names
// it, and longer while what it sent is counted or nothing of it may go.
func (p *Policy) scopeStatus(ctx context.Context, now time.Time, name string) (s ScopeStatus, known bool) {
	standing := p.store.Standing(p.clock.Store(now), name)
	settings := p.settings.Load()
	limits := settings.limitsOf(name)
	who := settings.named(name)
	s = ScopeStatus{Scope: name, Refused: standing.Refused, Partial: standing.Partial, Windows: windows(standing, limits), Mode: settings.mode(who, name),
		FreesAt: p.frees(ctx, now, ratelimit.Subject{Name: name, Limits: limits, Watched: settings.watched(who, name)})}
	s.Stopped, s.StoppedBy = p.stopped(now, who)
	return s, len(s.Windows) > 0 || s.Stopped != ""
}

// stopped is what is answered for somebody while a hand or the panel lets nothing
// go, and which of the two; "" if neither does.
func (p *Policy) stopped(now time.Time, who identity) (text, by string) {
	if b, blocked := p.blockOf(now, Author{}, who); blocked && b.By != ByDeferfail {
		return b.Text(b.SMTP), b.By
	}
	return "", ""
}

func counted(all []Window) bool {
	return slices.ContainsFunc(all, func(w Window) bool { return w.Sent > 0 })
}

// windows are the limits of a subject with what is used of each, and then the
// windows in which something is counted and nothing limited any more.
func windows(st ratelimit.Standing, limits []ratelimit.Limit) []Window {
	all := []Window{}
	for _, l := range limits {
		w := Window{Seconds: l.Window.Seconds(), Sent: st.Sent(l.Window), Limit: l.Max}
		if l.Max > 0 {
			w.Percent = w.Sent * 100 / l.Max
		}
		all = append(all, w)
	}
	for _, w := range st.Windows {
		limited := slices.ContainsFunc(limits, func(l ratelimit.Limit) bool { return l.Window == w.Window })
		if !limited && w.Sent > 0 {
			all = append(all, Window{Seconds: w.Window.Seconds(), Sent: w.Sent})
		}
	}
	return all
}

func (p *Policy) domainStatus(ctx context.Context, now time.Time, domain string) (d DomainStatus, known bool) {
	at := p.clock.Store(now)
	settings := p.settings.Load()
	who := settings.owned(domain)
	standing := p.store.Standing(at, domain)
	d = DomainStatus{Domain: domain, Account: who.account, Refused: standing.Refused, Partial: standing.Partial, Locks: []LockStatus{}, Held: p.holds.NumberIn(domain),
		Mode: settings.mode(who, domain)}
	d.DeferfailMin, d.DeferfailPercent = settings.deferfailLimits(who)
	_, blocked := p.blockOf(now, Author{}, who)
	d.Stopped, d.StoppedBy = p.stopped(now, who)
	for _, w := range standing.Windows {
		if w.Window == settings.window {
			d.Sent, d.Delivered, d.Deferred, d.Failed = w.Sent, w.Delivered, w.Deferred, w.Failed
			d.DeferfailNow = w.Bad() * 100 / max(1, w.Sent)
		}
	}
	d.Causes, d.LeftOut = p.deferfail.bads.causes(domain)
	limits := settings.limitsOf(domain)
	d.Windows = windows(standing, limits)
	d.Hourly, d.HourlyPercent = d.Windows[0].Limit, d.Windows[0].Percent // a domain always has this one
	if !blocked && settings.enforces(domain) {
		d.FreesAt = p.frees(ctx, now, ratelimit.Subject{Name: domain, Limits: limits})
	}
	for _, f := range p.locks.Files(domain) {
		l := LockStatus{Kind: f.Kind, Since: f.Since, Owner: "sluice", Until: d.FreesAt}
		if f.Kind == LockDeferFail {
			l.Until = nil // that depends on what becomes of the mail
		}
		if f.Operator {
			l.Owner, l.Until = "operator", nil
		}
		d.Locks = append(d.Locks, l)
	}
	return d, counted(d.Windows) || d.Refused > 0 || len(d.Locks) > 0 || d.Held > 0
}

// frees is when the next send of a subject is accepted; nil if it would be now.
func (p *Policy) frees(ctx context.Context, now time.Time, subject ratelimit.Subject) *time.Time {
	result, err := p.store.Look(ctx, p.clock.Store(now), ratelimit.Take{Subjects: []ratelimit.Subject{subject}})
	if err != nil || result.OK {
		return nil
	}
	var last time.Time
	for _, u := range result.Uses {
		if u.Full && u.Frees.After(last) {
			last = u.Frees
		}
	}
	wall := p.clock.Wall(now, last)
	return &wall
}

func (p *Policy) status() Totals {
	t := Totals{
		Accepted:     p.totals.accepted.Load(),
		Refused:      p.totals.refused.Load(),
		Exempt:       p.totals.exempt.Load(),
		Unidentified: p.totals.unidentified.Load(),
		Late:         p.totals.late.Load(),
		Watched:      p.totals.watched.Load(),
		Held:         int64(p.holds.Number()),
		Journal:      "ok",
		Locks:        "ok",
	}
	if progress := p.progress.Load(); progress != nil {
		t.Logs = (*progress)()
	}
	if shared := p.shared.Load(); shared != nil {
		st := (*shared)()
		t.Shared = &st
	}
	t.Subjects, t.Sends, t.Uncounted = p.store.Size()
	if err := p.store.Failure(); err != nil {
		t.Journal = err.Error()
	}
	if err := p.locks.Failure(); err != nil {
		t.Locks = err.Error()
	}
	return t
}

// ShowShared has Status tell how the store is that nodes share.
func (p *Policy) ShowShared(of func() SharedStatus) { p.shared.Store(&of) }

// Lock locks a domain until a hand unlocks it, on all nodes. It warns if nothing
// is known of that domain, which may be a typo, or if other nodes do not know yet.
func (p *Policy) Lock(ctx context.Context, now time.Time, domain, who string) (warning string, err error) {
	if warning, err = p.doubt(now, domain); err != nil {
		return "", err
	}
	p.events.Emit(event.Event{Kind: event.Command, Attrs: event.Attrs("who", who, "command", "lock", "scope", domain)})
	if err := p.lockFiles.LockForAll(ctx, domain, who); err != nil {
		return "", err
	}
	if err := p.locks.Failure(); err != nil {
		return "", fmt.Errorf("%s is refused from now on, but not while sluice is stopped: %w", domain, err)
	}
	if p.lockFiles.orders()[domain].State == orderNew {
		warning = strings.TrimPrefix(warning+"; the other nodes cannot be told now, and are as soon as they can", "; ")
	}
	return warning, nil
}

// Unlock removes every lock file of a domain and lets it start at zero, on all
// nodes; only files that a hand made on another one stay there. It
// wraps ErrNotFound for a domain of which nothing is known, and may be a typo,
// and ErrStopped for one that the panel goes on to stop.
func (p *Policy) Unlock(ctx context.Context, now time.Time, domain, who string) error {
	settings := p.settings.Load()
	_, by := settings.stopOf(settings.owned(domain))
	if _, known := p.domainStatus(ctx, now, domain); !known && by.Place == "" {
		return p.notFound(now, domain)
	}
	p.events.Emit(event.Event{Kind: event.Command, Attrs: event.Attrs("who", who, "command", "unlock", "scope", domain)})
	err := p.lockFiles.UnlockForAll(ctx, domain)
	err = errors.Join(err, p.loop.Reset(ctx, now, domain, -1))
	if err == nil && by.Place != "" {
		return fmt.Errorf("%w: its locks are gone and it starts at zero, but %s %s it, and only there that can be taken back", ErrStopped, by.Place, by.verb())
	}
	return err
}

// Reset lets a domain, an account or a mailbox start at zero. Of a domain all
// locks that Sluice made go too; those of operators stay. It wraps ErrNotFound
// for a scope of which nothing is known.
func (p *Policy) Reset(ctx context.Context, now time.Time, scope, who string) error {
	if isDomain(scope) {
		if _, known := p.domainStatus(ctx, now, scope); !known {
			return p.notFound(now, scope)
		}
		p.events.Emit(event.Event{Kind: event.Command, Attrs: event.Attrs("who", who, "command", "reset", "scope", scope)})
		return p.loop.Reset(ctx, now, scope, -1)
	}
	if len(p.store.Standing(p.clock.Store(now), scope).Windows) == 0 {
		return p.notFound(now, scope)
	}
	p.events.Emit(event.Event{Kind: event.Command, Attrs: event.Attrs("who", who, "command", "reset", "scope", scope)})
	_, err := p.store.Reset(ctx, p.clock.Store(now), scope, -1)
	if _, domain, ok := strings.Cut(scope, "@"); ok {
		p.loop.Look(domain)
	}
	return err
}
