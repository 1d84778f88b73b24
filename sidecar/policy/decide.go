package policy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/identity"
	"sluice/sidecar/limit"
	"sluice/sidecar/settings"
)

// A question is a Request, understood.
type question struct {
	sidecar.Request
	*settings.Settings
	now time.Time // on the wall
	at  time.Time // by the store's clock
	who sidecar.Payer
	to  []envelope.Address // the remote recipients that are asked about

	warning string // what passes only because its limit is watched; else empty

	block sidecar.Block // once it was asked for: why nothing of this payer goes

	space *space
}

// space has room for what is made of a question about one recipient. It is used
// again and again: new memory for each question costs as much as to decide it.
type space struct {
	to       [1]envelope.Address
	tokens   [1]ratelimit.Token
	marks    [1]ratelimit.Token
	subjects [1]ratelimit.Subject
	uses     [2]ratelimit.Use // by hour and by day
	decision Decision
}

// Ask decides on one Request. It is called by many goroutines at once. now is
// the time just read.
func (p *Policy) Ask(ctx context.Context, now time.Time, r sidecar.Request) sidecar.Reply {
	q := question{Request: r, Settings: p.settings(), now: now, at: p.clock.Store(now)}
	if q.space, _ = p.spaces.Get().(*space); q.space == nil {
		q.space = new(space)
	}
	reply := p.ask(ctx, &q)
	*q.space = space{} // keeps no text of the request in memory
	p.spaces.Put(q.space)
	return reply
}

// ask finds who pays, and for what.
func (p *Policy) ask(ctx context.Context, q *question) sidecar.Reply {
	q.who = q.Payer(&q.Request)
	if q.Stage == sidecar.StagePostfixEnd {
		return p.askPostfixEnd(ctx, q)
	}
	q.to = q.remoteRecipients()
	if q.ID == "" && !q.early() {
		// Without an id nothing tells this message from the next one.
		q.ID = fmt.Sprintf("unknown-%d-%d", q.now.UnixNano(), p.unknown.Add(1))
	}
	return p.decide(ctx, q)
}

// decide answers a question of which it is known who pays, and for what.
func (p *Policy) decide(ctx context.Context, q *question) sidecar.Reply {
	switch {
	case len(q.to) == 0:
		return p.passLocal(q)
	case p.blocked(q):
		return p.answerBlocked(q)
	case q.who.Class != sidecar.Charged:
		p.passUncharged(q)
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
		return q.whole(p.askData(ctx, q))
	case sidecar.StageLocal:
		return p.askLocal(ctx, q)
	}
	return p.askRoute(ctx, q)
}

// blocked finds out whether nothing of the payer of a question goes.
func (p *Policy) blocked(q *question) (blocked bool) {
	r := &q.Request
	q.block, blocked = p.BlockOf(q.now, sidecar.Author{Auth: r.Auth, Login: r.Login, Client: r.ClientAddress, Original: r.Original}, q.who)
	return blocked
}

// answerBlocked answers for somebody of whom nothing goes.
func (p *Policy) answerBlocked(q *question) sidecar.Reply {
	switch q.Stage {
	case sidecar.StageRoute: // what was accepted is never bounced for it
		token := q.Token(q.ID, q.to[0], 0)
		charged := p.settled(q, token)
		return p.hold(q, token, charged, p.refuseBlocked(q, sidecar.Defer))
	case sidecar.StageLocal:
		if q.block.Local == sidecar.Accept {
			return sidecar.Reply{}
		}
		return p.refuseBlocked(q, q.block.Local)
	}
	return p.refuseBlocked(q, q.block.SMTP)
}

func (p *Policy) refuseBlocked(q *question, a sidecar.Action) sidecar.Reply {
	p.totals.refused.Add(1)
	r := sidecar.Reply{Action: a, Text: q.block.Text(a)}
	p.emitRefused(q.Request, r.Action, r.Text)
	return r
}

// early tells that a message has no id yet.
func (q *question) early() bool {
	return q.Stage == sidecar.StageRcpt || q.Stage == sidecar.StagePostfixRcpt || q.Stage == sidecar.StageMilterRcpt
}

// pass lets a message go by of which nothing is left to charge.
func pass(s sidecar.Stage) sidecar.Reply {
	return sidecar.Reply{Room: sidecar.RoomUnlimited, Charged: s == sidecar.StageData || s == sidecar.StageLocal}
}

// whole takes back that all of a message was charged, where Exim has let more
// remote recipients pass than are found here: the router asks about each then.
func (q *question) whole(r sidecar.Reply) sidecar.Reply {
	if q.Stage == sidecar.StageData && q.Sent > len(q.to) {
		r.Charged = false
	}
	return r
}

// remoteRecipients returns those whose domain is not local.
func (q *question) remoteRecipients() []envelope.Address {
	all := q.space.to[:0]
	switch q.Stage {
	case sidecar.StageRcpt, sidecar.StageRoute:
		all = append(all, envelope.FoldRouted(q.Recipient))
	case sidecar.StagePostfixRcpt, sidecar.StageMilterRcpt:
		all = append(all, envelope.Fold(q.Recipient))
	default:
		all = envelope.AppendRecipients(all, q.Recipients)
	}
	remote := all[:0]
	for _, a := range all {
		if a.Domain != "" && !q.Locals.Get().Has(a.Domain) {
			remote = append(remote, a)
		}
	}
	return remote
}

// passUncharged counts those for whom nobody pays.
func (p *Policy) passUncharged(q *question) {
	switch q.who.Class {
	case sidecar.Exempt:
		if q.Stage == sidecar.StageData || q.Stage == sidecar.StageLocal {
			p.totals.exempt.Add(int64(len(q.to)))
		}
		if q.Stage == sidecar.StageRoute && q.who.Domain != "" { // may have been held before it was exempt
			p.unhold(q, q.Token(q.ID, q.to[0], 0))
		}
	case sidecar.Unidentified:
		p.totals.unidentified.Add(1)
		p.emitUnidentified(q.Request)
	}
}

// askRcpt looks whether one more remote recipient fits.
func (p *Policy) askRcpt(ctx context.Context, q *question) sidecar.Reply {
	t := q.take()
	t.Ahead = int64(max(0, q.Sent))
	result, err := p.store.Look(ctx, q.at, t)
	if err != nil {
		return p.cannotCount(q, err)
	}
	if !result.OK {
		return p.refuse(q, p.refusal(q, t, result))
	}
	p.noteWatched(q, result)
	return sidecar.Reply{Room: room(result)}
}

// askData charges a whole message. It is never 550 for volume: the recipients
// were let pass one by one, and only a race with another client leads here.
func (p *Policy) askData(ctx context.Context, q *question) sidecar.Reply {
	d, err := p.charge(ctx, q)
	switch {
	case err != nil:
		return p.cannotCount(q, err)
	case d != nil:
		d.action = sidecar.Defer
		return p.refuse(q, d)
	}
	return sidecar.Reply{Charged: true}
}

// askLocal charges a message from sendmail. There is no 450 for it: whoever
// calls sendmail would drop the mail. What could be sent later is accepted
// uncharged, and the router holds it.
func (p *Policy) askLocal(ctx context.Context, q *question) sidecar.Reply {
	d, err := p.charge(ctx, q)
	switch {
	case err != nil:
		return sidecar.Reply{}
	case d == nil:
		return sidecar.Reply{Charged: true}
	case d.action == sidecar.Reject:
		return p.refuse(q, d)
	}
	return sidecar.Reply{}
}

// askRoute charges one recipient that was not charged yet, or holds it.
func (p *Policy) askRoute(ctx context.Context, q *question) sidecar.Reply {
	token := q.Token(q.ID, q.to[0], 0)
	if p.settled(q, token) {
		p.unhold(q, token)
		return sidecar.Reply{}
	}
	d, err := p.charge(ctx, q)
	switch {
	case err != nil:
		return p.hold(q, token, false, p.cannotCount(q, err))
	case d != nil && d.action == sidecar.Discard:
		p.unhold(q, token)
		return p.refuse(q, d)
	case d != nil:
		d.action = sidecar.Defer // a message that was accepted is never bounced for volume
		return p.hold(q, token, false, p.refuse(q, d))
	}
	p.unhold(q, token)
	return sidecar.Reply{}
}

// settled tells that a recipient at the router is not to be charged: because
// it was, or because its message is older than anything that still counts. A
// recipient that was held for all that time was never charged.
func (p *Policy) settled(q *question, token ratelimit.Token) bool {
	if q.Charged && identity.Redirected(&q.Request) == "" || p.store.Known(q.at, token) {
		return true
	}
	arrived, known := envelope.IDTime(q.ID)
	old := known && q.at.Add(arrived.Sub(q.now)).Before(p.store.Horizon(q.at))
	return old && !p.holds.Uncharged(q.who.Domain, q.ID, token)
}

func (q *question) take() ratelimit.Take {
	return ratelimit.Take{
		Subjects: q.AppendSubjects(q.space.subjects[:0], q.who),
		Marks:    envelope.AppendMarks(q.space.marks[:0], q.Sender, q.to),
		Uses:     q.space.uses[:0],
	}
}

// charge charges all recipients of a question, or none and says why.
func (p *Policy) charge(ctx context.Context, q *question) (*refusal, error) {
	return p.chargeAs(ctx, q, q.AppendTokens(q.space.tokens[:0], q.ID, q.to))
}

// chargeAs charges them under tokens, one for each.
func (p *Policy) chargeAs(ctx context.Context, q *question, tokens []ratelimit.Token) (*refusal, error) {
	t := q.take()
	t.Tokens = tokens
	result, err := p.store.Take(ctx, q.at, t)
	if err != nil {
		return nil, err
	}
	if !result.OK {
		return p.refusal(q, t, result), nil
	}
	p.totals.accepted.Add(int64(result.Charged))
	p.noteWatched(q, result)
	p.observe(q, Decision{Charged: result.Charged, Full: slices.ContainsFunc(result.Uses, func(u ratelimit.Use) bool {
		return u.Subject == q.who.Domain && limit.AtLimit(u)
	})})
	return nil, nil
}

// A refusal is the limit that speaks for all that refused.
type refusal struct {
	use       ratelimit.Use
	origin    limit.Origin // who set the limit
	per       string       // hour or day
	attempted int64        // A: used, promised to this message, and refused since the limit was reached
	action    sidecar.Action
	frees     time.Time // on the wall; zero if there never is room for so many
}

// refusal finds which of the full limits speaks: 550 before 450, then the one
// that frees last.
func (p *Policy) refusal(q *question, t ratelimit.Take, result ratelimit.Result) *refusal {
	cutoff, _ := limit.InForce(q.Table, q.who, "defer_cutoff", func(t *limit.Thresholds) *int64 { return t.DeferCutoff })
	over, _ := limit.InForce(q.Table, q.who, "over_limit", func(t *limit.Thresholds) *limit.OverLimit { return t.OverLimit })
	var first *refusal
	for _, u := range result.Uses {
		if !u.Full || u.Watched {
			continue
		}
		d := &refusal{use: u, per: "hour", attempted: u.Used + t.Ahead + u.Refused, origin: q.LimitOrigin(u.Subject, u.Limit.Window)}
		d.action = over.Action(d.attempted*100 >= cutoff*u.Limit.Max)
		if !u.Frees.IsZero() {
			d.frees = p.clock.Wall(q.now, u.Frees)
		}
		if u.Limit.Window != q.Window {
			d.per = "day"
		}
		if first == nil || d.speaksBefore(first) {
			first = d
		}
	}
	return first
}

func (d *refusal) speaksBefore(o *refusal) bool {
	if d.action != o.action {
		return d.action == sidecar.Reject
	}
	if d.frees.IsZero() != o.frees.IsZero() {
		return d.frees.IsZero()
	}
	return d.frees.After(o.frees)
}

// noteWatched counts what passed only because its limit is watched.
func (p *Policy) noteWatched(q *question, r ratelimit.Result) {
	if !q.Watches {
		return
	}
	for _, u := range r.Uses {
		if u.Full && u.Watched {
			p.totals.watched.Add(1)
			title, over := sidecar.TitleOf(u.Subject), sidecar.Ratio(u.Used+u.Refused, u.Limit.Max)
			q.warning = fmt.Sprintf(textWatched, title, over)
			p.emitWatched(q.Request, title, over)
			return
		}
	}
}

func (p *Policy) refuse(q *question, d *refusal) sidecar.Reply {
	p.totals.refused.Add(1)
	p.observe(q, Decision{Refused: true, Full: d.use.Subject == q.who.Domain && limit.AtLimit(d.use)})
	text := d.text(q.Node)
	p.emitRefused(q.Request, d.action, text)
	return sidecar.Reply{Action: d.action, Text: text}
}

// cannotCount decides what a store that fails means for mail.
func (p *Policy) cannotCount(q *question, err error) sidecar.Reply {
	p.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	return sidecar.Reply{Action: sidecar.Defer, Text: fmt.Sprintf(textUncounted, q.who.Domain)}
}

// room is for how many recipients the whole message has room.
func room(r ratelimit.Result) int {
	least := int64(sidecar.RoomUnlimited)
	for _, u := range r.Uses {
		if u.Limit.Max > 0 && !u.Watched {
			least = min(least, u.Room())
		}
	}
	return int(least)
}

// hold notes that the router holds a recipient, and answers so.
func (p *Policy) hold(q *question, token ratelimit.Token, charged bool, r sidecar.Reply) sidecar.Reply {
	p.holds.Hold(q.now, q.who, q.ID, token, charged)
	return r
}

// unhold forgets that the router held a recipient.
func (p *Policy) unhold(q *question, token ratelimit.Token) { p.holds.Drop(q.who.Domain, q.ID, token) }

// observe tells those who observe what was decided.
func (p *Policy) observe(q *question, d Decision) {
	q.space.decision = d
	q.space.decision.Request, q.space.decision.Payer = &q.Request, q.who
	for _, o := range p.observers {
		o.Decided(q.now, &q.space.decision)
	}
}
