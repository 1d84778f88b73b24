package engine

import (
	"context"
	"time"

	"sluice/sidecar/reconcile"
)

// AddOwner adds an owner, as New does.
func (e *Engine) AddOwner(o reconcile.Owner) { e.loop.Add(o) }

// Tend is what Run does every second with the clock and the settings.
func (e *Engine) Tend(now time.Time) { e.loop.Watch(now); e.tick(context.Background(), now) }

// Reconcile is what Run does every second, but for releases and other nodes.
func (e *Engine) Reconcile(ctx context.Context, now time.Time) {
	e.Locks.Tick(ctx, now)
	e.Deferfail.Tick(ctx, now)
	e.loop.Step(ctx, now)
}

// ShowUsage is what Run does every ten seconds.
func (e *Engine) ShowUsage(now time.Time) { e.loop.Survey(now) }

// Follow is what Run does when another node has changed something.
func (e *Engine) Follow(ctx context.Context, now time.Time) {
	e.Locks.Follow(ctx, now)
	e.Stopped.Follow(ctx, now)
	e.Deferfail.Follow(ctx, now)
}

// Reload is what Run does when another node has changed something.
func (e *Engine) Reload(now time.Time) { e.Settings.Reload(now) }

// Past is what Run does every second with what has happened, and at the start if that is so.
func (e *Engine) Past(ctx context.Context, now time.Time, start bool) {
	if start {
		e.findCauses(now)
	}
	e.past.record(ctx, now)
	e.past.log.Tick(ctx, now)
	e.past.incidents.Tick(ctx, now)
}
