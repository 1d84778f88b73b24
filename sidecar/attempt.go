package sidecar

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/ratelimit"
)

// A message is decided on when its arrival was logged, with all recipients that
// are known by then (see Replay), or if nobody is charged for it yet, at each
// delivery, as the router would be asked. What an SMTP client was refused at the
// time is decided on again: let through, it is one send. What is refused here
// counts no further, whatever became of it at the time: whether the client would
// have tried again, nobody can know. Locks made by hand, and other things that an
// operator did, are not in the log.

// A passage is how a message passed through a simulation.
type passage struct {
	*author // nil until its arrival is replayed
	*exceptions
	charged bool    // nothing is left for the router to charge
	arrival arrived // as the Policy would have it
}

// exceptions are the recipients of a message that did not just get it. Most
// messages have none.
type exceptions struct {
	dropped []string // count no further: refused, or counted before
	held    []string // the router would have held
	bad     []string // were deferred or have failed
}

func (p *passage) except() *exceptions {
	if p.exceptions == nil {
		p.exceptions = &exceptions{}
	}
	return p.exceptions
}

func (p *passage) drop(to ...recipient) {
	x := p.except()
	for _, one := range to {
		x.dropped = append(x.dropped, strings.Clone(one.written))
	}
}

// A try is of a send that was refused at the time of the log.
type try struct {
	at     time.Time
	passed bool // let through here
}

// arrive decides on a message that has arrived, as Exim's ACLs ask.
func (s *Simulation) arrive(ctx context.Context, e *LogEntry, m *message, p *passage) {
	if p.author != nil {
		return // told again
	}
	p.author, p.arrival = s.authorOf(m), arrived{at: s.now, sender: m.sender, distinct: !m.alike}
	s.deliverEarly(ctx, e)
	if p.who.class != charged {
		return
	}
	remote := s.remoteOf(m, p)
	if len(remote) == 0 {
		return
	}
	p.tries(len(remote))
	if !m.local && s.chargeSoon(remote, p) {
		return
	}
	r := m.request()
	r.ID, r.Login, r.ClientAddress = e.ID, e.Login, e.ClientAddress
	if m.local {
		s.arriveLocal(ctx, &r, remote, p)
	} else {
		s.arriveSMTP(ctx, &r, remote, p)
	}
}

// deliverEarly has the Policy charge a cutthrough delivery, now that it can be
// known to whom.
func (s *Simulation) deliverEarly(ctx context.Context, e *LogEntry) {
	r := s.policy.record
	if len(r.early) == 0 || r.early[e.ID] == nil {
		return
	}
	s.record(ctx, e)
	r.leave(e.ID) // what follows is this simulation's
}

// remoteOf finds the recipients that are to be decided on. They are good until the
// next call.
func (s *Simulation) remoteOf(m *message, p *passage) []recipient {
	local := s.settings.localDomains.get()
	s.remote = s.remote[:0]
	for _, to := range m.to {
		switch {
		case to.token == 0 && (to.domain == "" || local.has(to.domain)): // one with a token was judged
		case len(s.tried) > 0 && s.countedBefore(mark(m.sender.Sender, to.address)):
			p.drop(to)
		default:
			if m.alike {
				to.token = 0 // only the first has it
			}
			s.remote = append(s.remote, to)
		}
	}
	return s.remote
}

// decide has the Policy decide on some recipients, and reports whether it lets
// them pass.
func (s *Simulation) decide(ctx context.Context, a *author, to []recipient, r *Request) (Reply, bool) {
	if a.pending.any {
		s.flush(ctx)
	}
	s.last = a.domainTally
	q := question{Request: *r, Settings: s.settings, now: s.now, at: s.policy.clock.Store(s.now), who: a.who, space: &s.space}
	s.to, s.tokens = s.to[:0], s.tokens[:0]
	for _, one := range to {
		s.to = append(s.to, one.address)
		if one.token != 0 {
			s.tokens = append(s.tokens, one.token)
		}
	}
	if q.to = s.to; len(s.tokens) == len(to) {
		q.tokens = s.tokens
	}
	reply := s.policy.decide(ctx, &q)
	s.policy.loop.Step(ctx, s.now) // it may have reached a limit
	return reply, reply.Action == Accept
}

// chargeSoon lets a message pass for which the last decision has left room, and
// then some: the ledger has time to count it until the next decision.
func (s *Simulation) chargeSoon(remote []recipient, p *passage) bool {
	if !p.hasRoom(len(remote)) || slices.ContainsFunc(remote, func(to recipient) bool { return to.token == 0 }) {
		return false
	}
	for _, to := range remote {
		s.charges = append(s.charges, ratelimit.Report{Token: to.token, Subjects: p.subjects, Age: s.began.Sub(s.now)})
		s.payers = append(s.payers, p.domainTally)
	}
	s.unsettle(p.domainTally).charges += int64(len(remote))
	p.charged = true
	return true
}

// chargeAll has the ledger count what passed, dated by when it did.
func (s *Simulation) chargeAll() {
	now := s.policy.clock.Store(s.now)
	for i := range s.charges {
		s.charges[i].Age += s.now.Sub(s.began)
	}
	s.ledger.Settle(now, s.charges)
	for i, d := range s.payers {
		if s.charges[i].Charged {
			s.sentOne(d)
		}
	}
	s.charges, s.payers = s.charges[:0], s.payers[:0]
}

// arriveSMTP asks about one recipient after the other while there may be no room
// for it, and at the end charges those that were let pass.
func (s *Simulation) arriveSMTP(ctx context.Context, r *Request, remote []recipient, p *passage) {
	room, passed := 0, remote[:0]
	if p.hasRoom(len(remote)) {
		room = len(remote)
	}
	for i, to := range remote {
		if len(passed) >= room {
			r.Stage, r.Sent = StageRcpt, len(passed)
			reply, ok := s.decide(ctx, p.author, remote[i:i+1], r)
			if !ok {
				p.drop(to)
				p.refuse(1, s.now)
				continue
			}
			room = reply.Room
		}
		passed = append(passed, to)
	}
	if len(passed) == 0 {
		return
	}
	r.Stage, r.Sent = StageData, len(passed)
	if _, ok := s.decide(ctx, p.author, passed, r); !ok {
		p.drop(passed...)
		p.refuse(len(passed), s.now)
		return
	}
	p.charged = true
}

// arriveLocal asks about a message from sendmail. What is not refused and not
// charged is held at the router.
func (s *Simulation) arriveLocal(ctx context.Context, r *Request, remote []recipient, p *passage) {
	r.Stage = StageLocal
	reply, ok := s.decide(ctx, p.author, remote, r)
	if !ok {
		p.drop(remote...)
		p.refuse(len(remote), s.now)
	}
	p.charged = reply.Charged
}

// attempt decides on a delivery, as Exim's router asks, and takes in what became
// of it.
func (s *Simulation) attempt(ctx context.Context, e *LogEntry, m *message, p *passage) {
	if e.by != s.settings {
		s.settings.judge(e)
	}
	switch {
	case p.exceptions != nil && slices.Contains(p.dropped, sentTo(e).written):
		return
	case e.Kind == LogDeferred && e.to.domain == holdDomain:
		s.attemptHeld(ctx, e, m, p)
		return
	case !e.counts:
		return
	}
	a := p.author
	if !p.charged || e.spelled == 0 {
		r := m.routed(e, p)
		redirect := redirected(&r) != ""
		if redirect {
			a = s.authorBy(&r)
		}
		if a.who.class != charged || (!p.charged || redirect) && !s.route(ctx, r, a, p) {
			return
		}
	}
	if e.Doubtful && a.pending.any { // it charges nobody: that is to be done before
		s.flush(ctx)
	}
	bad := e.kind != ratelimit.Delivered
	s.policy.record.batch.add(s.settings, outcome{LogEntry: e, of: &p.arrival, payer: &a.payer})
	s.settling = append(s.settling, a.domainTally)
	p.outcome(a.domainTally, e.Recipient, bad)
	pending := s.unsettle(a.domainTally)
	if bad {
		pending.bad++
	}
	if bad && s.mayTrip(a.domainTally) || a.locks > 0 && s.policy.deferfail.trips.has(a.who.domain) {
		pending.trips = true // or it is released
		s.flush(ctx)
	}
}

// mayTrip tells whether a domain, of which something more is bad, may be over its
// percentage, with what is not settled yet. Or it may be later, when others of its
// sends have left the window: see look.
func (s *Simulation) mayTrip(d *domainTally) bool {
	f := s.deferfailOf(d)
	f.bad += d.pending.bad
	if f.bad >= f.min && !d.manyBad && !f.none() {
		d.manyBad = true
		s.bad = append(s.bad, d)
	}
	return f.over()
}

// attemptHeld decides on a recipient that was held at the time: here it may pass.
// Where an alias or list has made it of another address, the log does not name
// it, only a hash of it; see exim-config/routers.conf.
func (s *Simulation) attemptHeld(ctx context.Context, e *LogEntry, m *message, p *passage) {
	if !limitRefused.MatchString(e.Text) {
		return // by a hand, or because it could not be counted
	}
	r := m.routed(e, p)
	if s.settings.localDomains.get().has(foldRouted(e.Original).domain) {
		r.Recipient = e.Recipient[max(0, strings.LastIndexByte(e.Recipient, '-')+1):]
	} else {
		r.Recipient, r.Original = e.Original, ""
	}
	if a := s.authorBy(&r); a.who.class == charged {
		s.route(ctx, r, a, p)
	}
}

// request is what is known of a message when it is asked about.
func (m *message) request() Request {
	from := &m.sender.origin
	return Request{Sender: from.Sender, Auth: from.Auth, Login: from.Login, ClientAddress: from.Client, CWD: from.Directory}
}

// routed is what the router asks about a delivery.
func (m *message) routed(e *LogEntry, p *passage) Request {
	r := m.request()
	r.Stage, r.ID, r.Recipient, r.Original, r.Charged = StageRoute, e.ID, e.Recipient, e.Original, p.charged
	return r
}

// route asks as the router does, and reports whether a recipient is let through.
func (s *Simulation) route(ctx context.Context, r Request, a *author, p *passage) bool {
	if a.pending.any {
		s.flush(ctx)
	}
	if s.policy.Ask(ctx, s.now, r).Action == Accept {
		return true
	}
	n := 0
	if x := p.except(); !slices.Contains(x.held, r.Recipient) {
		x.held, n = append(x.held, strings.Clone(r.Recipient)), 1
	}
	a.refuse(n, s.now)
	return false
}

// leave forgets what would still be held of a message that has left the queue.
func (s *Simulation) leave(e *LogEntry, p *passage) {
	if p.exceptions == nil {
		return
	}
	for _, to := range p.held {
		s.policy.holds.release(p.who.domain, e.ID, s.settings.token(e.ID, foldRouted(to), 0))
	}
}

// The texts by which a limit refuses, and in brackets behind them what was counted;
// see text.go. How many recipients of the same message had been let pass before is
// what its limit had room for.
var (
	limitRefused = regexp.MustCompile(`^(?:\(-?\d+\): )?(?:Domain|Mailbox|Account) \S+ has exceeded the max (?:emails per (?:hour|day) \(\d+/(\d+) |defers and failures per hour )`)
	limitCounted = regexp.MustCompile(` \[(\d+) sent in `)
)

// refusedThen decides again on what an SMTP client, or sendmail, was refused at
// the time. Where a whole message was refused, the log names none of its
// recipients: it counts as one send.
func (s *Simulation) refusedThen(ctx context.Context, e *LogEntry) {
	if !strings.Contains(e.Text, "exceeded the max") { // nearly always
		return
	}
	limit := limitRefused.FindStringSubmatch(e.Text)
	if limit == nil {
		return // by somebody else, or by a hand
	}
	r := Request{Stage: StageRcpt, Sender: e.Sender, Auth: e.Auth, Login: e.Login, ClientAddress: e.ClientAddress, Recipient: e.Recipient}
	if r.Recipient == "" {
		r.Recipient = e.ID + "@refused.sluice.invalid"
	} else if counted := limitCounted.FindStringSubmatch(e.Text); counted != nil {
		r.Sent = max(0, number(limit[1])-number(counted[1]))
	}
	a, to := s.authorBy(&r), []recipient{{address: foldRouted(r.Recipient)}}
	m := mark(r.Sender, to[0].address)
	before, again := s.tried[m]
	if a.who.class != charged || before.passed {
		return
	}
	_, ok := s.decide(ctx, a, to, &r)
	if ok {
		s.unknown++
		r.Stage, r.ID, r.Sent = StageData, "refused-"+strconv.FormatInt(s.unknown, 10), 0
		_, ok = s.decide(ctx, a, to, &r)
	}
	s.tried[m] = try{at: s.now, passed: ok}
	n := 1
	if again { // the client has tried again
		n = 0
	}
	a.tries(n)
	if !ok {
		a.refuse(n, s.now)
	}
}

func number(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}

// countedBefore tells whether a send is one that was refused at the time, let
// through here, and tried again by its client.
func (s *Simulation) countedBefore(m ratelimit.Token) bool {
	t := s.tried[m]
	if t.passed {
		delete(s.tried, m)
	}
	return t.passed
}
