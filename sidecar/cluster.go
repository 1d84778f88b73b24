package sidecar

import (
	"context"
	"strings"
	"time"
)

// What nodes share beside the counts is on the Board: the locks made with
// `sluice lock`, and the domains over their percentage of bad sends. Each node
// makes the board come true in its own directory when it changes, and looks
// once a second: what it has missed costs only time. The locks that Sluice makes
// at a limit need no word between nodes, each follows the shared counts; nor
// does a release, which is a new epoch of the counts.

// The keys of the board end in a domain.
const (
	lockKeys = "lock/"
	tripKeys = "trip/"
)

// Turned has a domain looked at: it was brought to a limit, released or reset,
// here or by another node.
func (p *Policy) Turned(subject string) {
	if isDomain(subject) {
		p.due.add(subject)
	}
}

// followBoard makes true what the board says of locks and trips, and tells it
// what it does not know yet.
func (p *Policy) followBoard(ctx context.Context, now time.Time) {
	if !p.clustered {
		return
	}
	p.followLocks(ctx)
	p.followTrips(ctx, now)
}

func (p *Policy) logLock(domain string, err error) {
	if err != nil {
		p.log.LockTrouble(domain, err)
	}
}

// followTrips trips domains that another node has tripped, and releases those
// that another one has released.
func (p *Policy) followTrips(ctx context.Context, now time.Time) {
	tripped := map[string]bool{}
	p.board.Entries(tripKeys, func(key string, _ []byte) { tripped[strings.TrimPrefix(key, tripKeys)] = true })
	for domain := range tripped {
		if !p.trips.has(domain) {
			p.log.TrippedElsewhere(domain)
			p.logLock(domain, p.trips.set(domain, now, p.epoch(now, domain)))
			p.due.add(domain)
		}
		p.logLock(domain, p.trips.share(domain))
	}
	for _, domain := range p.trips.domains() {
		switch {
		case tripped[domain]:
		case p.trips.isShared(domain):
			p.logLock(domain, p.trips.clear(domain))
			p.due.add(domain)
		default:
			p.logLock(domain, p.trips.outdate(domain, p.epoch(now, domain)))
			if p.trips.has(domain) {
				p.shareTrip(ctx, domain)
			} else {
				p.due.add(domain)
			}
		}
	}
}

// shareTrip tells all nodes that a domain has tripped.
func (p *Policy) shareTrip(ctx context.Context, domain string) {
	if !p.clustered {
		return
	}
	if _, err := p.board.Post(ctx, tripKeys+domain, []byte(p.settings.Load().Node)); err != nil {
		p.log.BoardFailed(err)
		return
	}
	p.logLock(domain, p.trips.share(domain))
}

// endTrip releases a domain here, and on all nodes.
func (p *Policy) endTrip(ctx context.Context, domain string) error {
	if p.clustered && p.trips.has(domain) {
		if err := p.board.Remove(ctx, tripKeys+domain); err != nil {
			p.log.BoardFailed(err) // the others find out by the counts
		}
	}
	return p.trips.clear(domain)
}

// epoch is when the counts of a domain began anew.
func (p *Policy) epoch(now time.Time, domain string) int64 {
	return p.store.Standing(p.clock.store(now), domain).Epoch
}

// restarted follows a reset that another node has made: locks of before it go.
func (p *Policy) restarted(domain string, epoch int64) {
	p.logLock(domain, p.trips.outdate(domain, epoch))
	before := false
	for _, f := range p.locks.Files(domain) {
		if !f.Operator && f.Epoch < epoch {
			before = true
			p.logLock(domain, p.locks.Unmake(f.Lock))
		}
	}
	if before {
		p.log.ResetElsewhere(domain)
		p.bads.forget(domain)
		p.holds.leave(domain)
	}
}
