package simulate

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/attribution"
	"sluice/sidecar/config"
	"sluice/sidecar/deferfail"
	"sluice/sidecar/delivery"
	"sluice/sidecar/engine"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/limit"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/logline"
	"sluice/sidecar/settings"
)

// A Simulation decides on the messages of a log as an engine with some settings would have
// done, at the times of the log. It has an engine of its own, with the counts in memory; it
// makes no lock files, releases nothing and keeps nothing. It asks the engine, has it record
// what became of the mail, and advances its time. What it asks is in attempt.go.
type Simulation struct {
	options Options
	unread  error
	engine  *engine.Engine // nil until the first line tells the time
	ports
	times
	waiting
	tried   map[ratelimit.Token]try
	authors map[*delivery.Source]*author
	unknown int64       // sends that were let through and have no message
	remote  []recipient // room for remoteOf
	tally
}

// ports are what the engine has in place of a journal, a lock directory and an operator's log.
type ports struct {
	store tallyStore
	locks *tallyLocks
	trips tallyTrips
}

// times are where a Simulation is in the log.
type times struct {
	now      time.Time
	keep     time.Duration // the longest window that is limited
	surveyed time.Time     // the step of the last survey
	pruned   time.Time     // when what has left the window was last forgotten
}

// waiting is what was decided since the last flush. To count many sends at once is much
// cheaper than one by one.
type waiting struct {
	nextFlush uint64             // the first is 1
	charges   []ratelimit.Report // of what passUnasked let pass; until flush, ages are as of began
	outcomes  delivery.Batch
}

// Options are what a Simulation is made with.
type Options struct {
	Config   *config.Config
	Node     string                // as of engine.Options
	EximUser string                // as of engine.Options
	Own      func(netip.Addr) bool // as of engine.Options
	Panel    settings.Panel        // as of engine.Options; its blocks are left out, as they are today's and not the log's
	Set      []limit.Setting       // put on top of the configuration
	Foreign  bool                  // the logs are of another host, of which there is no owner map
	Spikes   bool                  // find them too
	Who      bool                  // only who sends matters: nothing is limited or exempt, and Who knows all authors of the log

	// Script returns what a header of a message that is in the queue now says of the script
	// that has sent it; nil: nothing is known of the queue.
	Script func(id string) string
}

// New returns a Simulation of some settings.
func New(o Options) *Simulation {
	sim := &Simulation{options: o, waiting: waiting{nextFlush: 1}, tried: map[ratelimit.Token]try{}, authors: map[*delivery.Source]*author{}, tally: newTally()}
	sim.settings, sim.unread = o.settings()
	sim.share = mostShare(sim.settings.Table)
	for _, set := range o.Set {
		sim.unseen[set.Scope] = true
	}
	for _, known := range [...]string{sidecar.DefaultScope, sidecar.System, sidecar.Loopback} {
		delete(sim.unseen, known)
	}
	return sim
}

// settings returns what is in force. If a file cannot be read, it returns an error, and also
// settings that work, without what is in that file.
func (o Options) settings() (*settings.Settings, error) {
	from := settings.Sources{Config: o.Config, Panel: settings.Panel{Settings: o.Panel.Settings, ExemptLogins: o.Panel.ExemptLogins}, Live: o.Set}
	if o.Who {
		from = settings.Sources{Config: unlimited(o.Config)}
	}
	s, err := settings.New(from, settings.Host{Node: envelope.FoldDomain(o.Node), EximUser: o.EximUser, Own: o.Own}, nil)
	s.PanelLogins = o.Foreign
	return s, err
}

// unlimited is a configuration by which everybody is counted, and nobody is limited.
func unlimited(c *config.Config) *config.Config {
	free := *c
	free.Limits, free.Identity.Exempt = config.Default().Limits, nil
	*free.Limits.Default.Hourly, *free.Limits.Default.DeferfailPercent = 0, 0
	return &free
}

// begin makes the engine, at the time of the first line.
func (s *Simulation) begin(now time.Time) {
	o := s.options
	s.now, s.began = now, now
	s.keep = s.settings.LongestWindow()
	s.store = tallyStore{ratelimit.NewLedger(ratelimit.Options{Keep: s.keep}), &s.tally}
	s.locks = &tallyLocks{sim: s, files: map[string][]lockfile.File{}}
	s.trips = tallyTrips{&s.tally, map[string]bool{}}
	s.engine = engine.New(engine.Options{Config: o.Config, Node: o.Node, Own: o.Own, Exim: engine.Exim{User: o.EximUser}, Store: s.store,
		Notes: noNotes{}, Locks: s.locks, Queue: noQueue{},
		Events: event.NewStream(s.trips), Now: now, Forever: o.Who})
	s.engine.Settings.Fix(s.settings)
}

// Who returns who sends, as far as the log was read; nil: there is no mail in it.
func (s *Simulation) Who() *attribution.Attribution {
	if s.engine == nil {
		return nil
	}
	return s.engine.Who
}

// Unread returns why a file that the configuration names could not be read, or nil.
func (s *Simulation) Unread() error { return s.unread }

// replay replays one line. m and p are nil if the arrival of its message is not in the log.
func (s *Simulation) replay(ctx context.Context, l *delivery.Judged, m *message, p *state) {
	s.advance(ctx, l.At)
	if l.IsOutcome() && l.By != s.settings {
		delivery.Judge(s.settings, l)
	}
	switch {
	case l.Kind == logline.Ran, l.Kind == logline.Lost:
	case l.Kind == logline.Refused:
		s.askAgain(ctx, l.Entry)
	case m == nil:
		s.record(ctx, l)
	case l.Kind == logline.Arrived:
		s.arrive(ctx, l, m, p)
	case l.Kind == logline.Completed:
		s.leave(ctx, l, m, p)
	default:
		s.attempt(ctx, l, p)
	}
}

// record has the engine record a line of a message whose arrival is not in the log, or is
// logged behind its first delivery.
func (s *Simulation) record(ctx context.Context, l *delivery.Judged) {
	s.flush(ctx)
	s.engine.RecordLines(ctx, s.now, []delivery.Judged{*l})
	s.engine.Step(ctx, s.now)
}

// setWaiting marks a domain as one of which something waits for the next flush.
func (w *waiting) setWaiting(d *domainTally) {
	if d.awaitedFlush != w.nextFlush {
		d.awaitedFlush, d.waitingBad = w.nextFlush, 0
	}
}

// flush has the store count what passed and what became of sends.
func (s *Simulation) flush(ctx context.Context) {
	s.nextFlush++
	if len(s.charges) > 0 {
		for i := range s.charges {
			s.charges[i].Age += s.now.Sub(s.began)
		}
		s.store.Settle(ctx, s.now, s.charges)
		s.charges = s.charges[:0]
	}
	if len(s.outcomes.Outcomes) > 0 {
		s.engine.Settle(ctx, s.now, s.settings, &s.outcomes)
		s.outcomes.Clear()
	}
	s.engine.Step(ctx, s.now)
}

// ask has the engine decide about a domain, after a flush if something of it waits, and
// reports whether the mail may pass.
func (s *Simulation) ask(ctx context.Context, d *domainTally, r *sidecar.Request) (reply sidecar.Reply, ok bool) {
	if d.awaitedFlush == s.nextFlush {
		s.flush(ctx)
	}
	reply = s.engine.Ask(ctx, s.now, *r)
	s.engine.Step(ctx, s.now) // it may have reached a limit
	return reply, reply.Action == sidecar.Accept
}

// advance sets the clock to a time of the log.
func (s *Simulation) advance(ctx context.Context, at time.Time) {
	if s.engine == nil {
		s.begin(at)
	}
	if !at.After(s.now) {
		return // two processes of Exim, or a clock that was set
	}
	if second := at.Truncate(time.Second); second.After(s.now) {
		s.passTime(ctx, second)
	}
	s.now = at
}

// passTime advances the clock to a whole second in which there are lines, and stops in
// between as often as locks may change.
func (s *Simulation) passTime(ctx context.Context, second time.Time) {
	step := s.step()
	quiet := s.now.Add(s.keep + time.Hour) // by then all is forgotten
	for next := s.now.Truncate(step).Add(step); next.Before(second) && next.Before(quiet); next = next.Add(step) {
		s.second(ctx, next)
	}
	s.second(ctx, second)
}

// step returns the time between surveys: sends leave their window in such steps.
func (s *Simulation) step() time.Duration {
	return min(time.Minute, s.options.Config.Limits.Window/60)
}

// sweepEvery is after how many seconds of the log a part of the store is swept. A real
// store does it each second; here the seconds follow each other so fast that it would cost as
// much as many decisions, to free a quarter of what an hour's sends take.
const sweepEvery = 8

// second is what an engine does once a second. The trip of a domain may end at any of them,
// other locks only when sends leave the window.
func (s *Simulation) second(ctx context.Context, now time.Time) {
	step := now.Truncate(s.step())
	surveyNow := !step.Equal(s.surveyed)
	if surveyNow || len(s.trips.tripped) > 0 {
		s.flush(ctx)
	}
	s.now = now
	for domain := range s.trips.tripped {
		s.engine.Changed(domain)
	}
	if surveyNow {
		s.surveyed = step
		s.survey(now)
		if s.options.Spikes {
			s.engine.SurveySpikes(now, s.store)
		}
	}
	s.engine.Step(ctx, now)
	if now.Unix()%sweepEvery == 0 {
		s.store.Sweep()
	}
}

// survey has domains reconciled that may be locked, tripped or released because sends have
// left the window, and now and then forgets what is too old.
func (s *Simulation) survey(now time.Time) {
	for domain := range s.locks.files {
		s.engine.Changed(domain)
	}
	for d := range s.suspects {
		f := s.rateOf(d)
		if f.Over() {
			s.engine.Changed(d.Domain)
		}
		if !f.Suspect() {
			delete(s.suspects, d)
		}
	}
	if now.Sub(s.pruned) >= 30*s.step() {
		s.pruned = now
		s.engine.Forget(now)
		maps.DeleteFunc(s.tried, func(_ ratelimit.Token, t try) bool { return now.Sub(t.at) > s.keep })
	}
}

// rateOf returns how a domain stands with its defer/fail percentage.
func (s *Simulation) rateOf(d *domainTally) deferfail.Rate {
	f := d.deferfail
	f.Count(s.store.Standing(s.now, d.Domain), s.settings.Window)
	return f
}

// end counts the rest, at the end of the log.
func (s *Simulation) end(ctx context.Context) {
	if s.engine != nil {
		s.flush(ctx)
		s.tally.end(s.now)
	}
}

// mostShare is the greatest percentage of an hourly limit that anybody leaves to others.
func mostShare(t *limit.Table) (percent int64) {
	for _, scope := range t.Scopes() {
		if scope.OthersShare != nil {
			percent = max(percent, *scope.OthersShare)
		}
	}
	return percent
}
