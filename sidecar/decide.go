package sidecar

import (
	"context"
	"fmt"
	"time"

	"sluice/ratelimit"
)

// A question is a Request, understood.
type question struct {
	Request
	*Settings
	now time.Time // on the wall
	at  time.Time // by the store's clock
	who identity
	to  []address // the remote recipients that are asked about
}

// Ask decides on one Request. It is called by many goroutines at once. now is
// the time just read.
func (p *Policy) Ask(ctx context.Context, now time.Time, r Request) Reply {
	q := question{Request: r, Settings: p.settings.Load(), now: now, at: p.clock.store(now)}
	q.who = q.identify(&r)
	if r.Stage == StagePostfixEnd {
		return p.askPostfixEnd(ctx, &q)
	}
	q.to = q.remoteRecipients()
	if q.ID == "" && !q.early() {
		// Without an id nothing tells this message from the next one.
		q.ID = fmt.Sprintf("unknown-%d-%d", now.UnixNano(), p.unknown.Add(1))
	}
	switch {
	case q.who.class != charged && len(q.to) > 0:
		p.passUncharged(&q)
		return pass(r.Stage)
	case len(q.to) == 0:
		return p.passLocal(&q)
	}
	if r.Stage != StageRoute && p.trips.has(q.who.domain) && !p.lockedByHand(q.who.domain) {
		return p.refuseTripped(&q)
	}
	switch r.Stage {
	case StageRcpt:
		return p.askRcpt(ctx, &q)
	case StagePostfixRcpt:
		return p.askPostfixRcpt(ctx, &q)
	case StageMilterRcpt, StageMilterEnd:
		return p.askMilter(ctx, &q)
	case StageData:
		return q.whole(p.askData(ctx, &q))
	case StageLocal:
		return p.askLocal(ctx, &q)
	}
	return p.askRoute(ctx, &q)
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
	var all []address
	switch q.Stage {
	case StageRcpt, StageRoute:
		all = []address{foldRouted(q.Recipient)}
	case StagePostfixRcpt, StageMilterRcpt:
		all = []address{foldAddress(q.Recipient)}
	default:
		all = splitRecipients(q.Recipients)
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
func (p *Policy) passUncharged(q *question) {
	switch q.who.class {
	case exempt:
		if q.Stage == StageData || q.Stage == StageLocal {
			p.totals.exempt.Add(int64(len(q.to)))
		}
	case unidentified:
		p.totals.unidentified.Add(1)
		p.log.Unidentified(q.Request)
	}
}

// askRcpt looks whether one more remote recipient fits.
func (p *Policy) askRcpt(ctx context.Context, q *question) Reply {
	if p.lockedByHand(q.who.domain) {
		return p.refuseLocked(q)
	}
	t := q.take()
	t.Ahead = int64(max(0, q.Sent))
	result, err := p.store.Look(ctx, q.at, t)
	if err != nil {
		return p.cannotCount(q, err)
	}
	if !result.OK {
		return p.refuse(q, p.refusal(q, t, result))
	}
	return Reply{Room: room(result)}
}

// askData charges a whole message. It is never 550 for volume: the recipients
// were let pass one by one, and only a race with another client leads here.
func (p *Policy) askData(ctx context.Context, q *question) Reply {
	if p.lockedByHand(q.who.domain) {
		return p.refuseLocked(q)
	}
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
func (p *Policy) askLocal(ctx context.Context, q *question) Reply {
	if p.lockedByHand(q.who.domain) {
		return Reply{}
	}
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
func (p *Policy) askRoute(ctx context.Context, q *question) Reply {
	token := token(q.Node, q.ID, q.to[0], 0)
	settled := p.settled(q, token)
	if p.lockedByHand(q.who.domain) {
		return p.hold(q, token, settled, p.refuseLocked(q))
	}
	if p.trips.has(q.who.domain) {
		return p.hold(q, token, settled, p.refuseTripped(q))
	}
	if settled {
		p.unhold(q, token)
		return Reply{}
	}
	d, err := p.charge(ctx, q)
	switch {
	case err != nil:
		return p.hold(q, token, false, p.cannotCount(q, err))
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
func (p *Policy) settled(q *question, token ratelimit.Token) bool {
	if q.Charged && redirected(&q.Request) == "" || p.store.Known(q.at, token) {
		return true
	}
	arrived, known := IDTime(q.ID)
	old := known && q.at.Add(arrived.Sub(q.now)).Before(p.store.Horizon(q.at))
	return old && !p.holds.uncharged(q.who.domain, q.ID, token)
}

func (q *question) take() ratelimit.Take {
	return ratelimit.Take{Subjects: q.subjects(q.who), Marks: marks(q.Sender, q.to)}
}

// charge charges all recipients of a question, or none and says why.
func (p *Policy) charge(ctx context.Context, q *question) (*refusal, error) {
	return p.chargeAs(ctx, q, tokens(q.Node, q.ID, q.to))
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
	for _, u := range result.Uses {
		if u.Subject == q.who.domain && atLimit(u) {
			p.due.add(q.who.domain)
		}
	}
	return nil, nil
}

// A refusal is the limit that speaks for all that refused.
type refusal struct {
	scope     scope
	use       ratelimit.Use
	origin    string // where the limit is set
	per       string // hour or day
	attempted int64  // A: used, promised to this message, and refused since the limit was reached
	action    Action
	frees     time.Time // on the wall; zero if there never is room for so many
}

// refusal finds which of the full limits speaks: 550 before 450, then the one
// that frees last.
func (p *Policy) refusal(q *question, t ratelimit.Take, result ratelimit.Result) *refusal {
	cutoff := q.cutoff(q.who)
	var first *refusal
	for _, u := range result.Uses {
		if !u.Full {
			continue
		}
		d := &refusal{use: u, per: "hour", action: Defer, attempted: u.Used + t.Ahead + u.Refused}
		if d.attempted*100 >= cutoff*u.Limit.Max {
			d.action = Reject
		}
		if !u.Frees.IsZero() {
			d.frees = p.clock.wall(q.now, u.Frees)
		}
		d.scope, d.origin = q.origins(q.who, u)
		if u.Limit.Window == day && q.limits.Window != day {
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

// origins finds the scope of a limit, and where it is set.
func (s *Settings) origins(who identity, u ratelimit.Use) (scope, string) {
	for _, scope := range s.scopes(who) {
		if scope.name != u.Subject {
			continue
		}
		_, origin := s.hourly(scope)
		if u.Limit.Window != s.limits.Window {
			_, origin = s.daily(scope)
		}
		return scope, origin
	}
	return scope{name: u.Subject, title: u.Subject}, ""
}

func (p *Policy) refuse(q *question, d *refusal) Reply {
	p.totals.refused.Add(1)
	text := d.text(q.Node)
	p.log.Refused(q.Request, d.action, text)
	return Reply{Action: d.action, Text: text}
}

func (p *Policy) refuseLocked(q *question) Reply {
	p.totals.refused.Add(1)
	text := fmt.Sprintf(textLocked, q.who.domain)
	p.log.Refused(q.Request, Defer, text)
	return Reply{Action: Defer, Text: text}
}

// cannotCount decides what a store that fails means for mail.
func (p *Policy) cannotCount(q *question, err error) Reply {
	p.log.StoreFailed(err)
	return Reply{Action: Defer, Text: fmt.Sprintf(textUncounted, q.who.domain)}
}

// room is for how many recipients the whole message has room.
func room(r ratelimit.Result) int {
	least := int64(RoomUnlimited)
	for _, u := range r.Uses {
		if u.Limit.Max > 0 {
			least = min(least, u.Room())
		}
	}
	return int(least)
}

func atLimit(u ratelimit.Use) bool { return u.Limit.Max > 0 && u.Used >= u.Limit.Max }
