package policy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/identity"
	"sluice/sidecar/limit"
	"sluice/sidecar/totals"
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
	case p.notices.pass(q):
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
		full.action = sidecar.Defer
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
	case err != nil:
		return sidecar.Reply{}
	case full == nil:
		return sidecar.Reply{Charged: true}
	case full.action == sidecar.Reject:
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
	case full != nil && full.action != sidecar.Discard:
		full.action = sidecar.Defer
		return p.hold(q, token, false, p.refuse(q, full))
	}
	p.drop(q, token)
	if full != nil {
		return p.refuse(q, full)
	}
	return sidecar.Reply{}
}

// settled reports whether a recipient at the router needs no charge: it was charged, or
// its message is older than the store's memory, so that a charge may have been forgotten.
// However old its message, a recipient is not settled that is held and was never charged,
// nor one that an alias or list has made and that Exim has never tried: it may have come
// into being just now.
func (p *Policy) settled(q *question, token ratelimit.Token) bool {
	if q.Charged && identity.Redirected(&q.Request) == "" || p.Store.Known(q.at, token) {
		return true
	}
	arrived, known := envelope.IDTime(q.ID)
	old := known && q.at.Add(arrived.Sub(q.now)).Before(p.Store.Horizon(q.at))
	return old && !p.Held.Uncharged(q.who.Subject(), q.ID, token) && (identity.Redirected(&q.Request) == "" || p.Tried(q.ID, token))
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
	p.sharing.leaveRoom(q, &t)
	return t
}

// charge charges all recipients of a question, or none and returns why.
func (p *Policy) charge(ctx context.Context, q *question) (*refusal, error) {
	return p.chargeAs(ctx, q, q.AppendTokens(q.buffers.tokens[:0], q.ID, q.to))
}

// chargeAs charges the recipients of a question under these tokens, one for each.
func (p *Policy) chargeAs(ctx context.Context, q *question, tokens []ratelimit.Token) (*refusal, error) {
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
			q.warning = fmt.Sprintf(textWatched, q.titleOf(u), q.ratio(u))
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

// A refusal is the limit that is named when several refuse, and what it answers.
type refusal struct {
	use       ratelimit.Use
	origin    limit.Origin // where the limit is set
	per       string       // hour or day
	title     string       // names who has exceeded it
	attempted int64        // sends: used, promised to this message, and refused since the limit was reached
	action    sidecar.Action
	frees     time.Time // when there is room, by the system's clock; zero if there never is room for so many
}

// refusal returns the full limit to name: one that rejects before one that defers, and of
// those the one that has room last.
func (p *Policy) refusal(q *question, t ratelimit.Take, result ratelimit.Result) *refusal {
	cutoff, _ := limit.InForce(q.Table, q.who, "defer_cutoff", func(t *limit.Thresholds) *int64 { return t.DeferCutoff })
	over, _ := limit.InForce(q.Table, q.who, "over_limit", func(t *limit.Thresholds) *limit.OverLimit { return t.OverLimit })
	var first *refusal
	for _, u := range result.Uses {
		if !u.Full || u.Watched {
			continue
		}
		r := &refusal{use: u, title: q.titleOf(u), per: "hour", attempted: u.Used + t.Ahead + u.Refused, origin: q.LimitOrigin(q.who, u.Subject, u.Limit.Window)}
		if r.action = over.Action(r.attempted*100 >= cutoff*u.Limit.Max); u.Withheld {
			r.action, r.attempted = sidecar.Defer, u.Used+t.Ahead+int64(len(q.to))
		}
		if !u.Frees.IsZero() {
			r.frees = p.Clock.Wall(q.now, u.Frees)
		}
		if u.Limit.Window != q.Window {
			r.per = "day"
		}
		if first == nil || r.before(first) {
			first = r
		}
	}
	return first
}

// before reports whether a refusal is to be named rather than another one.
func (r *refusal) before(o *refusal) bool {
	if r.action != o.action {
		return r.action == sidecar.Reject
	}
	if r.frees.IsZero() != o.frees.IsZero() {
		return r.frees.IsZero()
	}
	return r.frees.After(o.frees)
}

func (p *Policy) refuse(q *question, r *refusal) sidecar.Reply {
	p.notify(q, Decision{Refused: true, Full: r.use.Subject == q.who.Subject() && limit.UsedUp(r.use)})
	text := r.text(q.Node)
	if !sidecar.IsMailbox(r.use.Subject) && !r.use.Withheld { // these name who it is themselves
		text.Culprit = p.Culprit(q.now, r.use.Subject)
	}
	if r.use.Withheld {
		p.sharing.announce(q, r)
	}
	return p.refuseWith(q, r.action, q.reasonOf(r.use), text)
}

// refuseWith refuses. Clients are not told all that is logged: not who the culprit is, unless
// they may know, and with refusal.details = "operator" no files and nodes.
func (p *Policy) refuseWith(q *question, a sidecar.Action, why totals.Reason, text sidecar.RefusalText) sidecar.Reply {
	p.Totals.Answered()
	p.countRefusal(q, a, why)
	said := q.Config.Refusal
	emitRefused(p.Events, &q.Request, a, text.ForLog(said.Help), text.Culprit)
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
	reply := sidecar.Reply{Action: a, Text: told.For(said.Details == config.DetailsAll, said.Help)}
	if all := logged.ForLog(said.Help); all != reply.Text {
		reply.Log = all
	}
	return reply
}

// mayTell reports whether the client may know who the culprit is: it has logged in as a
// mailbox, and the culprit is one of the same domain.
func (q *question) mayTell(c sidecar.Culprit) bool {
	return q.who.Mailbox != "" && c.IsMailboxOf(q.who.Domain)
}

// mayLog reports whether Exim may log who the culprit is. With sendmail -v whoever runs it
// reads what is logged of his message: he must be the culprit, or what pays must be his own,
// which without an owner map nobody knows.
func (q *question) mayLog(c sidecar.Culprit) bool {
	return q.ClientAddress != "" || q.author.Key == c.Author.Key || q.who.Special == "" && q.OwnerMap.Get().Known()
}

// countRefusal counts the recipients of a question that is refused. What the router holds is
// counted when that begins, for it asks about it again and again.
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
	return p.refuseWith(q, sidecar.Defer, totals.Gone, sidecar.RefusalText{Text: textGone})
}

// cannotCount defers mail while the store fails.
func (p *Policy) cannotCount(q *question, err error) sidecar.Reply {
	p.Events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	p.countRefusal(q, sidecar.Defer, totals.Outage)
	text := sidecar.RefusalText{Text: fmt.Sprintf(textUncounted, sidecar.TitleOf(q.who.Subject()))}
	return sidecar.Reply{Action: sidecar.Defer, Text: text.For(false, q.Config.Refusal.Help)}
}

// hold records that the router holds a recipient, and returns the answer that has it do so.
func (p *Policy) hold(q *question, token ratelimit.Token, charged bool, r sidecar.Reply) sidecar.Reply {
	last := q.Sender == "" && strings.HasPrefix(q.who.Special, sidecar.ForwardPrefix)
	if p.Held.Hold(q.now, sidecar.Held{Payer: q.who, ID: q.ID, Token: token, Charged: charged, Last: last, Author: q.author, Stop: q.block.Stop}) {
		p.Totals.Held(q.why)
	}
	return r
}

// drop forgets that the router held a recipient.
func (p *Policy) drop(q *question, token ratelimit.Token) { p.Held.Drop(q.who.Subject(), q.ID, token) }

// notify tells the observers what was decided.
func (p *Policy) notify(q *question, d Decision) {
	d.Request, d.Payer, d.Author, d.To = &q.Request, q.who, q.author, q.to
	q.buffers.decision = d // on the heap once, and not with each question
	for _, o := range p.observers {
		o.Decided(q.now, &q.buffers.decision)
	}
}
