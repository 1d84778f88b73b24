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
)

// Status tells of one domain, or of all that have a count, a lock or something
// held for "". The fullest come first. It wraps ErrNotFound for a domain of
// which nothing is known.
func (p *Policy) Status(ctx context.Context, now time.Time, domain string) (Status, error) {
	s := Status{Node: p.settings.Load().Node, Now: now, Domains: []DomainStatus{}, Totals: p.status()}
	if domain != "" {
		d, known := p.domainStatus(ctx, now, domain)
		if !known {
			return s, fmt.Errorf("%w: it has sent nothing in the last hour, and nothing of it is locked or held", ErrNotFound)
		}
		s.Domains = append(s.Domains, d)
		return s, nil
	}
	for name := range p.domains(now) {
		if d, known := p.domainStatus(ctx, now, name); known {
			s.Domains = append(s.Domains, d)
		}
	}
	slices.SortFunc(s.Domains, func(a, b DomainStatus) int {
		return cmp.Or(len(b.Locks)-len(a.Locks), int(b.HourlyPercent-a.HourlyPercent), cmp.Compare(a.Domain, b.Domain))
	})
	return s, nil
}

func (p *Policy) domains(now time.Time) map[string]bool {
	names := map[string]bool{}
	p.store.Standings(p.clock.store(now), func(s ratelimit.Standing) bool {
		if isDomain(s.Name) {
			names[s.Name] = true
		}
		return true
	})
	for _, f := range p.locks.Files("") {
		names[f.Domain] = true
	}
	for _, domain := range p.holds.withHolds() {
		names[domain] = true
	}
	return names
}

func (p *Policy) domainStatus(ctx context.Context, now time.Time, domain string) (d DomainStatus, known bool) {
	at := p.clock.store(now)
	settings := p.settings.Load()
	who := identity{domain: domain}
	standing := p.store.Standing(at, domain)
	d = DomainStatus{Domain: domain, Account: settings.owners.get().account[domain], Refused: standing.Refused, Locks: []LockStatus{}, Held: p.holds.numberIn(domain),
		DeferfailPercent: settings.cascade(who, func(t Thresholds) *int64 { return t.DeferfailPercent }),
		DeferfailMin:     settings.cascade(who, func(t Thresholds) *int64 { return t.DeferfailMin }),
	}
	for _, w := range standing.Windows {
		if w.Window == settings.limits.Window {
			d.Sent, d.Delivered, d.Deferred, d.Failed = w.Sent, w.Delivered, w.Deferred, w.Failed
		}
	}
	if d.Sent > 0 {
		d.DeferfailNow = (d.Deferred + d.Failed) * 100 / d.Sent
	}
	for _, u := range p.uses(domain, at) {
		if u.Limit.Window == settings.limits.Window && u.Limit.Max > 0 {
			d.Hourly, d.HourlyPercent = u.Limit.Max, u.Used*100/u.Limit.Max
		}
	}
	if !p.lockedByHand(domain) {
		d.FreesAt = p.frees(ctx, now, who)
	}
	for _, f := range p.locks.Files(domain) {
		l := LockStatus{Kind: f.Kind, Since: f.Since, Owner: "sluice", Until: d.FreesAt}
		if f.Operator {
			l.Owner, l.Until = "operator", nil
		}
		d.Locks = append(d.Locks, l)
	}
	return d, d.Sent+d.Refused > 0 || len(d.Locks) > 0 || d.Held > 0
}

// frees is when the next send of somebody is accepted; nil if it would be now.
func (p *Policy) frees(ctx context.Context, now time.Time, who identity) *time.Time {
	result, err := p.store.Look(ctx, p.clock.store(now), ratelimit.Take{Subjects: p.settings.Load().subjects(who)})
	if err != nil || result.OK {
		return nil
	}
	var last time.Time
	for _, u := range result.Uses {
		if u.Full && u.Frees.After(last) {
			last = u.Frees
		}
	}
	wall := p.clock.wall(now, last)
	return &wall
}

func (p *Policy) status() Totals {
	t := Totals{
		Accepted:     p.totals.accepted.Load(),
		Refused:      p.totals.refused.Load(),
		Exempt:       p.totals.exempt.Load(),
		Unidentified: p.totals.unidentified.Load(),
		Held:         int64(p.holds.number()),
		Journal:      "ok",
		Locks:        "ok",
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

// Lock locks a domain until a hand unlocks it.
func (p *Policy) Lock(_ context.Context, _ time.Time, domain, who string) error {
	p.log.Operator(who, "lock", domain)
	if err := p.locks.MakeOperator(Lock{LockHourly, domain}, "locked by "+who+"\n"); err != nil {
		return err
	}
	if err := p.locks.Failure(); err != nil {
		return fmt.Errorf("%s is refused from now on, but not while sluice is stopped: %w", domain, err)
	}
	return nil
}

// Unlock removes every lock file of a domain and lets it start at zero. It
// wraps ErrNotFound for a domain of which nothing is known, and may be a typo.
func (p *Policy) Unlock(ctx context.Context, now time.Time, domain, who string) error {
	if _, known := p.domainStatus(ctx, now, domain); !known {
		return fmt.Errorf("%w: nothing of it is counted, locked or held", ErrNotFound)
	}
	p.log.Operator(who, "unlock", domain)
	var errs []error
	for _, f := range p.locks.Files(domain) {
		errs = append(errs, p.locks.Remove(f.Lock))
	}
	return errors.Join(append(errs, p.restart(ctx, now, domain, -1))...)
}

// Reset lets a domain, an account or a mailbox start at zero. Of a domain all
// locks that Sluice made go too; those of operators stay. It wraps ErrNotFound
// for a scope of which nothing is known.
func (p *Policy) Reset(ctx context.Context, now time.Time, scope, who string) error {
	if isDomain(scope) {
		if _, known := p.domainStatus(ctx, now, scope); !known {
			return fmt.Errorf("%w: nothing of it is counted, locked or held", ErrNotFound)
		}
		p.log.Operator(who, "reset", scope)
		return p.restart(ctx, now, scope, -1)
	}
	if len(p.store.Standing(p.clock.store(now), scope).Windows) == 0 {
		return fmt.Errorf("%w: nothing of it is counted; mailboxes and accounts are from when a limit names them", ErrNotFound)
	}
	p.log.Operator(who, "reset", scope)
	_, err := p.store.Reset(ctx, p.clock.store(now), scope, -1)
	if _, domain, ok := strings.Cut(scope, "@"); ok {
		p.due.add(domain)
	}
	return err
}
