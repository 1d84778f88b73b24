package sidecar

import (
	"context"
	"slices"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// A Simulation decides on the messages of a log as a Policy with some settings
// would have done, at the times of the log. All decisions are those of a Policy,
// on a ledger in memory; it makes no lock files, releases nothing and keeps
// nothing. What it decides on when is in attempt.go.
type Simulation struct {
	options SimulationOptions
	number  int // among those of a Replay
	unread  error
	policy  *Policy // nil until the first line tells the time
	ledger  *ratelimit.Ledger
	now     time.Time
	keep    time.Duration // the longest window that is limited
	looked  time.Time     // the step in which it was last looked at all subjects
	pruned  time.Time     // when what has left the window was last forgotten
	tried   map[ratelimit.Token]try
	slice   int64                     // the last slice of the window in which something was logged
	charges []ratelimit.Report        // that passed, and that the ledger does not have yet; ages are as of began
	payers  []*domainTally            // of charges
	unpaid  [unidentified + 1]*author // of whom nobody pays for, by class
	unknown int64                     // sends that were let through and have no message
	remote  []recipient               // for remoteOf
	to      []address                 // for decide, as the following
	tokens  []ratelimit.Token
	space   space
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

// NewSimulation returns a simulation of settings.
func NewSimulation(o SimulationOptions) *Simulation {
	sim := &Simulation{options: o, tried: map[ratelimit.Token]try{}, tally: newTally()}
	for i := range sim.unpaid {
		sim.unpaid[i] = &author{payer: payer{who: identity{class: class(i)}}}
	}
	from := sources{config: o.Config, panel: Panel{Settings: o.Panel.Settings, ExemptLogins: o.Panel.ExemptLogins}, live: o.Set}
	sim.settings, sim.unread = newSettings(from, foldDomain(o.Node), o.EximUser, nil)
	return sim
}

// begin makes the Policy, now that the time is known.
func (s *Simulation) begin(now time.Time) {
	o := s.options
	s.now, s.began = now, now
	s.keep = s.settings.keep()
	s.ledger = ratelimit.NewLedger(ratelimit.Options{Keep: s.keep})
	s.policy = New(Options{Config: o.Config, Node: o.Node, EximUser: o.EximUser, Store: tallyStore{s.ledger, &s.tally},
		Notes: noNotes{}, Locks: &tallyLocks{sim: s, files: map[string][]LockFile{}}, Queue: noQueue{},
		Events: event.NewStream(), Now: now, Silent: true})
	s.policy.settings.fix(s.settings)
}

// Unread is why a file that the configuration names could not be read, if so.
func (s *Simulation) Unread() error { return s.unread }

// play replays one line. m and p are nil for a message whose arrival is not in
// the log.
func (s *Simulation) play(ctx context.Context, e *LogEntry, m *message, p *passage) {
	s.advance(ctx, e.At)
	switch {
	case e.Kind == LogRan:
	case e.Kind == LogRefused:
		s.refusedThen(ctx, e)
	case m == nil || p.author == nil && e.Kind != LogArrived: // a cutthrough delivery is logged before its arrival
		s.record(ctx, e)
	case e.Kind == LogArrived:
		s.arrive(ctx, e, m, p)
	case e.Kind == LogCompleted:
		s.leave(e, p)
	default:
		s.attempt(ctx, e, m, p)
	}
}

// record has the Policy make of a line what it can.
func (s *Simulation) record(ctx context.Context, e *LogEntry) {
	s.flush(ctx)
	s.policy.Record(ctx, s.now, []LogEntry{*e})
	for _, domain := range s.policy.record.batch.domains {
		s.mayTrip(s.domain(domain))
	}
}

// advance brings the clock to a time of the log.
func (s *Simulation) advance(ctx context.Context, at time.Time) {
	if s.policy == nil {
		s.begin(at)
	}
	if !at.After(s.now) {
		return // two processes of Exim, or a clock that was set
	}
	if slice := s.sliceOf(at); slice != s.slice {
		s.flush(ctx) // what was sent until now is counted before any of it leaves the window
		s.peaks()
		s.slice = slice
	}
	if second := at.Truncate(time.Second); second.After(s.now) {
		s.pass(ctx, second)
	}
	s.now = at
}

// peaks finds the most sends of those who may have more in the hourly window than
// ever before.
func (s *Simulation) peaks() {
	now := s.policy.clock.Store(s.now)
	for _, d := range s.higher {
		d.atMost, d.higher = s.ledger.Standing(now, d.Domain).Sent(s.settings.window), false
		d.Peak = max(d.Peak, d.atMost)
	}
	s.higher = s.higher[:0]
}

// sliceOf is in which slice of the hourly window a time is: sends leave the window
// at the end of one (see ratelimit).
func (s *Simulation) sliceOf(at time.Time) int64 {
	return at.UnixMicro() / ((s.settings.window.Microseconds() + 59) / 60)
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

// tick is what a Policy does once a second.
func (s *Simulation) tick(ctx context.Context, now time.Time) {
	p, step := s.policy, now.Truncate(s.step())
	turn, tripped := !step.Equal(s.looked), p.deferfail.trips.domains()
	if turn || len(tripped) > 0 {
		s.flush(ctx)
	}
	s.now = now
	p.loop.LookAtNextTick(tripped...)
	if turn {
		s.look(ctx, now)
		s.looked = step
	}
	p.loop.Step(ctx, now)
	if now.Unix()%sweepEvery == 0 {
		s.ledger.Sweep()
	}
}

// look looks at who may be locked or released because sends have left the window,
// and forgets what has.
func (s *Simulation) look(ctx context.Context, now time.Time) {
	p := s.policy
	p.lockFiles.tick(ctx, now) // whose end decides nothing, so this is exact enough
	s.bad = slices.DeleteFunc(s.bad, func(d *domainTally) bool {
		f := s.deferfailOf(d)
		if f.over() {
			p.loop.Look(d.Domain)
		}
		d.manyBad = f.bad >= f.min
		return !d.manyBad
	})
	p.record.forget(now)
	for _, domain := range p.holds.Domains() {
		p.holds.expire(domain, now)
	}
	if now.Sub(s.pruned) < 30*s.step() {
		return
	}
	s.pruned = now
	p.deferfail.bads.prune(now.Add(-s.settings.window - s.settings.window/60))
	for mark, t := range s.tried {
		if now.Sub(t.at) > s.keep {
			delete(s.tried, mark)
		}
	}
}

// deferfailOf is how a domain stands with its defer/fail percentage.
func (s *Simulation) deferfailOf(d *domainTally) deferfail {
	f := d.deferfail
	f.count(s.ledger.Standing(s.policy.clock.Store(s.now), d.Domain), s.settings.window)
	return f
}

// flush has the ledger count what passed and settle the outcomes that are known, and
// trips who is over.
func (s *Simulation) flush(ctx context.Context) {
	if s.policy == nil {
		return
	}
	if b := &s.policy.record.batch; len(b.outcomes) > 0 {
		s.policy.settle(ctx, s.now, s.settings, b) // first: it charges most of what passed
		for _, d := range s.unsettled {
			if d.spare <= 0 || d.pending.trips {
				s.policy.loop.Look(d.Domain)
			}
		}
		b.clear()
		s.settling = s.settling[:0]
	}
	s.chargeAll()
	for _, d := range s.unsettled {
		d.pending = pending{}
	}
	s.unsettled = s.unsettled[:0]
	s.policy.loop.Step(ctx, s.now)
}

func (s *Simulation) end(ctx context.Context) {
	if s.policy != nil {
		s.flush(ctx)
		s.peaks()
		s.tally.end(s.now)
	}
}
