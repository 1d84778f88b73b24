package policy

import (
	"cmp"
	"context"
	"slices"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/identity"
	"sluice/sidecar/limit"
	"sluice/sidecar/wording"
)

// settled reports whether a recipient at the router needs no charge: it was charged, or
// its message is older than the store's memory, so that a charge may have been forgotten.
// However old its message, a recipient is not settled that is held and was never charged,
// nor one that an alias or list has made and that Exim has never tried: it may have come
// into being just now.
func (p *Policy) settled(q *question, token ratelimit.Token) bool {
	made := identity.IsMade(&q.Request)
	if q.Charged && !made || p.Store.Known(q.at, token) {
		return true
	}
	arrived, known := envelope.IDTime(q.ID)
	old := known && q.at.Add(arrived.Sub(q.now)).Before(p.Store.Horizon(q.at))
	return old && !p.Held.Uncharged(q.who.Subject(), q.ID, token) && (!made || p.Tried(q.ID, token))
}

// take is what the store is asked about a question, after as many sends of its message as
// ahead says were let through.
func (p *Policy) take(q *question, ahead int) ratelimit.Take {
	t := ratelimit.Take{
		Subjects: q.AppendSubjects(q.buffers.subjects[:0], q.who),
		Marks:    envelope.AppendMarks(q.buffers.marks[:0], q.Sender, q.to),
		Uses:     q.buffers.uses[:0],
		Ahead:    int64(max(0, ahead)),
	}
	q.leaveRoom(p.sharer, &t)
	return t
}

// charge charges all recipients of a question, or none and returns why.
func (p *Policy) charge(ctx context.Context, q *question) (*wording.Refusal, error) {
	return p.chargeAs(ctx, q, q.AppendTokens(q.buffers.tokens[:0], q.ID, q.to))
}

// chargeAs charges the recipients of a question under these tokens, one for each.
func (p *Policy) chargeAs(ctx context.Context, q *question, tokens []ratelimit.Token) (*wording.Refusal, error) {
	t := p.take(q, 0)
	t.Tokens = tokens
	result, err := p.Store.Take(ctx, q.at, t)
	if err != nil {
		return nil, err
	}
	if !result.OK {
		return p.refusal(q, t, result), nil
	}
	p.Totals.Charged(result)
	p.countWatched(q, result)
	p.notify(q, Decision{Charged: result.Charged, Uses: result.Uses, Full: slices.ContainsFunc(result.Uses, func(u ratelimit.Use) bool {
		return u.Subject == q.who.Subject() && limit.UsedUp(u)
	})})
	return nil, nil
}

// room returns for how many recipients in all a message has room.
func (q *question) room(r ratelimit.Result) int {
	least := int64(sidecar.RoomUnlimited)
	for _, u := range r.Uses {
		if u.Limit.Max > 0 && !u.Watched {
			least = min(least, q.roomOf(u))
		}
	}
	return int(least)
}

// warnWatched sets the warning of a recipient that passes only because a limit is watched.
func warnWatched(q *question, r ratelimit.Result) {
	if !q.HasWatched {
		return
	}
	for _, u := range r.Uses {
		if u.Full && u.Watched {
			q.warning = wording.Watched(q.titleOf(u), q.ratio(u))
			return
		}
	}
}

// countWatched counts the sends that were charged only because a limit is watched, each
// once: RCPT, which only looks, counts none.
func (p *Policy) countWatched(q *question, r ratelimit.Result) {
	warnWatched(q, r)
	if !q.HasWatched {
		return
	}
	over := slices.MaxFunc(r.Uses, func(a, b ratelimit.Use) int { return cmp.Compare(a.Over, b.Over) })
	if over.Over == 0 { // what was only withheld is told, and not counted
		over = r.Uses[max(0, slices.IndexFunc(r.Uses, func(u ratelimit.Use) bool { return u.Watched && u.Withheld }))]
	}
	if over.Over > 0 || over.Watched && over.Withheld {
		p.Totals.Watched(over.Over)
		emitWatched(p.Events, &q.Request, q.titleOf(over), q.ratio(over))
	}
}

func emitWatched(events event.Sink, r *sidecar.Request, who, ratio string) {
	if events.Enabled(event.Watched) {
		events.Emit(event.Event{Kind: event.Watched, Attrs: event.Attrs("stage", r.Stage, "id", r.ID, "sender", r.Sender, "over", who, "sent", ratio)})
	}
}
