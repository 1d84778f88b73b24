package engine

import (
	"context"
	"time"
)

// Tend is what Run does every second.
func (p *Engine) Tend(now time.Time) { p.loop.Watch(now); p.tick(context.Background(), now) }

// Reconcile is what Run does every second, but for releases and other nodes.
func (p *Engine) Reconcile(ctx context.Context, now time.Time) {
	p.lockFiles.Tick(ctx, now)
	p.deferfail.Tick(ctx, now)
	p.loop.Step(ctx, now)
}

// Wake is what Run does as soon as a domain is due.
func (p *Engine) Wake(ctx context.Context, now time.Time) { p.loop.Step(ctx, now) }

// ShowUsage is what Run does every ten seconds.
func (p *Engine) ShowUsage(now time.Time) { p.loop.Survey(now) }

// Reload is what Run does when another node has changed something.
func (p *Engine) Reload(now time.Time) { p.Settings.Reload(now) }
