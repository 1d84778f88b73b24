package simulate

import (
	"context"
	"maps"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/config"
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
// nothing. A Simulation asks it, has it record what became of the mail, and lets
// the time pass; what it asks when is in attempt.go.
type Simulation struct {
	options  Options
	unread   error
	policy   *engine.Engine // nil until the first line tells the time
	ledger   *ratelimit.Ledger
	locks    *tallyLocks
	now      time.Time
	keep     time.Duration // the longest window that is limited
	looked   time.Time     // the step in which it was last looked at all subjects
	pruned   time.Time     // when tries were last forgotten
	tried    map[ratelimit.Token]try
	authors  map[*delivery.Source]*author
	unknown  int64          // sends that were let through and have no message
	outcomes delivery.Batch // that the Policy is to settle
	batch    uint64         // number of these
	remote   []recipient
	tally
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
	sim := &Simulation{options: o, batch: 1, tried: map[ratelimit.Token]try{}, authors: map[*delivery.Source]*author{}, tally: newTally()}
	from := settings.Sources{Config: o.Config, Panel: settings.Panel{Settings: o.Panel.Settings, ExemptLogins: o.Panel.ExemptLogins}, Live: o.Set}
	sim.settings, sim.unread = settings.New(from, envelope.FoldDomain(o.Node), o.EximUser, nil)
	return sim
}

// begin makes the Policy, now that the time is known.
func (s *Simulation) begin(now time.Time) {
	o := s.options
	s.now, s.began = now, now
	s.keep = s.settings.Keep()
	s.ledger = ratelimit.NewLedger(ratelimit.Options{Keep: s.keep})
	s.locks = &tallyLocks{sim: s, files: map[string][]sidecar.LockFile{}, tripped: map[string]bool{}}
	s.policy = engine.New(engine.Options{Config: o.Config, Node: o.Node, EximUser: o.EximUser, Store: tallyStore{s.ledger, &s.tally},
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
	case p.author == nil: // a cutthrough delivery is logged before its arrival
		p.early = true
		s.record(ctx, l)
	case l.Kind == sidecar.LogCompleted:
		s.leave(ctx, l, p)
	default:
		s.attempt(ctx, l, p)
	}
}

// record has the Policy make of a line what it can.
func (s *Simulation) record(ctx context.Context, l *delivery.Judged) {
	s.flush(ctx)
	s.policy.RecordLines(ctx, s.now, []delivery.Judged{*l})
	s.policy.Step(ctx, s.now)
}

// flush has the Policy settle what became of sends up to now.
func (s *Simulation) flush(ctx context.Context) {
	if len(s.outcomes.Outcomes) > 0 {
		s.policy.Settle(ctx, s.now, s.settings, &s.outcomes)
		s.outcomes.Clear()
		s.batch++
	}
	s.policy.Step(ctx, s.now)
}

// ask has the Policy decide about a domain, of which all is settled.
func (s *Simulation) ask(ctx context.Context, d *domainTally, r *sidecar.Request) (reply sidecar.Reply, ok bool) {
	if d.batch == s.batch {
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
		s.ledger.Sweep()
	}
}

// look looks at who may be locked or released because sends have left the window,
// and forgets what has.
func (s *Simulation) look(now time.Time) {
	for domain := range s.locks.files {
		s.policy.Turned(domain)
	}
	s.policy.Survey(now)
	if now.Sub(s.pruned) >= 30*s.step() {
		s.pruned = now
		maps.DeleteFunc(s.tried, func(_ ratelimit.Token, t try) bool { return now.Sub(t.at) > s.keep })
	}
}

func (s *Simulation) end(ctx context.Context) {
	if s.policy != nil {
		s.flush(ctx)
		s.tally.end(s.now)
	}
}
