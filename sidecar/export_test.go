package sidecar

import (
	"context"
	"time"
)

// Tend is what Run does every second.
func (p *Policy) Tend(now time.Time) { p.tend(now) }

// Reconcile is what Run does every second, but for releases.
func (p *Policy) Reconcile(ctx context.Context, now time.Time) {
	p.due.addAll(p.lockedDomains())
	p.due.addAll(p.trips.domains())
	p.reconcileDue(ctx, now)
}

// Wake is what Run does as soon as a domain is due.
func (p *Policy) Wake(ctx context.Context, now time.Time) { p.reconcileDue(ctx, now) }

// Reload is what Run does when another node has changed something.
func (p *Policy) Reload(now time.Time) { p.settings.Reload(now) }
