package sidecar

import (
	"context"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/ratelimit"
)

// A Simulation decides on the messages of a log as a Policy with some settings
// would have done, at the times of the log. All decisions are those of a Policy,
// on a ledger in memory; it makes no lock files, releases nothing and keeps
// nothing.
//
// A message is decided on when its arrival was logged, with all recipients that
// are known by then (see Replay), or if nobody is charged for it yet, at each
// delivery, as the router would be asked. What an SMTP client was refused at the
// time is decided on again: let through, it is one send. What is refused here
// counts no further, whatever became of it at the time: whether the client would
// have tried again, nobody can know. Locks made by hand, and other things that an
// operator did, are not in the log.
type Simulation struct {
	options    SimulationOptions
	unread     error
	policy     *Policy // nil until the first line tells the time
	ledger     *ratelimit.Ledger
	now        time.Time
	keep       time.Duration // the longest window that is limited
	looked     time.Time     // the minute in which it was last looked at all subjects
	pending    []LogEntry    // of this second, not recorded yet
	badPending bool          // one of them is of a send that was deferred or has failed
	tried      map[ratelimit.Token]try
	identities map[identity]*identity
	unknown    int64 // sends that were let through and have no message
	tally
}

// SimulationOptions are what a Simulation is made with.
type SimulationOptions struct {
	Config   *Config
	Node     string    // as of Options
	EximUser string    // as of Options
	Panel    Panel     // as of Options, but for its stops: whom it has stopped today
	Set      []Setting // lie on top of the configuration
}

// A passage is how a message passed through a simulation.
type passage struct {
	who     *identity
	arrived bool // its arrival was replayed
	charged bool // nothing is left for the router to charge
	*exceptions
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

func (p *passage) drop(to ...string) {
	p.except().dropped = append(p.exceptions.dropped, to...)
}

func (p *passage) isDropped(to string) bool {
	return p.exceptions != nil && slices.Contains(p.dropped, to)
}

// A try is of a send that was refused at the time of the log.
type try struct {
	at     time.Time
	passed bool // let through here
}

// NewSimulation returns a simulation of settings. Where limits are watched, it
// finds what they would refuse.
func NewSimulation(o SimulationOptions) *Simulation {
	for _, s := range append(o.Config.settings(), o.Set...) {
		if s.Key == "mode" {
			o.Set = append(slices.Clone(o.Set), Setting{Scope: s.Scope, Key: s.Key, Value: string(Enforce)})
		}
	}
	sim := &Simulation{options: o, tried: map[ratelimit.Token]try{}, identities: map[identity]*identity{}, tally: newTally()}
	from := sources{config: o.Config, panel: Panel{Settings: o.Panel.Settings, ExemptLogins: o.Panel.ExemptLogins}, live: o.Set}
	sim.settings, sim.unread = newSettings(from, foldDomain(o.Node), o.EximUser, nil)
	return sim
}

// begin makes the Policy, now that the time is known.
func (s *Simulation) begin(now time.Time) {
	o := s.options
	s.now, s.began = now, now
	s.keep = o.Config.Keep()
	if slices.ContainsFunc(o.Set, func(set Setting) bool { return set.Key == "daily" }) {
		s.keep = max(s.keep, day)
	}
	s.ledger = ratelimit.NewLedger(ratelimit.Options{Keep: s.keep})
	s.policy = New(Options{Config: o.Config, Node: o.Node, EximUser: o.EximUser, Store: tallyStore{s.ledger, &s.tally},
		Notes: noNotes{}, Locks: &tallyLocks{sim: s, files: map[string][]LockFile{}}, Queue: noQueue{},
		Log: NewOperatorLog(slog.New(slog.DiscardHandler)), Now: now})
	s.policy.settings.Store(s.settings)
}

// Unread is why a file that the configuration names could not be read, if so.
func (s *Simulation) Unread() error { return s.unread }

// play replays one line. m and p are nil for a message whose arrival is not in
// the log.
func (s *Simulation) play(ctx context.Context, e *LogEntry, m *message, p *passage) {
	s.advance(ctx, e.At)
	if s.badPending && (e.Kind == LogArrived || e.Kind == LogRefused) {
		s.flush(ctx) // it may trip who sends this
	}
	switch {
	case e.Kind == LogRefused:
		s.refusedThen(ctx, e)
	case m == nil:
		s.pending = append(s.pending, *e)
	case e.Kind == LogArrived:
		s.arrive(ctx, e, m, p)
		s.pending = append(s.pending, *e)
	case e.Kind == LogCompleted:
		s.leave(e, p)
		s.pending = append(s.pending, *e)
	default:
		s.attempt(ctx, e, m, p)
	}
}

// advance brings the clock to a time of the log. It stops once a second where
// there are lines, and within longer times as often as locks may change.
func (s *Simulation) advance(ctx context.Context, at time.Time) {
	if s.policy == nil {
		s.begin(at)
	}
	if !at.After(s.now) {
		return // two processes of Exim, or a clock that was set
	}
	if at.Unix() == s.now.Unix() {
		s.now = at
		return
	}
	s.flush(ctx)
	step := s.step()
	quiet := s.now.Add(s.keep + time.Hour) // by then all is forgotten
	for next := s.now.Truncate(step).Add(step); next.Before(at) && next.Before(quiet); next = next.Add(step) {
		s.tick(ctx, next)
	}
	s.tick(ctx, at)
}

// step is how often all subjects are looked at.
func (s *Simulation) step() time.Duration {
	return min(time.Minute, s.options.Config.Limits.Window/60)
}

// tick is what a Policy does once a second.
func (s *Simulation) tick(ctx context.Context, now time.Time) {
	s.now = now
	p := s.policy
	minute := now.Truncate(s.step())
	if !minute.Equal(s.looked) {
		p.due.addAll(p.lockedDomains()) // whose end decides nothing, so this is exact enough
	}
	p.due.addAll(p.trips.domains())
	p.reconcileDue(ctx, now)
	s.ledger.Sweep()
	if minute.Equal(s.looked) {
		return
	}
	s.looked = minute
	p.ShowUsage(now) // which trips those whose good sends have left the window
	p.record.forget(now)
	for mark, t := range s.tried {
		if now.Sub(t.at) > s.keep {
			delete(s.tried, mark)
		}
	}
}

// flush records what the last second has brought, and trips who is over.
func (s *Simulation) flush(ctx context.Context) {
	if len(s.pending) > 0 {
		s.policy.Record(ctx, s.now, s.pending)
		clear(s.pending)
		s.pending = s.pending[:0]
	}
	s.badPending = false
	s.policy.reconcileDue(ctx, s.now)
}

func (s *Simulation) end(ctx context.Context) {
	if s.policy != nil {
		s.flush(ctx)
		s.tally.end(s.now)
	}
}

// ask asks the Policy, and reports whether it lets a message pass.
func (s *Simulation) ask(ctx context.Context, r Request) (Reply, bool) {
	reply := s.policy.Ask(ctx, s.now, r)
	return reply, reply.Action == Accept
}

// arrive decides on a message that has arrived, as Exim's ACLs ask.
func (s *Simulation) arrive(ctx context.Context, e *LogEntry, m *message, p *passage) {
	set := s.settings
	r := Request{ID: e.ID, Sender: e.Sender, Auth: e.Auth, Login: e.Login, ClientAddress: e.ClientAddress, CWD: m.directory}
	p.arrived, p.who = true, s.known(set.identify(&r))
	if p.who.class != charged {
		return
	}
	remote := make([]string, 0, len(m.to))
	for _, to := range m.to {
		switch a := foldRouted(to); {
		case a.domain == "" || set.localDomains.get().has(a.domain):
		case s.countedBefore(mark(e.Sender, a)):
			p.drop(to)
		default:
			remote = append(remote, to)
		}
	}
	if len(remote) == 0 {
		return
	}
	s.attribute(&r, *p.who, len(remote))
	if e.Auth == "" && e.ClientAddress == "" {
		s.arriveLocal(ctx, r, remote, p)
	} else {
		s.arriveSMTP(ctx, r, remote, p)
	}
}

// arriveSMTP asks about one recipient after the other while there may be no room
// for it, and at the end charges those that were let pass.
func (s *Simulation) arriveSMTP(ctx context.Context, r Request, remote []string, p *passage) {
	room, passed := 0, make([]string, 0, len(remote))
	for _, to := range remote {
		if len(passed) >= room {
			ask := r
			ask.ID, ask.Stage, ask.Recipient, ask.Sent = "", StageRcpt, to, len(passed)
			reply, ok := s.ask(ctx, ask)
			if !ok {
				p.drop(to)
				s.refuse(p.who.domain, 1, s.now)
				continue
			}
			room = reply.Room
		}
		passed = append(passed, to)
	}
	if len(passed) == 0 {
		return
	}
	r.Stage, r.Recipients, r.Sent = StageData, strings.Join(passed, ", "), len(passed)
	if _, ok := s.ask(ctx, r); !ok {
		p.drop(passed...)
		s.refuse(p.who.domain, len(passed), s.now)
		return
	}
	p.charged = true
}

// arriveLocal asks about a message from sendmail. What is not refused and not
// charged is held at the router.
func (s *Simulation) arriveLocal(ctx context.Context, r Request, remote []string, p *passage) {
	r.Stage, r.Recipients = StageLocal, strings.Join(remote, ", ")
	reply, ok := s.ask(ctx, r)
	if !ok {
		p.drop(remote...)
		s.refuse(p.who.domain, len(remote), s.now)
	}
	p.charged = reply.Charged
}

func (s *Simulation) prepare(entries []LogEntry) {
	for i := range entries {
		switch entries[i].Kind {
		case LogDelivered, LogDeferred, LogFailed:
			s.settings.judge(&entries[i])
		}
	}
}

// attempt decides on a delivery, as Exim's router asks, and takes in what became
// of it.
func (s *Simulation) attempt(ctx context.Context, e *LogEntry, m *message, p *passage) {
	to := sentTo(e)
	switch {
	case !p.arrived: // a cutthrough delivery, logged before its arrival
		s.pending = append(s.pending, *e)
		return
	case p.isDropped(to):
		return
	case e.Kind == LogDeferred && foldRouted(e.Recipient).domain == holdDomain:
		s.attemptHeld(ctx, e, m, p)
		return
	}
	if e.by != s.settings {
		s.settings.judge(e)
	}
	if !e.counts {
		return
	}
	who := *p.who
	if !p.charged || e.Original != "" {
		r := m.request(e, p)
		redirect := redirected(&r) != ""
		if redirect {
			who = s.settings.identify(&r)
		}
		if who.class != charged || (!p.charged || redirect) && !s.route(ctx, r, who, p) {
			return
		}
	}
	s.pending = append(s.pending, *e)
	s.badPending = s.badPending || e.kind != ratelimit.Delivered
	s.outcome(who.domain, e.Recipient, e.kind != ratelimit.Delivered, p)
}

// attemptHeld decides on a recipient that was held at the time: here it may pass.
// Where an alias or list has made it of another address, the log does not name
// it, only a hash of it; see exim-config/routers.conf.
func (s *Simulation) attemptHeld(ctx context.Context, e *LogEntry, m *message, p *passage) {
	if !limitRefused.MatchString(e.Text) {
		return // by a hand, or because it could not be counted
	}
	r := m.request(e, p)
	if s.settings.localDomains.get().has(foldRouted(e.Original).domain) {
		r.Recipient = e.Recipient[max(0, strings.LastIndexByte(e.Recipient, '-')+1):]
	} else {
		r.Recipient, r.Original = e.Original, ""
	}
	if who := s.settings.identify(&r); who.class == charged {
		s.route(ctx, r, who, p)
	}
}

// request is what the router asks about a delivery.
func (m *message) request(e *LogEntry, p *passage) Request {
	return Request{Stage: StageRoute, ID: e.ID, Sender: m.sender.Sender, Auth: m.sender.Auth, Login: m.sender.Login, ClientAddress: m.sender.Client,
		CWD: m.directory, Recipient: e.Recipient, Original: e.Original, Charged: p.charged}
}

// route asks as the router does, and reports whether a recipient is let through.
func (s *Simulation) route(ctx context.Context, r Request, who identity, p *passage) bool {
	if _, ok := s.ask(ctx, r); ok {
		return true
	}
	n := 0
	if x := p.except(); !slices.Contains(x.held, r.Recipient) {
		x.held, n = append(x.held, strings.Clone(r.Recipient)), 1
	}
	s.refuse(who.domain, n, s.now)
	return false
}

// leave forgets what would still be held of a message that has left the queue.
func (s *Simulation) leave(e *LogEntry, p *passage) {
	if p.exceptions == nil {
		return
	}
	for _, to := range p.held {
		s.policy.holds.release(p.who.domain, e.ID, token(s.settings.Node, e.ID, foldRouted(to), 0))
	}
}

// The texts by which a limit refuses, and in brackets behind them what was counted;
// see text.go. How many recipients of the same message had been let pass before is
// what its limit had room for.
var (
	limitRefused = regexp.MustCompile(`^(?:\(-?\d+\): )?(?:Domain|Mailbox|Account) \S+ has exceeded the max (?:emails per (?:hour|day) \(\d+/(\d+) |defers and failures per hour )`)
	limitCounted = regexp.MustCompile(` \[(\d+) sent in `)
)

// known is an identity of which only one copy is kept.
func (s *Simulation) known(who identity) *identity {
	known := s.identities[who]
	if known == nil {
		if len(s.identities) >= maxSenders {
			clear(s.identities)
		}
		who.domain, who.mailbox, who.account = strings.Clone(who.domain), strings.Clone(who.mailbox), strings.Clone(who.account)
		known = &who
		s.identities[who] = known
	}
	return known
}

// refusedThen decides again on what an SMTP client, or sendmail, was refused at
// the time. Where a whole message was refused, the log names none of its
// recipients: it counts as one send.
func (s *Simulation) refusedThen(ctx context.Context, e *LogEntry) {
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
	who, to := s.settings.identify(&r), foldRouted(r.Recipient)
	m := mark(r.Sender, to)
	before, again := s.tried[m]
	if who.class != charged || before.passed {
		return
	}
	_, ok := s.ask(ctx, r)
	if ok {
		s.unknown++
		r.Stage, r.ID, r.Recipients, r.Sent = StageData, "refused-"+strconv.FormatInt(s.unknown, 10), r.Recipient, 0
		_, ok = s.ask(ctx, r)
	}
	s.tried[m] = try{at: s.now, passed: ok}
	n := 1
	if again { // the client has tried again
		n = 0
	}
	s.attribute(&r, who, n)
	if !ok {
		s.refuse(who.domain, n, s.now)
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
