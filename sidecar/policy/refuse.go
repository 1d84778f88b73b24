package policy

import (
	"errors"
	"strings"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/identity"
	"sluice/sidecar/limit"
	"sluice/sidecar/totals"
	"sluice/sidecar/wording"
)

// refusal returns the full limit to name: one that rejects before others, and of those what has room last.
func (p *Policy) refusal(q *question, t ratelimit.Take, result ratelimit.Result) *wording.Refusal {
	cutoff := limit.InForce(q.Table, q.who, func(t *limit.Thresholds) *int64 { return t.DeferCutoff })
	over := limit.InForce(q.Table, q.who, func(t *limit.Thresholds) *limit.OverLimit { return t.OverLimit })
	var first *wording.Refusal
	for _, u := range result.Uses {
		if !u.Full || u.Watched {
			continue
		}
		r := &wording.Refusal{Use: u, Title: q.titleOf(u), Per: "hour", Attempted: u.Used + t.Ahead + u.Refused, Origin: q.LimitOrigin(q.who, u.Subject, u.Limit.Window)}
		if r.Action = over.Action(r.Attempted*100 >= cutoff*u.Limit.Max); u.Withheld {
			r.Action, r.Attempted = sidecar.Defer, u.Used+t.Ahead+int64(len(q.to))
		}
		if !u.Frees.IsZero() {
			r.Frees = p.Clock.Wall(q.now, u.Frees)
		}
		if u.Limit.Window != q.Window {
			r.Per = "day"
		}
		if first == nil || before(r, first) {
			first = r
		}
	}
	return first
}

// before reports whether a refusal is to be named rather than another one.
func before(r, o *wording.Refusal) bool {
	if r.Action != o.Action {
		return r.Action == sidecar.Reject
	}
	if r.Frees.IsZero() != o.Frees.IsZero() {
		return r.Frees.IsZero()
	}
	return r.Frees.After(o.Frees)
}

// refuse answers that a limit is full.
func (p *Policy) refuse(q *question, r *wording.Refusal) sidecar.Reply {
	p.notify(q, Decision{Refused: true, Over: r, Full: r.Use.Subject == q.who.Subject() && limit.UsedUp(r.Use)})
	text := r.Text(q.Node)
	if !sidecar.IsMailbox(r.Use.Subject) && !r.Use.Withheld { // these name who it is themselves
		text.Culprit = p.Culprit(q.now, r.Use.Subject)
	}
	return p.refuseWith(q, r.Action, q.reasonOf(r.Use), text)
}

// refuseWith refuses. Clients are not told all that is logged: not who the culprit is, unless
// they may know, and with refusal.details = "operator" no files and nodes.
func (p *Policy) refuseWith(q *question, a sidecar.Action, why totals.Reason, text sidecar.RefusalText) sidecar.Reply {
	p.Totals.Answered()
	p.countRefusal(q, a, why)
	texts := q.Config.Refusal
	emitRefused(p.Events, &q.Request, a, wording.Logged(text, texts.Help), text.Culprit)
	told, logged := text, text
	if q.ClientAddress == "" { // with sendmail -v whoever runs it reads that too
		logged.Log = ""
	}
	if !q.mayTell(text.Culprit) {
		told.Culprit = sidecar.Culprit{}
		if !q.mayLog(text.Culprit) {
			logged.Culprit = sidecar.Culprit{}
		}
	}
	reply := sidecar.Reply{Action: a, Text: wording.Explained(told, texts.Details == config.DetailsAll, texts.Help)}
	if all := wording.Logged(logged, texts.Help); all != reply.Text {
		reply.Log = all
	}
	return reply
}

// mayTell reports whether the client may know who the culprit is: it has logged in as a
// mailbox, and the culprit is one of the same domain.
func (q *question) mayTell(c sidecar.Culprit) bool {
	return q.who.Mailbox != "" && c.IsMailboxOf(q.who.Domain)
}

// mayLog reports whether Exim may log who the culprit is. With sendmail -v whoever runs it reads that too:
// he must be the culprit, or what pays must be his own, which without an owner map nobody knows.
func (q *question) mayLog(c sidecar.Culprit) bool {
	return q.ClientAddress != "" || q.author.Key == c.Author.Key || q.who.Special == "" && q.OwnerMap.Get().Known()
}

// countRefusal counts the recipients of a refused question; what the router holds, it counts when that begins.
func (p *Policy) countRefusal(q *question, a sidecar.Action, why totals.Reason) {
	if q.why = why; q.Stage != sidecar.StageRoute || a == sidecar.Discard {
		p.Totals.Refused(why, len(q.to))
	}
}

// reasonOf is the reason for which a limit refuses.
func (q *question) reasonOf(u ratelimit.Use) totals.Reason {
	switch {
	case u.Withheld:
		return totals.Share
	case u.Limit.Window != q.Window:
		return totals.Daily
	}
	return totals.Hourly
}

// refuseGone defers mail of a client that has closed its connection too early to be found.
func (p *Policy) refuseGone(q *question) sidecar.Reply {
	return p.refuseWith(q, sidecar.Defer, totals.Gone, sidecar.RefusalText{Text: wording.Gone})
}

// cannotCount defers mail while the store fails, or may not decide alone.
func (p *Policy) cannotCount(q *question, err error) sidecar.Reply {
	kind := event.StoreFailed
	if errors.Is(err, ratelimit.ErrUncounted) { // as it has to be while Redis is away: the store is well
		kind = event.Uncounted
	}
	p.Events.Emit(event.Event{Kind: kind, Err: err})
	p.countRefusal(q, sidecar.Defer, totals.Outage)
	text := sidecar.RefusalText{Text: wording.Uncounted(q.who.Subject())}
	return sidecar.Reply{Action: sidecar.Defer, Text: wording.Explained(text, false, q.Config.Refusal.Help)}
}

// hold records that the router holds a recipient, and returns the answer that has it do so.
func (p *Policy) hold(q *question, token ratelimit.Token, charged bool, r sidecar.Reply) sidecar.Reply {
	last := q.Sender == "" && strings.HasPrefix(q.who.Special, sidecar.ForwardPrefix)
	h := sidecar.Held{Payer: q.who, ID: q.ID, Token: token, Charged: charged, Last: last, Author: q.author, Stop: q.block.Stop}
	if identity.IsMade(&q.Request) {
		h.Original = q.Original
	}
	if p.Held.Hold(q.now, h) {
		p.Totals.Held(q.why)
	}
	return r
}

// drop forgets that the router held a recipient.
func (p *Policy) drop(q *question, token ratelimit.Token) { p.Held.Drop(q.who.Subject(), q.ID, token) }

func emitRefused(events event.Sink, r *sidecar.Request, a sidecar.Action, text string, c sidecar.Culprit) {
	if events.Enabled(event.Refused) {
		events.Emit(event.Event{Kind: event.Refused, Attrs: append(event.Attrs("stage", r.Stage, "action", a, "id", r.ID, "sender", r.Sender, "text", text), c.Attrs()...)})
	}
}
