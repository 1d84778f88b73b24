package sidecar

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// A question is a Request, understood.
type question struct {
	Request
	*Settings
	now time.Time // on the wall
	at  time.Time // by the store's clock
	who identity
	to  []address // the remote recipients that are asked about

	warning string // what passes only because its limit is watched; else empty

	block Block // once it was asked for: why nothing of this payer goes

	space *space
}

// space has room for what is made of a question about one recipient. It is used
// again and again: new memory for each question costs as much as to decide it.
type space struct {
	to       [1]address
	tokens   [1]ratelimit.Token
	marks    [1]ratelimit.Token
	subjects [1]ratelimit.Subject
	uses     [2]ratelimit.Use // by hour and by day
	decision Decision
}

// Ask decides on one Request. It is called by many goroutines at once. now is
// the time just read.
func (p *Core) Ask(ctx context.Context, now time.Time, r Request) Reply {
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
func (p *Core) ask(ctx context.Context, q *question) Reply {
	q.who = q.identify(&q.Request)
	if q.Stage == StagePostfixEnd {
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
func (p *Core) decide(ctx context.Context, q *question) Reply {
	switch {
	case len(q.to) == 0:
		return p.passLocal(q)
	case p.blocked(q):
		return p.answerBlocked(q)
	case q.who.class != charged:
		p.passUncharged(q)
		return pass(q.Stage)
	}
	switch q.Stage {
	case StageRcpt:
		return p.askRcpt(ctx, q)
	case StagePostfixRcpt:
		return p.askPostfixRcpt(ctx, q)
	case StageMilterRcpt, StageMilterEnd:
		return p.askMilter(ctx, q)
	case StageData:
		return q.whole(p.askData(ctx, q))
	case StageLocal:
		return p.askLocal(ctx, q)
	}
	return p.askRoute(ctx, q)
}

// blocked finds out whether nothing of the payer of a question goes.
func (p *Core) blocked(q *question) (blocked bool) {
	r := &q.Request
	q.block, blocked = p.blockOf(q.now, Author{Auth: r.Auth, Login: r.Login, Client: r.ClientAddress, Original: r.Original}, q.who)
	return blocked
}

// answerBlocked answers for somebody of whom nothing goes.
func (p *Core) answerBlocked(q *question) Reply {
	switch q.Stage {
	case StageRoute: // what was accepted is never bounced for it
		token := q.token(q.ID, q.to[0], 0)
		charged := p.settled(q, token)
		return p.hold(q, token, charged, p.refuseBlocked(q, Defer))
	case StageLocal:
		if q.block.Local == Accept {
			return Reply{}
		}
		return p.refuseBlocked(q, q.block.Local)
	}
	return p.refuseBlocked(q, q.block.SMTP)
}

func (p *Core) refuseBlocked(q *question, a Action) Reply {
	p.totals.refused.Add(1)
	r := Reply{Action: a, Text: q.block.Text(a)}
	p.emitRefused(q.Request, r.Action, r.Text)
	return r
}

// early tells that a message has no id yet.
func (q *question) early() bool {
	return q.Stage == StageRcpt || q.Stage == StagePostfixRcpt || q.Stage == StageMilterRcpt
}

// pass lets a message go by of which nothing is left to charge.
func pass(s Stage) Reply {
	return Reply{Room: RoomUnlimited, Charged: s == StageData || s == StageLocal}
}

// whole takes back that all of a message was charged, where Exim has let more
// remote recipients pass than are found here: the router asks about each then.
func (q *question) whole(r Reply) Reply {
	if q.Stage == StageData && q.Sent > len(q.to) {
		r.Charged = false
	}
	return r
}

// remoteRecipients returns those whose domain is not local.
func (q *question) remoteRecipients() []address {
	all := q.space.to[:0]
	switch q.Stage {
	case StageRcpt, StageRoute:
		all = append(all, foldRouted(q.Recipient))
	case StagePostfixRcpt, StageMilterRcpt:
		all = append(all, foldAddress(q.Recipient))
	default:
		all = appendRecipients(all, q.Recipients)
	}
	remote := all[:0]
	for _, a := range all {
		if a.domain != "" && !q.localDomains.get().has(a.domain) {
			remote = append(remote, a)
		}
	}
	return remote
}

// passUncharged counts those for whom nobody pays.
func (p *Core) passUncharged(q *question) {
	switch q.who.class {
	case exempt:
		if q.Stage == StageData || q.Stage == StageLocal {
			p.totals.exempt.Add(int64(len(q.to)))
		}
		if q.Stage == StageRoute && q.who.domain != "" { // may have been held before it was exempt
			p.unhold(q, q.token(q.ID, q.to[0], 0))
		}
	case unidentified:
		p.totals.unidentified.Add(1)
		p.emitUnidentified(q.Request)
	}
}

// askRcpt looks whether one more remote recipient fits.
func (p *Core) askRcpt(ctx context.Context, q *question) Reply {
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
	return Reply{Room: room(result)}
}

// askData charges a whole message. It is never 550 for volume: the recipients
// were let pass one by one, and only a race with another client leads here.
func (p *Core) askData(ctx context.Context, q *question) Reply {
	d, err := p.charge(ctx, q)
	switch {
	case err != nil:
		return p.cannotCount(q, err)
	case d != nil:
		d.action = Defer
		return p.refuse(q, d)
	}
	return Reply{Charged: true}
}

// askLocal charges a message from sendmail. There is no 450 for it: whoever
// calls sendmail would drop the mail. What could be sent later is accepted
// uncharged, and the router holds it.
func (p *Core) askLocal(ctx context.Context, q *question) Reply {
	d, err := p.charge(ctx, q)
	switch {
	case err != nil:
		return Reply{}
	case d == nil:
		return Reply{Charged: true}
	case d.action == Reject:
		return p.refuse(q, d)
	}
	return Reply{}
}

// askRoute charges one recipient that was not charged yet, or holds it.
func (p *Core) askRoute(ctx context.Context, q *question) Reply {
	token := q.token(q.ID, q.to[0], 0)
	if p.settled(q, token) {
		p.unhold(q, token)
		return Reply{}
	}
	d, err := p.charge(ctx, q)
	switch {
	case err != nil:
		return p.hold(q, token, false, p.cannotCount(q, err))
	case d != nil && d.action == Discard:
		p.unhold(q, token)
		return p.refuse(q, d)
	case d != nil:
		d.action = Defer // a message that was accepted is never bounced for volume
		return p.hold(q, token, false, p.refuse(q, d))
	}
	p.unhold(q, token)
	return Reply{}
}

// settled tells that a recipient at the router is not to be charged: because
// it was, or because its message is older than anything that still counts. A
// recipient that was held for all that time was never charged.
func (p *Core) settled(q *question, token ratelimit.Token) bool {
	if q.Charged && redirected(&q.Request) == "" || p.store.Known(q.at, token) {
		return true
	}
	arrived, known := IDTime(q.ID)
	old := known && q.at.Add(arrived.Sub(q.now)).Before(p.store.Horizon(q.at))
	return old && !p.holds.Uncharged(q.who.domain, q.ID, token)
}

func (q *question) take() ratelimit.Take {
	return ratelimit.Take{
		Subjects: q.appendSubjects(q.space.subjects[:0], q.who),
		Marks:    appendMarks(q.space.marks[:0], q.Sender, q.to),
		Uses:     q.space.uses[:0],
	}
}

// charge charges all recipients of a question, or none and says why.
func (p *Core) charge(ctx context.Context, q *question) (*refusal, error) {
	return p.chargeAs(ctx, q, q.appendTokens(q.space.tokens[:0], q.ID, q.to))
}

// chargeAs charges them under tokens, one for each.
func (p *Core) chargeAs(ctx context.Context, q *question, tokens []ratelimit.Token) (*refusal, error) {
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
		return u.Subject == q.who.domain && atLimit(u)
	})})
	return nil, nil
}

// A refusal is the limit that speaks for all that refused.
type refusal struct {
	use       ratelimit.Use
	origin    Origin // who set the limit
	per       string // hour or day
	attempted int64  // A: used, promised to this message, and refused since the limit was reached
	action    Action
	frees     time.Time // on the wall; zero if there never is room for so many
}

// refusal finds which of the full limits speaks: 550 before 450, then the one
// that frees last.
func (p *Core) refusal(q *question, t ratelimit.Take, result ratelimit.Result) *refusal {
	cutoff, _ := inForce(q.Table, q.who, "defer_cutoff", func(t *Thresholds) *int64 { return t.DeferCutoff })
	over, _ := inForce(q.Table, q.who, "over_limit", func(t *Thresholds) *OverLimit { return t.OverLimit })
	var first *refusal
	for _, u := range result.Uses {
		if !u.Full || u.Watched {
			continue
		}
		d := &refusal{use: u, per: "hour", attempted: u.Used + t.Ahead + u.Refused, origin: q.limitOrigin(u.Subject, u.Limit.Window)}
		d.action = over.action(d.attempted*100 >= cutoff*u.Limit.Max)
		if !u.Frees.IsZero() {
			d.frees = p.clock.Wall(q.now, u.Frees)
		}
		if u.Limit.Window != q.window {
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
		return d.action == Reject
	}
	if d.frees.IsZero() != o.frees.IsZero() {
		return d.frees.IsZero()
	}
	return d.frees.After(o.frees)
}

// noteWatched counts what passed only because its limit is watched.
func (p *Core) noteWatched(q *question, r ratelimit.Result) {
	if !q.watches {
		return
	}
	for _, u := range r.Uses {
		if u.Full && u.Watched {
			p.totals.watched.Add(1)
			title, over := titleOf(u.Subject), ratio(u.Used+u.Refused, u.Limit.Max)
			q.warning = fmt.Sprintf(textWatched, title, over)
			p.emitWatched(q.Request, title, over)
			return
		}
	}
}

func (p *Core) refuse(q *question, d *refusal) Reply {
	p.totals.refused.Add(1)
	p.observe(q, Decision{Refused: true, Full: d.use.Subject == q.who.domain && atLimit(d.use)})
	text := d.text(q.Node)
	p.emitRefused(q.Request, d.action, text)
	return Reply{Action: d.action, Text: text}
}

// cannotCount decides what a store that fails means for mail.
func (p *Core) cannotCount(q *question, err error) Reply {
	p.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	return Reply{Action: Defer, Text: fmt.Sprintf(textUncounted, q.who.domain)}
}

// room is for how many recipients the whole message has room.
func room(r ratelimit.Result) int {
	least := int64(RoomUnlimited)
	for _, u := range r.Uses {
		if u.Limit.Max > 0 && !u.Watched {
			least = min(least, u.Room())
		}
	}
	return int(least)
}

// hold notes that the router holds a recipient, and answers so.
func (p *Core) hold(q *question, token ratelimit.Token, charged bool, r Reply) Reply {
	p.holds.Hold(q.now, q.who, q.ID, token, charged)
	return r
}

// unhold forgets that the router held a recipient.
func (p *Core) unhold(q *question, token ratelimit.Token) { p.holds.Drop(q.who.domain, q.ID, token) }

// observe tells those who observe what was decided.
func (p *Core) observe(q *question, d Decision) {
	q.space.decision = d
	q.space.decision.Request, q.space.decision.Payer = &q.Request, q.who
	for _, o := range p.observers {
		o.Decided(q.now, &q.space.decision)
	}
}
