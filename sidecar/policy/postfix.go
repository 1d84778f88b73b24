package policy

import (
	"context"
	"slices"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/settings"
	"sluice/sidecar/transaction"
)

// askPostfixRcpt charges one remote recipient, or with postfix.charge =
// "end-of-message" looks and remembers it.
//
// The first send of a transaction is charged under a token without its
// recipient: so END-OF-MESSAGE, which names none, finds out from the ledger
// whether the message was charged, over a restart too.
func (p *Policy) askPostfixRcpt(ctx context.Context, q *question) sidecar.Reply {
	known := p.incoming.Of(q.now, &q.Request)
	if q.ChargeAtEnd {
		return p.remember(ctx, q, known)
	}
	t, to := p.incoming.Look(known), q.to[0]
	d, err := p.chargeAs(ctx, q, []ratelimit.Token{tokenOf(&t, q.Settings, to)})
	switch {
	case err != nil:
		return p.cannotCount(q, err)
	case d != nil:
		return p.refuse(q, d)
	}
	p.incoming.Pass(known, q.now, func(t *transaction.Transaction) {
		if t.First == (envelope.Address{}) {
			t.First = to
		}
	})
	return sidecar.Reply{Warning: q.warning}
}

// tokenOf is that of a recipient who is charged at RCPT.
func tokenOf(t *transaction.Transaction, s *settings.Settings, to envelope.Address) ratelimit.Token {
	if t.First == (envelope.Address{}) || t.First == to {
		return s.Token(t.Id, envelope.Address{}, 0)
	}
	return s.Token(t.Id, to, 0)
}

// remember lets a recipient pass that is charged at the end.
func (p *Policy) remember(ctx context.Context, q *question, known *transaction.Transaction) sidecar.Reply {
	t, to := p.incoming.Look(known), q.to[0]
	if slices.Contains(t.Named, to) {
		return sidecar.Reply{}
	}
	take := q.take()
	take.Ahead = int64(len(t.Named))
	result, err := p.store.Look(ctx, q.at, take)
	if err != nil {
		return p.cannotCount(q, err)
	}
	if !result.OK {
		return p.refuse(q, p.refusal(q, take, result))
	}
	p.noteWatched(q, result)
	p.incoming.Pass(known, q.now, func(t *transaction.Transaction) { t.Named = append(t.Named, to) })
	return sidecar.Reply{Warning: q.warning}
}

// askPostfixEnd charges a message at its end, unless RCPT has: what was
// remembered of it, or, where RCPT was not asked, as many as Postfix counts.
// Like at the end of Exim's DATA, only a race leads to a refusal, with 450.
func (p *Policy) askPostfixEnd(ctx context.Context, q *question) sidecar.Reply {
	t := p.incoming.Look(p.incoming.Find(&q.Request))
	if q.ID == "" {
		q.ID = q.Instance
	}
	q.to = q.atEnd(&t)
	switch {
	case len(q.to) == 0:
		return sidecar.Reply{}
	case q.who.Class != sidecar.Charged && !p.blocked(q):
		p.passUncharged(q)
		return sidecar.Reply{}
	case !q.ChargeAtEnd && (t.Asked() || p.chargedFirst(q, &t)):
		return sidecar.Reply{}
	case p.blocked(q):
		return p.refuseBlocked(q, q.block.SMTP)
	}
	return p.askData(ctx, q)
}

// atEnd are the remote recipients of a message at its end. Those that nobody has
// named are all the same, and told apart by number.
func (q *question) atEnd(t *transaction.Transaction) []envelope.Address {
	if t.Asked() && q.ChargeAtEnd {
		return t.Named[:min(len(t.Named), max(q.Count, 1))]
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

// chargedFirst tells whether the first send of a transaction was charged at RCPT.
func (p *Policy) chargedFirst(q *question, t *transaction.Transaction) bool {
	return slices.ContainsFunc([]string{q.ID, q.Instance, t.Id}, func(id string) bool {
		return id != "" && p.store.Known(q.at, q.Token(id, envelope.Address{}, 0))
	})
}

// askMilter answers the milter, which looks and charges like Exim's ACLs, unless
// the same Postfix asks by its policy protocol too and has charged.
func (p *Policy) askMilter(ctx context.Context, q *question) sidecar.Reply {
	q.to = once(q.to)
	t := p.incoming.Look(p.incoming.Find(&q.Request))
	switch {
	case q.Stage == sidecar.StageMilterEnd && (q.ChargeAtEnd || !p.chargedFirst(q, &t)):
		return p.askData(ctx, q)
	case q.Stage == sidecar.StageMilterRcpt && (q.ChargeAtEnd || t.Id == "" || !p.store.Known(q.at, tokenOf(&t, q.Settings, q.to[0]))):
		return p.askRcpt(ctx, q)
	}
	return sidecar.Reply{}
}

// once leaves out who is named again: Postfix and Sendmail deliver once to each.
func once(all []envelope.Address) []envelope.Address {
	seen := make(map[envelope.Address]bool, len(all))
	return slices.DeleteFunc(all, func(a envelope.Address) bool {
		again := seen[a]
		seen[a] = true
		return again
	})
}

// passLocal lets recipients pass that are not remote.
func (p *Policy) passLocal(q *question) sidecar.Reply {
	if q.Stage == sidecar.StagePostfixRcpt {
		p.incoming.Pass(p.incoming.Of(q.now, &q.Request), q.now, func(*transaction.Transaction) {})
	}
	r := q.whole(pass(q.Stage))
	r.Local = true
	return r
}

// Charged is under which id a message was charged that an smtpd gave a queue id in
// the second of at; empty where that is not known.
func (p *Policy) Charged(queue, process string, at time.Time) string {
	return p.incoming.Look(p.incoming.Logged(queue, process, at)).Id
}
