package policy

import (
	"context"
	"slices"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/settings"
	"sluice/sidecar/transaction"
)

// askPostfixRcpt charges one remote recipient. With postfix.charge = "end-of-message" it
// only looks, and remembers the recipient for the end.
//
// The first send of a transaction is charged under a token that names no recipient.
// END-OF-MESSAGE names none either, so by that token it finds in the store that the
// message was charged, even after a restart.
func (p *Policy) askPostfixRcpt(ctx context.Context, q *question) sidecar.Reply {
	open := p.incoming.FindOrBegin(q.now, &q.Request)
	if q.ChargeAtEnd {
		return p.remember(ctx, q, open)
	}
	t, to := p.incoming.Copy(open), q.to[0]
	full, err := p.chargeAs(ctx, q, []ratelimit.Token{tokenAtRcpt(&t, q.Settings, to)})
	switch {
	case err != nil:
		return p.cannotCount(q, err)
	case full != nil:
		return p.refuse(q, full)
	}
	p.incoming.Accept(open, q.now, func(t *transaction.Transaction) {
		if t.First == (envelope.Address{}) {
			t.First = to
		}
	})
	return sidecar.Reply{Warning: q.warning}
}

// tokenAtRcpt names the send of a recipient that is charged at RCPT.
func tokenAtRcpt(t *transaction.Transaction, s *settings.Settings, to envelope.Address) ratelimit.Token {
	if t.First == (envelope.Address{}) || t.First == to {
		return s.Token(t.ID, envelope.Address{}, 0)
	}
	return s.Token(t.ID, to, 0)
}

// remember accepts a recipient for which there is room, to be charged at the end.
func (p *Policy) remember(ctx context.Context, q *question, open *transaction.Transaction) sidecar.Reply {
	t, to := p.incoming.Copy(open), q.to[0]
	if slices.Contains(t.Recipients, to) {
		return sidecar.Reply{}
	}
	take := p.take(q, len(t.Recipients))
	result, err := p.Store.Look(ctx, q.at, take)
	if err != nil {
		return p.cannotCount(q, err)
	}
	if !result.OK {
		return p.refuse(q, p.refusal(q, take, result))
	}
	warnWatched(q, result)
	p.incoming.Accept(open, q.now, func(t *transaction.Transaction) { t.Recipients = append(t.Recipients, to) })
	return sidecar.Reply{Warning: q.warning}
}

// askPostfixEnd charges a message at its end, unless that was done at RCPT: for the
// recipients that were remembered, or where RCPT was not asked, for as many as Postfix
// counts.
func (p *Policy) askPostfixEnd(ctx context.Context, q *question) sidecar.Reply {
	t := p.incoming.Copy(p.incoming.Find(&q.Request))
	if q.ID == "" {
		q.ID = q.Instance
	}
	q.to = q.recipientsAtEnd(&t)
	switch {
	case len(q.to) == 0:
		return sidecar.Reply{}
	case q.Socket == sidecar.SocketGone:
		return p.refuseGone(q)
	case q.who.Class != sidecar.Charged && !p.blocked(q):
		p.countUncharged(q)
		return sidecar.Reply{}
	case !q.ChargeAtEnd && (t.Accepted() || p.chargedAtRcpt(q, &t)):
		return sidecar.Reply{}
	case p.blocked(q):
		return p.refuseBlocked(q, q.block.SMTP)
	}
	return p.askData(ctx, q)
}

// recipientsAtEnd returns the remote recipients of a message at its end. Where only their
// number is known, it returns as many empty addresses, whose tokens differ by their number.
func (q *question) recipientsAtEnd(t *transaction.Transaction) []envelope.Address {
	if t.Accepted() && q.ChargeAtEnd {
		return t.Recipients[:min(len(t.Recipients), max(q.Count, 1))]
	}
	if q.Recipient == "" {
		return make([]envelope.Address, q.Count)
	}
	to := envelope.Fold(q.Recipient)
	if q.Locals.Get().Has(to.Domain) {
		return nil
	}
	return []envelope.Address{to}
}

// chargedAtRcpt reports whether the first send of a transaction was charged at RCPT.
func (p *Policy) chargedAtRcpt(q *question, t *transaction.Transaction) bool {
	return slices.ContainsFunc([]string{q.ID, q.Instance, t.ID}, func(id string) bool {
		return id != "" && p.Store.Known(q.at, q.Token(id, envelope.Address{}, 0))
	})
}

// askMilter looks and charges for the milter as for Exim's ACLs, unless the same Postfix
// also asks by its policy protocol and has charged.
func (p *Policy) askMilter(ctx context.Context, q *question) sidecar.Reply {
	q.to = distinct(q.to)
	t := p.incoming.Copy(p.incoming.Find(&q.Request))
	switch {
	case q.Stage == sidecar.StageMilterEnd && (q.ChargeAtEnd || !p.chargedAtRcpt(q, &t)):
		return p.askData(ctx, q)
	case q.Stage == sidecar.StageMilterRcpt && (q.ChargeAtEnd || t.ID == "" || !p.Store.Known(q.at, tokenAtRcpt(&t, q.Settings, q.to[0]))):
		return p.askRcpt(ctx, q)
	}
	return sidecar.Reply{}
}

// distinct removes repeated addresses: Postfix and Sendmail deliver once to each.
func distinct(all []envelope.Address) []envelope.Address {
	seen := make(map[envelope.Address]bool, len(all))
	return slices.DeleteFunc(all, func(a envelope.Address) bool {
		again := seen[a]
		seen[a] = true
		return again
	})
}

// passLocal accepts recipients that are not remote. For Postfix it records that RCPT was
// asked, so that the end of the message does not charge for these recipients.
func (p *Policy) passLocal(q *question) sidecar.Reply {
	if q.Stage == sidecar.StagePostfixRcpt {
		p.incoming.Accept(p.incoming.FindOrBegin(q.now, &q.Request), q.now, func(*transaction.Transaction) {})
	}
	r := q.unlessMore(pass(q.Stage))
	r.Local = true
	return r
}
