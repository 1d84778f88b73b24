package sidecar

import (
	"context"
	"sync"
	"time"

	"sluice/ratelimit"
)

// Exim delivers what is released in two processes at a time with twenty
// messages each: enough to empty a queue soon, and too few to load the host.
const (
	releaseProcesses = 2
	releaseMessages  = 20
)

// startRelease has what is held of a domain delivered, unless that is under
// way already or there is no room.
func (p *Policy) startRelease(ctx context.Context, now time.Time, domain string) {
	if len(p.releasable(ctx, now, domain, nil)) == 0 || !p.holds.begin(domain) {
		return
	}
	p.releases.Go(func() {
		defer p.holds.end(domain)
		p.release(ctx, domain)
	})
}

// release has Exim deliver held messages, the oldest first, until the limit is
// reached again. Each is tried once; the router asks about it as always.
func (p *Policy) release(ctx context.Context, domain string) {
	tried := map[string]bool{}
	before := p.holds.numberIn(domain)
	for ctx.Err() == nil {
		start := time.Now()
		ids := p.releasable(ctx, start, domain, tried)
		if len(ids) == 0 {
			break
		}
		p.deliver(ctx, ids)
		for _, id := range ids {
			tried[id] = true
			if ctx.Err() == nil {
				p.holds.expire(domain, id, start, time.Now())
			}
		}
	}
	p.log.Released(domain, before-p.holds.numberIn(domain), p.holds.numberIn(domain))
}

// releasable are the ids of the oldest held messages for which there is room,
// as many as are delivered at once.
func (p *Policy) releasable(ctx context.Context, now time.Time, domain string, tried map[string]bool) (ids []string) {
	if p.lockedByHand(domain) {
		return nil
	}
	room := map[identity]int{}
	for _, m := range p.holds.heldIn(domain) {
		if tried[m.id] || len(ids) == releaseProcesses*releaseMessages {
			continue
		}
		if _, known := room[m.who]; !known {
			room[m.who] = p.roomFor(ctx, now, m.who)
		}
		if room[m.who] > 0 {
			room[m.who]--
			ids = append(ids, m.id)
		}
	}
	return ids
}

// roomFor is how many sends of somebody would be accepted now.
func (p *Policy) roomFor(ctx context.Context, now time.Time, who identity) int {
	result, err := p.store.Look(ctx, p.clock.store(now), ratelimit.Take{Subjects: p.settings.Load().subjects(who)})
	if err != nil || !result.OK {
		return 0
	}
	return room(result)
}

// deliver shares ids among the processes, and returns when all are done.
func (p *Policy) deliver(ctx context.Context, ids []string) {
	var processes sync.WaitGroup
	for n := min(len(ids), releaseProcesses); n > 0; n-- {
		share := ids[:len(ids)/n]
		ids = ids[len(share):]
		processes.Go(func() {
			if err := p.queue.Deliver(ctx, share); err != nil {
				p.log.DeliverFailed(share, err)
			}
		})
	}
	processes.Wait()
}
