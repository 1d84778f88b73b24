package policy

import (
	"context"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/identity"
)

// decide answers a question of which the payer and the remote recipients are known. The
// first case that holds answers: nothing is remote; the client, a program on this host, has gone
// before it was known whose it is; it is a notice of our own; the payer is blocked; nobody pays.
// Otherwise the limits decide, where each stage either looks or charges.
func (p *Policy) decide(ctx context.Context, q *question) sidecar.Reply {
	switch {
	case len(q.to) == 0:
		return p.passLocal(q)
	case q.Socket == sidecar.SocketGone:
		return p.refuseGone(q)
	case p.passNotice(q):
		return pass(q.Stage)
	case p.blocked(q):
		return p.answerBlocked(q)
	case q.who.Class != sidecar.Charged:
		p.countUncharged(q)
		return pass(q.Stage)
	}
	switch q.Stage {
	case sidecar.StageRcpt:
		return p.askRcpt(ctx, q)
	case sidecar.StagePostfixRcpt:
		return p.askPostfixRcpt(ctx, q)
	case sidecar.StageMilterRcpt, sidecar.StageMilterEnd:
		return p.askMilter(ctx, q)
	case sidecar.StageData:
		return q.unlessMore(p.askData(ctx, q))
	case sidecar.StageLocal:
		return p.askLocal(ctx, q)
	}
	return p.askRoute(ctx, q)
}

// passNotice reports whether a question is about a notice of our own that passes. One that does
// not is charged from then on.
func (p *Policy) passNotice(q *question) bool {
	if q.who.Class != sidecar.Notice {
		return false
	}
	passes := false
	switch {
	case q.Charged && !identity.IsMade(&q.Request): // counted when it came
		passes = true
	case q.Stage == sidecar.StageRcpt:
		passes = p.notices.HasRoom(q.now, q.Sent)
	default:
		passes = p.notices.Pass(q.now, q.AppendTokens(nil, q.ID, q.to))
	}
	if !passes {
		q.who.Class = sidecar.Charged
	}
	return passes
}

// remoteRecipients returns the recipients whose domain is not local. For hosts for which
// Exim relays it also leaves out the domains of which this host is an MX: anybody may send
// to those.
func (q *question) remoteRecipients() []envelope.Address {
	all := q.buffers.to[:0]
	switch q.Stage {
	case sidecar.StageRcpt, sidecar.StageRoute:
		all = append(all, envelope.FoldRouted(q.Recipient))
	case sidecar.StagePostfixRcpt, sidecar.StageMilterRcpt:
		all = append(all, envelope.Fold(q.Recipient))
	default:
		all = envelope.AppendRecipients(all, q.Recipients)
	}
	relayed := strings.HasPrefix(q.who.Special, sidecar.RelayPrefix)
	remote := all[:0]
	for _, a := range all {
		if a.Domain != "" && !q.Locals.Get().Has(a.Domain) && !(relayed && q.RelayDomains.Get().Has(a.Domain)) {
			remote = append(remote, a)
		}
	}
	return remote
}

// beforeID reports whether a message has no id yet at this stage.
func (q *question) beforeID() bool {
	return q.Stage == sidecar.StageRcpt || q.Stage == sidecar.StagePostfixRcpt || q.Stage == sidecar.StageMilterRcpt
}

// pass accepts a message of which nothing is left to charge.
func pass(s sidecar.Stage) sidecar.Reply {
	return sidecar.Reply{Room: sidecar.RoomUnlimited, Charged: s == sidecar.StageData || s == sidecar.StageLocal}
}

// unlessMore clears Charged if Exim accepted more remote recipients than Sluice finds in
// its list: then the router asks about each.
func (q *question) unlessMore(r sidecar.Reply) sidecar.Reply {
	if q.Stage == sidecar.StageData && q.Sent > len(q.to) {
		r.Charged = false
	}
	return r
}

// countUncharged counts recipients for whom nobody pays.
func (p *Policy) countUncharged(q *question) {
	if !q.beforeID() {
		p.notify(q, Decision{Uncharged: true})
	}
	if q.who.Class != sidecar.Exempt {
		return
	}
	switch q.Stage {
	case sidecar.StageData, sidecar.StageLocal:
		p.Totals.Exempt(len(q.to))
	case sidecar.StageRoute: // perhaps it was held before it was exempt
		p.drop(q, q.Token(q.ID, q.to[0], 0))
	}
}

// askRcpt looks whether there is room for one more remote recipient, and charges nothing.
func (p *Policy) askRcpt(ctx context.Context, q *question) sidecar.Reply {
	t := p.take(q, q.Sent)
	result, err := p.Store.Look(ctx, q.at, t)
	if err != nil {
		return p.cannotCount(q, err)
	}
	if !result.OK {
		return p.refuse(q, p.refusal(q, t, result))
	}
	warnWatched(q, result)
	return sidecar.Reply{Room: q.room(result)}
}

// askData charges a whole message, or nothing of it. A full limit defers it even beyond
// the cutoff: each recipient had room at RCPT, and another client has taken that since.
func (p *Policy) askData(ctx context.Context, q *question) sidecar.Reply {
	full, err := p.charge(ctx, q)
	switch {
	case err != nil:
		return p.cannotCount(q, err)
	case full != nil:
		full.Action = sidecar.Defer
		return p.refuse(q, full)
	}
	return sidecar.Reply{Charged: true}
}

// askLocal charges a message from sendmail. It cannot be deferred, for the programs that
// run sendmail would drop it: what may be sent later is accepted uncharged, and held by
// the router.
func (p *Policy) askLocal(ctx context.Context, q *question) sidecar.Reply {
	full, err := p.charge(ctx, q)
	switch {
	case err == nil && full == nil:
		return sidecar.Reply{Charged: true}
	case full != nil && full.Action == sidecar.Reject:
		return p.refuse(q, full)
	}
	return sidecar.Reply{}
}

// askRoute charges a recipient at the router that was not charged before, or holds it.
// An accepted message is never bounced because of a limit.
func (p *Policy) askRoute(ctx context.Context, q *question) sidecar.Reply {
	token := q.Token(q.ID, q.to[0], 0)
	if p.settled(q, token) {
		p.drop(q, token)
		return sidecar.Reply{}
	}
	full, err := p.charge(ctx, q)
	switch {
	case err != nil:
		return p.hold(q, token, false, p.cannotCount(q, err))
	case full != nil && full.Action != sidecar.Discard:
		full.Action = sidecar.Defer
		return p.hold(q, token, false, p.refuse(q, full))
	}
	p.drop(q, token)
	if full != nil {
		return p.refuse(q, full)
	}
	return sidecar.Reply{}
}
