package simulate

import (
	"context"
	"maps"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/deferfail"
	"sluice/sidecar/delivery"
	"sluice/sidecar/engine"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/limit"
	"sluice/sidecar/settings"
)

// A Simulation decides on the messages of a log as a Policy with some settings
// would have done, at the times of the log. All decisions are those of a Policy,
// on a ledger in memory; it makes no lock files, releases nothing and keeps
// nothing. A Simulation asks it, has it take in what became of the mail, and lets
// the time pass. What it asks when is in attempt.go.
type Simulation struct {
	options Options
	unread  error
	policy  *engine.Engine // nil until the first line tells the time
	store   tallyStore
	locks   *tallyLocks
	times
	waiting
	tried   map[ratelimit.Token]try
	authors map[*delivery.Source]*author
	unknown int64       // sends that were let through and have no message
	remote  []recipient // room for remoteOf
	tally
}

// times are where a Simulation is in the log.
type times struct {
	now    time.Time
	keep   time.Duration // the longest window that is limited
	looked time.Time     // the step in which it was last looked at all subjects
	pruned time.Time     // when what has left the window was last forgotten
}

// waiting is what happened since the last flush. To take in many sends at once is
// much cheaper than one by one.
type waiting struct {
	flushes  uint64             // that were made, and 1
	charges  []ratelimit.Report // of what passed surely; ages are as of the beginning
	outcomes delivery.Batch
}

// SimulationOptions are what a Simulation is made with.
type Options struct {
	Config   *config.Config
	Node     string          // as of Options
	EximUser string          // as of Options
	Panel    settings.Panel  // as of Options, but for its stops: whom it has stopped today
	Set      []limit.Setting // lie on top of the configuration
}

// NewSimulation returns a simulation of settings.
func New(o Options) *Simulation {
	sim := &Simulation{options: o, waiting: waiting{flushes: 1}, tried: map[ratelimit.Token]try{}, authors: map[*delivery.Source]*author{}, tally: newTally()}
	from := settings.Sources{Config: o.Config, Panel: settings.Panel{Settings: o.Panel.Settings, ExemptLogins: o.Panel.ExemptLogins}, Live: o.Set}
	sim.settings, sim.unread = settings.New(from, envelope.FoldDomain(o.Node), o.EximUser, nil)
	return sim
}

// begin makes the Policy, now that the time is known.
func (s *Simulation) begin(now time.Time) {
	o := s.options
	s.now, s.began = now, now
	s.keep = s.settings.Keep()
	s.store = tallyStore{ratelimit.NewLedger(ratelimit.Options{Keep: s.keep}), &s.tally}
	s.locks = &tallyLocks{sim: s, files: map[string][]sidecar.LockFile{}, tripped: map[string]bool{}}
	s.policy = engine.New(engine.Options{Config: o.Config, Node: o.Node, EximUser: o.EximUser, Store: s.store,
		Notes: noNotes{}, Locks: s.locks, Queue: noQueue{},
		Events: event.NewStream(), Now: now})
	s.policy.Settings.Fix(s.settings)
}

// Unread is why a file that the configuration names could not be read, if so.
func (s *Simulation) Unread() error { return s.unread }

// play replays one line. m and p are nil for a message whose arrival is not in
// the log.
func (s *Simulation) play(ctx context.Context, l *delivery.Judged, m *message, p *passage) {
	s.advance(ctx, l.At)
	if l.IsOutcome() && l.By != s.settings {
		delivery.Judge(s.settings, l)
	}
	switch {
	case l.Kind == sidecar.LogRan:
	case l.Kind == sidecar.LogRefused:
		s.refusedThen(ctx, l.LogEntry)
	case m == nil:
		s.record(ctx, l)
	case l.Kind == sidecar.LogArrived:
		s.arrive(ctx, l, m, p)
	case l.Kind == sidecar.LogCompleted:
		s.leave(ctx, l, m, p)
	default:
		s.attempt(ctx, l, p)
	}
}

// record has the engine make what it can of a line: of a message whose arrival is not
// in the log, or is logged behind its first delivery.
func (s *Simulation) record(ctx context.Context, l *delivery.Judged) {
	s.flush(ctx)
	s.policy.RecordLines(ctx, s.now, []delivery.Judged{*l})
	s.policy.Step(ctx, s.now)
}

// waits notes that something of a domain waits for the next flush.
func (w *waiting) waits(d *domainTally) {
	if d.waits != w.flushes {
		d.waits, d.waitingBad = w.flushes, 0
	}
}

// flush has the ledger count what passed, and the Policy settle what became of sends.
func (s *Simulation) flush(ctx context.Context) {
	s.flushes++
	if len(s.charges) > 0 {
		for i := range s.charges {
			s.charges[i].Age += s.now.Sub(s.began)
		}
		s.store.Settle(ctx, s.now, s.charges)
		s.charges = s.charges[:0]
	}
	if len(s.outcomes.Outcomes) > 0 {
		s.policy.Settle(ctx, s.now, s.settings, &s.outcomes)
		s.outcomes.Clear()
	}
	s.policy.Step(ctx, s.now)
}

// ask has the Policy decide about a domain, of which nothing waits then, and reports
// whether it lets the mail pass.
func (s *Simulation) ask(ctx context.Context, d *domainTally, r *sidecar.Request) (reply sidecar.Reply, ok bool) {
	if d.waits == s.flushes {
		s.flush(ctx)
	}
	reply = s.policy.Ask(ctx, s.now, *r)
	s.policy.Step(ctx, s.now) // it may have reached a limit
	return reply, reply.Action == sidecar.Accept
}

// advance brings the clock to a time of the log.
func (s *Simulation) advance(ctx context.Context, at time.Time) {
	if s.policy == nil {
		s.begin(at)
	}
	if !at.After(s.now) {
		return // two processes of Exim, or a clock that was set
	}
	if second := at.Truncate(time.Second); second.After(s.now) {
		s.pass(ctx, second)
	}
	s.now = at
}

// pass lets the time pass up to a whole second in which there are lines. In
// between it stops as often as locks may change.
func (s *Simulation) pass(ctx context.Context, second time.Time) {
	step := s.step()
	quiet := s.now.Add(s.keep + time.Hour) // by then all is forgotten
	for next := s.now.Truncate(step).Add(step); next.Before(second) && next.Before(quiet); next = next.Add(step) {
		s.tick(ctx, next)
	}
	s.tick(ctx, second)
}

// step is how often all subjects are looked at: when sends leave the window.
func (s *Simulation) step() time.Duration {
	return min(time.Minute, s.options.Config.Limits.Window/60)
}

// sweepEvery is after how many seconds a part of the ledger is swept. A Policy does
// it each second; here seconds follow each other so fast that it would cost as much
// as many decisions, to give back a quarter of what an hour's sends take.
const sweepEvery = 8

// tick is what a Policy does once a second. A domain that has tripped may be released
// at any of them, another one when sends leave the window.
func (s *Simulation) tick(ctx context.Context, now time.Time) {
	step := now.Truncate(s.step())
	turn := !step.Equal(s.looked)
	if turn || len(s.locks.tripped) > 0 {
		s.flush(ctx)
	}
	s.now = now
	for domain := range s.locks.tripped {
		s.policy.Turned(domain)
	}
	if turn {
		s.looked = step
		s.look(now)
	}
	s.policy.Step(ctx, now)
	if now.Unix()%sweepEvery == 0 {
		s.store.Sweep()
	}
}

// look looks at who may be locked, tripped or released because sends have left the
// window, and now and then forgets what has.
func (s *Simulation) look(now time.Time) {
	for domain := range s.locks.files {
		s.policy.Turned(domain)
	}
	for d := range s.suspects {
		f := s.rateOf(d)
		if f.Over() {
			s.policy.Turned(d.Domain)
		}
		if !f.Suspect() {
			delete(s.suspects, d)
		}
	}
	if now.Sub(s.pruned) >= 30*s.step() {
		s.pruned = now
		s.policy.Forget(now)
		maps.DeleteFunc(s.tried, func(_ ratelimit.Token, t try) bool { return now.Sub(t.at) > s.keep })
	}
}

// rateOf is how a domain stands with its defer/fail percentage.
func (s *Simulation) rateOf(d *domainTally) deferfail.Rate {
	f := d.deferfail
	f.Count(s.store.Standing(s.now, d.Domain), s.settings.Window)
	return f
}

func (s *Simulation) end(ctx context.Context) {
	if s.policy != nil {
		s.flush(ctx)
		s.tally.end(s.now)
	}
}
