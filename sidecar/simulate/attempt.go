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
	"sluice/sidecar/attribution"
	"sluice/sidecar/delivery"
	"sluice/sidecar/envelope"
	"sluice/sidecar/identity"
	"sluice/sidecar/logline"
	"sluice/sidecar/settings"
)

// A simulation decides on a message when its arrival was logged, with the recipients that
// Replay knows by then; and if it was not charged then, at each delivery, like the router.
// It decides again on what an SMTP client was refused at the time: if that passes here, it
// is one send. What is refused here counts no further, whatever became of it at the time:
// nobody can know if the client would have tried again. What operators did by hand is not
// in the log.

// A state is how a message passed through a simulation.
type state struct {
	*author // nil until its arrival is replayed
	*exceptions
	arrears *author          // of a bounce: who is charged for it by its outcomes, and not asked about; else nil
	charged bool             // nothing is left for the router to charge
	arrival delivery.Arrived // as the engine would know it
}

// exceptions are the recipients to which a message was not simply delivered. Most messages
// have none.
type exceptions struct {
	dropped []string // count no further: refused, or counted before
	held    []string // the router would have held
	bad     []string // were deferred or have failed
}

func (p *state) except() *exceptions {
	if p.exceptions == nil {
		p.exceptions = &exceptions{}
	}
	return p.exceptions
}

func (p *state) drop(to ...recipient) {
	x := p.except()
	for _, one := range to {
		x.dropped = append(x.dropped, strings.Clone(one.written))
	}
}

// A try is what a simulation decided on a send that was refused at the time of the log.
type try struct {
	at     time.Time
	passed bool // it may pass here
}

// arrive decides on a message that has arrived, with the questions of Exim's ACLs.
func (s *Simulation) arrive(ctx context.Context, l *delivery.Judged, m *message, p *state) {
	if p.author != nil {
		return // the line is read again
	}
	p.author = s.authorOf(l.From)
	p.arrival = delivery.Arrived{At: s.now, Sender: l.From, Answered: m.answered, Distinct: !m.alike}
	if m.answered != nil {
		p.arrears = s.authorOf(m.answered)
	}
	if m.replied != nil {
		p.arrival.RepliesTo = m.replied.Stranger(s.settings)
	}
	if m.early {
		s.record(ctx, l) // which charges what was delivered
	}
	if p.Who.Class == sidecar.Inbound {
		s.findRelay(m, p)
	}
	if p.Who.Class != sidecar.Charged {
		return
	}
	remote := s.remoteOf(m, p)
	if len(remote) == 0 {
		return
	}
	p.countTries(len(remote))
	r := p.Request()
	r.ID, r.Login, r.ClientAddress = l.ID, l.Login, l.ClientAddress
	if s.options.Who {
		r.Subject = subjectIn(l.Line)
		if s.options.Script != nil && l.ClientAddress == "" {
			r.Script = s.options.Script(l.ID)
		}
	}
	switch {
	case l.Auth == "" && l.ClientAddress == "":
		s.arriveLocal(ctx, &r, remote, p)
	case m.alike || !s.passUnasked(l, remote, p):
		s.arriveSMTP(ctx, &r, remote, p)
	}
}

// findRelay finds out whether a client that has not logged in is one for which Exim relays: its
// message was delivered, or was to be, to an address elsewhere that no alias has made.
func (s *Simulation) findRelay(m *message, p *state) {
	for _, to := range m.to {
		if to.transport == "" || !s.isRemote(to) { // of those without, some may be addresses of this host that failed
			continue
		}
		r := p.Request()
		r.Stage, r.Recipient = sidecar.StageRoute, to.written
		if a := s.authorBy(&r); a.Who.Class == sidecar.Charged {
			a.Source = p.Source
			p.author = a
			return
		}
	}
}

// isRemote reports whether a recipient is a send by itself. The domain of one that is redirected may
// be in no list of local ones: the log is another host's.
func (s *Simulation) isRemote(to recipient) bool {
	return !to.redirects && (to.token != 0 || // it was judged
		to.Domain != "" && !s.settings.Locals.Get().Has(to.Domain) && s.settings.Config.RemoteTransport(to.transport))
}

// remoteOf returns the recipients to decide on. They are valid until the next call.
func (s *Simulation) remoteOf(m *message, p *state) []recipient {
	s.remote = s.remote[:0]
	for _, to := range m.to {
		switch {
		case !s.isRemote(to):
		case len(s.tried) > 0 && s.passedBefore(envelope.Mark(p.Sender, to.Address)):
			p.drop(to)
		default:
			s.remote = append(s.remote, to)
		}
	}
	return s.remote
}

// passUnasked lets a message pass without a question to the engine, if its domain certainly
// has room for it. Nearly all messages are like that, and to ask about each would take twice
// as long. But what nobody has asked about has no author.
func (s *Simulation) passUnasked(l *delivery.Judged, remote []recipient, p *state) bool {
	if s.options.Who || len(p.Subjects) != 1 || p.locks > 0 || p.spare <= int64(len(remote)) {
		return false
	}
	for _, to := range remote {
		if to.token == 0 {
			to.token = s.settings.Token(l.ID, to.Address, 0)
		}
		s.charges = append(s.charges, ratelimit.Report{Token: to.token, Subjects: p.Subjects, Age: s.began.Sub(s.now)})
	}
	s.engine.Who.Charged(s.now, &attribution.Message{Subject: p.Who.Subject(), Author: p.Author}, len(remote))
	p.spare -= int64(len(remote))
	s.setWaiting(p.domainTally)
	p.charged = true
	return true
}

// recipientsOf lists recipients like Request.Recipients.
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

// arriveSMTP asks about one recipient after the other, for as many as may have no room, and
// at the end charges those that passed.
func (s *Simulation) arriveSMTP(ctx context.Context, r *sidecar.Request, remote []recipient, p *state) {
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

// arriveLocal asks about a message from sendmail. What is neither refused nor charged is left
// to the router.
func (s *Simulation) arriveLocal(ctx context.Context, r *sidecar.Request, remote []recipient, p *state) {
	r.Stage, r.Recipients = sidecar.StageLocal, recipientsOf(remote)
	reply, ok := s.ask(ctx, p.domainTally, r)
	if !ok {
		p.drop(remote...)
		p.refuse(len(remote), s.now)
	}
	p.charged = reply.Charged
}

// attempt decides on a delivery, with the question of Exim's router, and records its outcome.
func (s *Simulation) attempt(ctx context.Context, l *delivery.Judged, p *state) {
	switch {
	case p.exceptions != nil && slices.Contains(p.dropped, sentTo(l).written):
		return
	case l.Kind == logline.Deferred && l.To.Domain == logline.HoldDomain:
		s.attemptHeld(ctx, l.Entry, p)
		return
	case !l.Counts:
		return
	}
	a := p.author
	if p.arrears != nil && l.Spelled != 0 {
		if a = p.arrears; a.Who.Class != sidecar.Charged {
			return
		}
		s.bounces[l.First] = true
	} else if !p.charged || l.Spelled == 0 {
		r := p.routed(l.Entry)
		if identity.Redirected(&r) != "" {
			a = s.authorBy(&r)
		}
		if a.Who.Class != sidecar.Charged || !s.route(ctx, r, a, p) {
			return
		}
	}
	bad := l.Outcome != ratelimit.Delivered
	p.outcome(a.domainTally, l.Recipient, bad)
	o := delivery.Outcome{Judged: l, Of: &p.arrival, Payer: &a.PayerLimits}
	if l.Redirected {
		o.Tried = s.engine.FirstTried(l)
	}
	s.outcomes.Add(s.settings, o)
	s.setWaiting(a.domainTally)
	if bad && s.mayTrip(a.domainTally) || s.trips.tripped[a.Domain] {
		s.flush(ctx) // it may trip now, or its trip may end
	}
}

// mayTrip reports whether a domain, of which one more send is bad, may trip once what waits
// is counted. It may also trip later, when others of its sends have left the window: see survey.
func (s *Simulation) mayTrip(d *domainTally) bool {
	d.waitingBad++
	f := s.rateOf(d)
	f.Bad += d.waitingBad
	if f.Suspect() {
		s.suspects[d] = true
	}
	return f.Over()
}

// attemptHeld decides on a recipient that was held at the time, and may pass here.
func (s *Simulation) attemptHeld(ctx context.Context, e *logline.Entry, p *state) {
	if !limitRefused.MatchString(e.Text) {
		return // by an operator, or because it could not be counted
	}
	r := p.routed(e)
	unhold(s.settings, e, &r)
	if a := s.authorBy(&r); a.Who.Class == sidecar.Charged {
		s.route(ctx, r, a, p)
	}
}

// unhold puts into a request the recipient that a line says was held. Behind an alias or
// list of this host, the log does not have the final address, only a hash of it, which
// serves as the recipient; see exim-config/routers.conf.
func unhold(s *settings.Settings, e *logline.Entry, r *sidecar.Request) {
	if s.Locals.Get().Has(envelope.FoldRouted(e.Original).Domain) {
		r.Recipient = e.Recipient[max(0, strings.LastIndexByte(e.Recipient, '-')+1):]
	} else {
		r.Recipient, r.Original = e.Original, ""
	}
}

// routed returns what the router asks about a delivery.
func (p *state) routed(e *logline.Entry) sidecar.Request {
	r := p.Request()
	r.Stage, r.ID, r.Recipient, r.Original, r.Charged = sidecar.StageRoute, e.ID, e.Recipient, e.Original, p.charged
	return r
}

// route asks as the router does, and reports whether a recipient may pass.
func (s *Simulation) route(ctx context.Context, r sidecar.Request, a *author, p *state) bool {
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

// leave drops what is still held of a message that has left the queue.
func (s *Simulation) leave(ctx context.Context, l *delivery.Judged, m *message, p *state) {
	if m.early {
		s.record(ctx, l)
	}
	s.engine.Left(l.ID)
	if p.exceptions == nil {
		return
	}
	for _, to := range p.held {
		s.engine.Holds.Drop(p.Who.Subject(), l.ID, s.settings.Token(l.ID, envelope.FoldRouted(to), 0))
	}
}

// The texts by which a limit refuses, and in brackets behind them what was counted; see
// wording/limit.go. Their numbers tell how many recipients of the message passed before.
var (
	limitRefused = regexp.MustCompile(`^(?:\(-?\d+\): )?(?:Domain|Mailbox|Account|Service|Relay|Forwarder|Website|System|Loopback) \S+ has exceeded the max (?:emails per (?:hour|day) \(\d+/(\d+) |defers and failures per hour )`)
	limitCounted = regexp.MustCompile(` \[(\d+) sent in `)
)

// askAgain decides again on what an SMTP client, or sendmail, was refused at the time. If a
// whole message was refused, the log has none of its recipients, and it counts as one send.
// Where only who sends matters, it was refused.
func (s *Simulation) askAgain(ctx context.Context, e *logline.Entry) {
	if !strings.Contains(e.Text, "exceeded the max") { // nearly always
		return
	}
	limit := limitRefused.FindStringSubmatch(e.Text)
	if limit == nil {
		return // by somebody else, or by an operator
	}
	r := refusedRequest(e)
	if r.Recipient == "" {
		r.Recipient = e.ID + "@refused.sluice.invalid"
	} else if counted := limitCounted.FindStringSubmatch(e.Text); counted != nil {
		r.Sent = max(0, number(limit[1])-number(counted[1]))
	}
	a, to := s.authorBy(&r), recipient{written: r.Recipient, Address: envelope.FoldRouted(r.Recipient)}
	if s.options.Who {
		s.engine.Who.Refused(s.now, &attribution.Message{Subject: a.Who.Subject(), Author: a.Author, Request: &r, To: []envelope.Address{to.Address}})
		return
	}
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
	a.countTries(n)
	if !ok {
		a.refuse(n, s.now)
	}
}

// refusedRequest returns what was asked about a recipient, or a message, that was refused.
func refusedRequest(e *logline.Entry) sidecar.Request {
	return sidecar.Request{Stage: sidecar.StageRcpt, Sender: e.Sender, Submitter: sidecar.Submitter{Auth: e.Auth, Login: e.Login, ClientAddress: e.ClientAddress}, Recipient: e.Recipient}
}

func number(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}

// passedBefore reports whether a send was refused at the time of the log at its first try,
// but passed and was counted here at that try. It says so once: the second try must not be
// counted again.
func (s *Simulation) passedBefore(m ratelimit.Token) bool {
	t := s.tried[m]
	if t.passed {
		delete(s.tried, m)
	}
	return t.passed
}
