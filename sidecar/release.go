package sidecar

import (
	"context"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// Exim delivers what is released in two processes at a time with twenty
// messages each: enough to empty a queue soon, and too few to load the host.
const (
	releaseProcesses = 2
	releaseMessages  = 20
	// releaseAgain is how long a message is left alone that was tried and was not
	// asked about: Exim could not be run, or had the message open just then.
	releaseAgain = time.Minute
	// releaseSoon takes its place once where the router had asked as short a time
	// before: the process that asked was still at the message.
	releaseSoon = 2 * time.Second
)

// startRelease has what is held of a domain delivered, unless that is under
// way already or there is no room.
func (p *Policy) startRelease(ctx context.Context, now time.Time, domain string) {
	if len(p.releasable(ctx, now, domain, now)) == 0 {
		return
	}
	if number, ok := p.holds.begin(domain); ok {
		p.releases.Go(func() { p.release(ctx, domain, number) })
	}
}

// release has Exim deliver held messages, the oldest first, until the limit is
// reached again. Each is tried once; the router asks about it as always.
func (p *Policy) release(ctx context.Context, domain string, number int) {
	before, began := p.holds.numberIn(domain), time.Now()
	for ctx.Err() == nil && p.holds.goesOn(domain, number) {
		start := time.Now()
		ids := p.releasable(ctx, start, domain, began)
		if len(ids) == 0 {
			break
		}
		p.holds.try(domain, ids, start)
		p.deliver(ctx, ids)
	}
	if !p.holds.goesOn(domain, number) {
		return
	}
	p.holds.leave(domain)
	if err := p.holds.expire(domain, time.Now()); err != nil {
		p.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
	if left := p.holds.numberIn(domain); left < before {
		p.events.Emit(event.Event{Kind: event.Released, Domain: domain, Attrs: event.Attrs("recipients", before-left, "still_held", left)})
	}
}

// releasable are the ids of the oldest held messages for which there is room
// and which were not tried since some time, as many as are delivered at once.
func (p *Policy) releasable(ctx context.Context, now time.Time, domain string, since time.Time) (ids []string) {
	room, s := map[identity]int{}, p.settings.Load()
	for _, m := range p.holds.heldIn(domain) {
		if len(ids) == releaseProcesses*releaseMessages {
			break
		}
		again := releaseAgain
		if m.tried.Sub(m.asked) < releaseSoon {
			again = releaseSoon
		}
		unasked := !m.asked.After(m.tried) && now.Sub(m.tried) < again
		if unasked || m.tried.After(since) {
			continue
		}
		if _, known := room[m.who]; !known {
			room[m.who] = p.roomFor(ctx, now, s, m.who)
		}
		if room[m.who] > 0 {
			room[m.who]--
			ids = append(ids, m.id)
		}
	}
	return ids
}

// roomFor is how many sends of somebody would be accepted now.
func (p *Policy) roomFor(ctx context.Context, now time.Time, s *Settings, who identity) int {
	if _, blocked := p.blockOf(now, Author{}, who); blocked {
		return 0
	}
	if s.exemptScope(who) {
		return RoomUnlimited
	}
	result, err := p.store.Look(ctx, p.clock.store(now), ratelimit.Take{Subjects: s.appendSubjects(nil, who)})
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
				p.events.Emit(event.Event{Kind: event.DeliverFailed, Attrs: event.Attrs("messages", len(share), "first", share[0]), Err: err})
			}
		})
	}
	processes.Wait()
}
