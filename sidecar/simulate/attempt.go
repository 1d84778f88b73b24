package simulate

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/delivery"
	"sluice/sidecar/envelope"
	"sluice/sidecar/identity"
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
	charged bool             // nothing is left for the router to charge
	arrival delivery.Arrived // as the Policy would know it
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
func (s *Simulation) arrive(ctx context.Context, l *delivery.Judged, m *message, p *passage) {
	if p.author != nil {
		return // told again
	}
	p.author = s.authorOf(l.From)
	p.arrival = delivery.Arrived{At: s.now, Sender: l.From, Distinct: !m.alike}
	if m.early {
		s.record(ctx, l) // which charges what was delivered
	}
	if p.Who.Class != sidecar.Charged {
		return
	}
	remote := s.remoteOf(m, p)
	if len(remote) == 0 {
		return
	}
	p.tries(len(remote))
	r := p.Request()
	r.ID, r.Login, r.ClientAddress = l.ID, l.Login, l.ClientAddress
	switch {
	case l.Auth == "" && l.ClientAddress == "":
		s.arriveLocal(ctx, &r, remote, p)
	case m.alike || !s.passSurely(l, remote, p):
		s.arriveSMTP(ctx, &r, remote, p)
	}
}

// remoteOf finds the recipients that are to be decided on. They are good until the
// next call.
func (s *Simulation) remoteOf(m *message, p *passage) []recipient {
	local := s.settings.Locals.Get()
	s.remote = s.remote[:0]
	for _, to := range m.to {
		switch {
		case to.token == 0 && (to.Domain == "" || local.Has(to.Domain)): // one with a token was judged
		case len(s.tried) > 0 && s.countedBefore(envelope.Mark(p.Sender, to.Address)):
			p.drop(to)
		default:
			s.remote = append(s.remote, to)
		}
	}
	return s.remote
}

// passSurely lets a message pass without asking, if what is known of its domain
// leaves room for it. Nearly all of a log is like that; to ask about each would take
// twice as long.
func (s *Simulation) passSurely(l *delivery.Judged, remote []recipient, p *passage) bool {
	if len(p.Subjects) != 1 || p.locks > 0 || p.spare <= int64(len(remote)) {
		return false
	}
	for _, to := range remote {
		if to.token == 0 {
			to.token = s.settings.Token(l.ID, to.Address, 0)
		}
		s.charges = append(s.charges, ratelimit.Report{Token: to.token, Subjects: p.Subjects, Age: s.began.Sub(s.now)})
	}
	p.spare -= int64(len(remote))
	s.waits(p.domainTally)
	p.charged = true
	return true
}

// recipientsOf lists some recipients as Request.Recipients does.
func recipientsOf(to []recipient) string {
	if len(to) == 1 {
		return to[0].Listed(to[0].written)
	}
	var b strings.Builder
	for _, one := range to {
		b.WriteString(one.Listed(one.written))
		b.WriteString(", ")
	}
	return b.String()
}

// arriveSMTP asks about one recipient after the other while there may be no room
// for it, and at the end charges those that were let pass.
func (s *Simulation) arriveSMTP(ctx context.Context, r *sidecar.Request, remote []recipient, p *passage) {
	room, passed := 0, remote[:0]
	for _, to := range remote {
		if len(passed) >= room {
			r.Stage, r.Recipient, r.Sent = sidecar.StageRcpt, to.written, len(passed)
			reply, ok := s.ask(ctx, p.domainTally, r)
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
	r.Stage, r.Recipients, r.Sent = sidecar.StageData, recipientsOf(passed), len(passed)
	if _, ok := s.ask(ctx, p.domainTally, r); !ok {
		p.drop(passed...)
		p.refuse(len(passed), s.now)
		return
	}
	p.charged = true
}

// arriveLocal asks about a message from sendmail. What is not refused and not
// charged is held at the router.
func (s *Simulation) arriveLocal(ctx context.Context, r *sidecar.Request, remote []recipient, p *passage) {
	r.Stage, r.Recipients = sidecar.StageLocal, recipientsOf(remote)
	reply, ok := s.ask(ctx, p.domainTally, r)
	if !ok {
		p.drop(remote...)
		p.refuse(len(remote), s.now)
	}
	p.charged = reply.Charged
}

// attempt decides on a delivery, as Exim's router asks, and takes in what became
// of it.
func (s *Simulation) attempt(ctx context.Context, l *delivery.Judged, p *passage) {
	switch {
	case p.exceptions != nil && slices.Contains(p.dropped, sentTo(l).written):
		return
	case l.Kind == sidecar.LogDeferred && l.To.Domain == delivery.HoldDomain:
		s.attemptHeld(ctx, l.LogEntry, p)
		return
	case !l.Counts:
		return
	}
	a := p.author
	if !p.charged || l.Spelled == 0 {
		r := p.routed(l.LogEntry)
		redirect := identity.Redirected(&r) != ""
		if redirect {
			a = s.authorBy(&r)
		}
		if a.Who.Class != sidecar.Charged || (!p.charged || redirect) && !s.route(ctx, r, a, p) {
			return
		}
	}
	bad := l.Outcome != ratelimit.Delivered
	p.outcome(a.domainTally, l.Recipient, bad)
	s.outcomes.Add(s.settings, delivery.Outcome{Judged: l, Of: &p.arrival, Payer: &a.PayerLimits})
	s.waits(a.domainTally)
	if bad && s.mayTrip(a.domainTally) || s.locks.tripped[a.Domain] {
		s.flush(ctx) // in the second case it may be released
	}
}

// mayTrip tells whether a domain, of which one more outcome is bad, may be over its
// percentage with what waits. Or it may be later, when others of its sends have left
// the window: see look.
func (s *Simulation) mayTrip(d *domainTally) bool {
	d.waitingBad++
	f := s.rateOf(d)
	f.Bad += d.waitingBad
	if f.Suspect() {
		s.suspects[d] = true
	}
	return f.Over()
}

// attemptHeld decides on a recipient that was held at the time: here it may pass.
// Where an alias or list has made it of another address, the log does not name
// it, only a hash of it; see exim-config/routers.conf.
func (s *Simulation) attemptHeld(ctx context.Context, e *sidecar.LogEntry, p *passage) {
	if !limitRefused.MatchString(e.Text) {
		return // by a hand, or because it could not be counted
	}
	r := p.routed(e)
	if s.settings.Locals.Get().Has(envelope.FoldRouted(e.Original).Domain) {
		r.Recipient = e.Recipient[max(0, strings.LastIndexByte(e.Recipient, '-')+1):]
	} else {
		r.Recipient, r.Original = e.Original, ""
	}
	if a := s.authorBy(&r); a.Who.Class == sidecar.Charged {
		s.route(ctx, r, a, p)
	}
}

// routed is what the router asks about a delivery.
func (p *passage) routed(e *sidecar.LogEntry) sidecar.Request {
	r := p.Request()
	r.Stage, r.ID, r.Recipient, r.Original, r.Charged = sidecar.StageRoute, e.ID, e.Recipient, e.Original, p.charged
	return r
}

// route asks as the router does, and reports whether a recipient is let through.
func (s *Simulation) route(ctx context.Context, r sidecar.Request, a *author, p *passage) bool {
	if _, ok := s.ask(ctx, a.domainTally, &r); ok {
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
func (s *Simulation) leave(ctx context.Context, l *delivery.Judged, m *message, p *passage) {
	if m.early {
		s.record(ctx, l)
	}
	if p.exceptions == nil {
		return
	}
	for _, to := range p.held {
		s.policy.Holds.Drop(p.Who.Domain, l.ID, s.settings.Token(l.ID, envelope.FoldRouted(to), 0))
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
func (s *Simulation) refusedThen(ctx context.Context, e *sidecar.LogEntry) {
	if !strings.Contains(e.Text, "exceeded the max") { // nearly always
		return
	}
	limit := limitRefused.FindStringSubmatch(e.Text)
	if limit == nil {
		return // by somebody else, or by a hand
	}
	r := sidecar.Request{Stage: sidecar.StageRcpt, Sender: e.Sender, Auth: e.Auth, Login: e.Login, ClientAddress: e.ClientAddress, Recipient: e.Recipient}
	if r.Recipient == "" {
		r.Recipient = e.ID + "@refused.sluice.invalid"
	} else if counted := limitCounted.FindStringSubmatch(e.Text); counted != nil {
		r.Sent = max(0, number(limit[1])-number(counted[1]))
	}
	a, to := s.authorBy(&r), recipient{written: r.Recipient, Address: envelope.FoldRouted(r.Recipient)}
	m := envelope.Mark(r.Sender, to.Address)
	before, again := s.tried[m]
	if a.Who.Class != sidecar.Charged || before.passed {
		return
	}
	_, ok := s.ask(ctx, a.domainTally, &r)
	if ok {
		s.unknown++
		r.Stage, r.ID, r.Sent, r.Recipients = sidecar.StageData, "refused-"+strconv.FormatInt(s.unknown, 10), 0, recipientsOf([]recipient{to})
		_, ok = s.ask(ctx, a.domainTally, &r)
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
