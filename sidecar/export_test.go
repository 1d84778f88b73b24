package sidecar

import (
	"context"
	"time"
)

// Tend is what Run does every second.
func (p *Policy) Tend(now time.Time) { p.loop.watch(now); p.tick(context.Background(), now) }

// Reconcile is what Run does every second, but for releases and other nodes.
func (p *Policy) Reconcile(ctx context.Context, now time.Time) {
	p.lockFiles.tick(ctx, now)
	p.deferfail.tick(ctx, now)
	p.loop.Step(ctx, now)
}

// Wake is what Run does as soon as a domain is due.
func (p *Policy) Wake(ctx context.Context, now time.Time) { p.loop.Step(ctx, now) }

// ShowUsage is what Run does every ten seconds.
func (p *Policy) ShowUsage(now time.Time) { p.loop.Survey(now) }

// Reload is what Run does when another node has changed something.
func (p *Policy) Reload(now time.Time) { p.settings.Reload(now) }
