package sidecar

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// due is the set of domains whose lock files are to be looked at.
type due struct {
	mu      *sync.Mutex
	domains map[string]bool
	wake    chan struct{}
}

func newDue() due {
	return due{new(sync.Mutex), map[string]bool{}, make(chan struct{}, 1)}
}

// add has domains looked at soon. It never waits: a question is being answered.
func (d *due) add(domains ...string) {
	if len(domains) == 0 {
		return
	}
	d.addAll(domains)
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *due) addAll(domains []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, domain := range domains {
		d.domains[domain] = true
	}
}

func (d *due) take() (all []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for domain := range d.domains {
		all = append(all, domain)
	}
	clear(d.domains)
	return all
}

// reconcile makes or removes the lock file of every domain that is due, and
// releases what is held and has room now. It returns how many domains were due.
func (p *Policy) reconcile(ctx context.Context, now time.Time) int {
	due := p.reconcileDue(ctx, now)
	for _, domain := range p.holds.withHolds() {
		p.startRelease(ctx, now, domain)
	}
	return due
}

func (p *Policy) reconcileDue(ctx context.Context, now time.Time) int {
	due := p.due.take()
	for _, domain := range due {
		if p.clustered {
			p.restarted(domain, p.epoch(now, domain))
		}
		err := errors.Join(p.reconcileLock(domain, p.clock.store(now)), p.reconcileTrip(ctx, now, domain))
		if err != nil {
			p.events.Emit(event.Event{Kind: event.LockTrouble, Domain: domain, Err: err})
		}
	}
	return len(due)
}

// reconcileLock makes max_hourly_ of a domain that is at its limit, and
// removes it when used < max again.
func (p *Policy) reconcileLock(domain string, at time.Time) error {
	lock := Lock{LockHourly, domain}
	var ours bool
	for _, f := range p.locks.Files(domain) {
		if f.Lock != lock {
			continue
		}
		if f.Operator {
			return nil // a hand's, whatever is counted
		}
		ours = true
	}
	use, full := p.fullest(domain, at)
	switch {
	case full && !ours:
		content := ratio(use.Used, use.Limit.Max)
		p.events.Emit(event.Event{Kind: event.LimitReached, Domain: domain, Attrs: event.Attrs("sent", content)})
		return p.locks.Make(lock, content, use.Epoch)
	case !full && ours:
		p.events.Emit(event.Event{Kind: event.LimitFreed, Domain: domain})
		return p.locks.Unmake(lock)
	}
	return nil
}

// fullest is the limit of a domain that is used up and enforced, if one is.
func (p *Policy) fullest(domain string, at time.Time) (ratelimit.Use, bool) {
	s := p.settings.Load()
	if u, full := s.full(p.store.Standing(at, domain)); full && s.enforces(domain) {
		return u, true
	}
	return ratelimit.Use{}, false
}

// enforces tells whether limits refuse a domain, and not only watch it.
func (s *Settings) enforces(domain string) bool {
	who := s.owned(domain)
	return !(s.watches && s.watched(who, domain)) && !s.exemptScope(who)
}

// dueAtStart finds the domains at their limit whose lock file a crash may have
// prevented.
func (p *Policy) dueAtStart(now time.Time) {
	at := p.clock.store(now)
	p.store.Standings(at, func(s ratelimit.Standing) bool {
		if isDomain(s.Name) {
			if _, full := p.fullest(s.Name, at); full {
				p.due.add(s.Name)
			}
		}
		return true
	})
}

// isDomain tells the subject of a domain from those of mailboxes and accounts.
func isDomain(subject string) bool {
	return !strings.Contains(subject, "@") && !isAccount(subject)
}

// accountPrefix begins the name of an account's subject.
const accountPrefix = "account:"

func isAccount(subject string) bool { return strings.HasPrefix(subject, accountPrefix) }

// titleOf names a subject as refusals do.
func titleOf(subject string) string {
	switch account, ok := strings.CutPrefix(subject, accountPrefix); {
	case ok:
		return "Account " + account
	case isDomain(subject):
		return "Domain " + subject
	}
	return "Mailbox " + subject
}

// lockedDomains lists the domains that have a lock file of ours.
func (p *Policy) lockedDomains() (domains []string) {
	for _, f := range p.locks.Files("") {
		if !f.Operator {
			domains = append(domains, f.Domain)
		}
	}
	return domains
}

// LockEvent takes in what a hand did in the lock directory.
func (p *Policy) LockEvent(ctx context.Context, now time.Time, e LockEvent) {
	if e.Kind != LockReleased {
		p.events.Emit(e.Event())
		return
	}
	// A hand that removes a lock of ours means the counts it stood for, not
	// those since; one that removes its own means all.
	seen := e.File.Epoch
	switch {
	case e.File.Operator:
		seen = -1
		p.endOrder(ctx, e.File.Domain)
	case p.store.Standing(p.clock.store(now), e.File.Domain).Epoch > seen:
		p.events.Emit(event.Event{Kind: event.LockRemovedLate, Domain: e.File.Domain, Attrs: event.Attrs("lock", string(e.File.Kind))})
		p.due.add(e.File.Domain)
		return
	}
	p.events.Emit(e.Event())
	if err := p.restart(ctx, now, e.File.Domain, seen); err != nil {
		p.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
}

// restart lets a domain start at zero: its counts, its refusals and all locks
// that Sluice made for it.
func (p *Policy) restart(ctx context.Context, now time.Time, domain string, seen int64) error {
	_, err := p.store.Reset(ctx, p.clock.store(now), domain, seen)
	p.bads.forget(domain)
	err = errors.Join(err, p.endTrip(ctx, domain))
	for _, f := range p.locks.Files(domain) {
		if !f.Operator {
			if err := p.locks.Unmake(f.Lock); err != nil {
				p.events.Emit(event.Event{Kind: event.LockTrouble, Domain: domain, Err: err})
			}
		}
	}
	p.holds.leave(domain)
	p.due.add(domain) // and what was held goes out
	return err
}
