package engine

import (
	"context"
	"net/netip"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/attribution"
	"sluice/sidecar/config"
	"sluice/sidecar/deferfail"
	"sluice/sidecar/delivery"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/history"
	"sluice/sidecar/hold"
	"sluice/sidecar/live"
	"sluice/sidecar/lock"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/notes"
	"sluice/sidecar/operator"
	"sluice/sidecar/policy"
	"sluice/sidecar/reconcile"
	"sluice/sidecar/refusal"
	"sluice/sidecar/settings"
	"sluice/sidecar/share"
	"sluice/sidecar/spike"
	"sluice/sidecar/stop"
	"sluice/sidecar/suspension"
	"sluice/sidecar/totals"
)

// An Engine is all owners of state of a node, connected.
type Engine struct {
	*policy.Policy
	*operator.Operator
	*delivery.Recorder
	operator.Owners
	Settings *live.Live
	events   event.Sink
	spikes   *spike.Watch
	loop     *reconcile.Loop
	past     past
}

// Options are what an Engine is made with; all are needed but Panel, Own, Board, Former, Queued and Stopped.
type Options struct {
	Config *config.Config
	Panel  settings.Panel // what the panel's files say; zero: there is none
	Node   string         // name of this node: Config.Store.Node or the host name
	Exim   Exim
	Own    func(netip.Addr) bool // whether an address is one of this host; nil: only the loopback's are
	Store  Store
	Notes  notes.Store
	Board  notes.Board // nil: this node shares with nobody
	Former history.Log // without Board: the changes made while this node shared
	Locks  lockfile.Dir
	Queue  hold.Queue
	Events event.Sink
	Now    time.Time // with a monotonic reading

	Queued *event.Queue // all events of this node; nil: neither these nor incidents are kept

	Stopped stop.Dir // the files of those who are stopped; nil: they have none

	// Forever is set to know who has sent what since the beginning, of as many as there are,
	// and not only in the window.
	Forever bool
}

// An Exim is what an Engine needs to know of the Exim that asks it.
type Exim struct {
	User      string // login name of its own user
	AnySender bool   // it lets any local user send in any name
}

// New returns an Engine that goes on from its notes. Run starts it.
func New(o Options) *Engine {
	e := &Engine{events: o.Events}
	var board notes.Board = &notes.LocalBoard{Notes: o.Notes}
	former, changed := o.Former, (<-chan struct{})(nil)
	if o.Board != nil {
		former = history.Read(board.Entries, o.Events)
		board, changed = o.Board, o.Board.Changed()
	}
	clock := ratelimit.NewClock(o.Now, o.Store)

	e.Settings = live.New(live.Options{Config: o.Config, Panel: o.Panel, Host: settings.Host{Node: envelope.FoldDomain(o.Node), EximUser: o.Exim.User, Own: o.Own},
		Board: board, Former: former, Notes: o.Notes, Events: o.Events, Now: o.Now})
	inForce := e.Settings.Load
	e.loop = reconcile.New(reconcile.Options{Store: o.Store, Clock: clock, Events: o.Events, Clustered: o.Board != nil, Changed: changed})
	e.Holds = hold.New(hold.Options{Notes: o.Notes, Events: o.Events, Queue: o.Queue,
		Room:  func(ctx context.Context, now time.Time, who sidecar.Payer) sidecar.Room { return e.Room(ctx, now, who) },
		Waits: e.waits})
	e.Stopped = stop.New(stop.Options{Board: board, Dir: o.Stopped, Notes: o.Notes, Events: o.Events, Settings: inForce, Held: e.Holds.NumberOf})
	e.Policy = policy.New(policy.Options{Totals: new(totals.Totals), Store: o.Store, Settings: inForce, Clock: clock, Events: o.Events, Held: heldMail{e.Holds, e.Stopped},
		Tried: func(id string, token ratelimit.Token) bool { return e.Recorder.Tried(id, token) },
		Came:  func(r *sidecar.Request) { e.Recorder.Came(r) }, Culprit: e.culprit})
	e.Locks = lock.New(lock.Options{Dir: o.Locks, Store: o.Store, Clock: clock, Events: o.Events, Settings: inForce,
		Reconciler: e.loop, Board: o.Board, Notes: o.Notes, Culprit: e.culprit})
	if o.Board != nil {
		e.Feed = e.newFeed(o.Board)
	}
	e.spikes = spike.New(spike.Options{Events: o.Events, Settings: inForce, Volumes: e.volumes})
	e.Who = attribution.New(e.whoOptions(o, clock))
	e.Policy.SetSharer(e.Who)
	e.Deferfail = deferfail.New(deferfail.Options{Dir: o.Locks, Store: o.Store, Clock: clock, Events: o.Events, Settings: inForce,
		Reconciler: e.loop, Board: o.Board, Notes: o.Notes, Authors: authors{e.Stopped, e.Who}, Others: e.Feed,
		WouldTrip: func(now time.Time, subject string, epoch int64) { e.Refusals.WouldTrip(now, subject, epoch) }})
	e.Recorder = delivery.New(delivery.Options{Settings: inForce, Store: o.Store, Clock: clock, Events: o.Events, Notes: o.Notes,
		Charged: e.Charged, ReconcileSoon: e.loop.ReconcileSoon, Left: e.Holds.Left})
	e.Refusals = refusal.New(refusal.Options{Notes: o.Notes, Events: o.Events, IsWatched: e.isWatched, IsBlocked: e.isBlocked})
	e.Operator = operator.New(operator.Options{Settings: e.Settings, Store: o.Store, Clock: clock, Events: o.Events, Dir: o.Locks,
		Policy: e.Policy, Reconciler: e.loop, Late: e.Late, Owners: e.Owners})

	e.connect(o.Board != nil)
	if o.Queued != nil {
		e.keepPast(o, clock)
		e.Policy.AddObserver(mayBeLost{e.Recorder}) // what a simulation asks about has arrived
	}
	e.warn(o)
	return e
}

// connect has owners block, observe and be called by the loop.
func (e *Engine) connect(clustered bool) {
	inForce := e.Settings.Load
	// The first Blocker with a reason answers: a suspension, which refuses for good, before a
	// stop, and that, which says of whom it is, before what blocks the whole domain.
	e.AddBlocker(suspension.Blocker{Settings: inForce, Suspended: true})
	e.AddBlocker(e.Stopped)
	e.AddBlocker(e.Locks)
	e.AddBlocker(suspension.Blocker{Settings: inForce, Suspended: false})
	e.AddBlocker(e.Deferfail)

	e.Policy.AddObserver(fullDomains{e.loop, clustered})
	e.Policy.AddObserver(refusals{e.Refusals, e.Deferfail})
	e.Policy.AddObserver(who{e.Who, e.Feed, inForce})
	e.Policy.AddObserver(shares{share.NewAnnouncer(e.Policy.Events)})
	e.Recorder.AddObserver(e.Who)
	e.Recorder.AddObserver(e.Deferfail)
	e.Recorder.AddObserver(e.Holds)
	e.Settings.OnSwap(e.Swapped)

	// Owners are called in this order.
	e.loop.Add(reconcile.Owner{Tick: e.tick, Follow: e.follow})
	e.loop.Add(reconcile.Owner{Start: e.Locks.Start, Tick: e.Locks.Tick, Follow: e.Locks.Follow, Reconcile: e.Locks.Reconcile,
		Reset: e.Locks.Reset, Survey: e.Locks.Survey})
	e.loop.Add(reconcile.Owner{Start: e.Stopped.Follow, Tick: e.Stopped.Tick, Follow: e.Stopped.Follow})
	e.loop.Add(reconcile.Owner{Tick: e.Deferfail.Tick, Follow: e.Deferfail.Follow, Reconcile: e.Deferfail.Reconcile,
		Reset: e.Deferfail.Reset, Survey: e.Deferfail.Survey, Stop: e.Deferfail.Stop})
	e.loop.Add(reconcile.Owner{Tick: e.Refusals.Tick, Reset: e.Refusals.Reset, Survey: e.Refusals.Survey, Stop: e.Refusals.Tick})
	e.loop.Add(reconcile.Owner{Survey: e.spikes.Survey})
	e.loop.Add(reconcile.Owner{Tick: e.Who.Tick, Reset: e.Who.Reset, Stop: e.Who.Stop})
	if e.Feed != nil {
		e.loop.Add(reconcile.Owner{Reconcile: e.Feed.Reconcile, Survey: e.Feed.Survey})
	}
	e.loop.Add(reconcile.Owner{Reset: e.Holds.Reset, Stepped: e.Holds.ReleaseAll})
}

// warn reports what is probably wrong with the settings at the start.
func (e *Engine) warn(o Options) {
	s := e.Settings.Load()
	if s.Locals.Get().Empty() {
		o.Events.Emit(event.Event{Kind: event.NoLocalDomains, Attrs: event.Attrs("local_domains", o.Config.Exim.LocalDomains)})
	}
	if o.Exim.AnySender && !s.OwnerMap.Get().Known() {
		o.Events.Emit(event.Event{Kind: event.NoOwners, Attrs: event.Attrs("identity.owners", o.Config.Identity.Owners)})
	}
	e.Settings.EmitPanelSkipped(o.Panel.Trouble)
}

// fullDomains is an Observer that has a domain reconciled once it is at its limit.
type fullDomains struct {
	loop      *reconcile.Loop
	clustered bool
}

// Decided implements policy.Observer. A refusal reports a full domain again and again;
// it matters only if another node may have filled the domain.
func (f fullDomains) Decided(_ time.Time, d *policy.Decision) {
	if d.Full && (!d.Refused || f.clustered) {
		f.loop.ReconcileSoon(d.Payer.Subject())
	}
}

// mayBeLost is an Observer that has the recorder note what is charged while a client may still go.
type mayBeLost struct{ *delivery.Recorder }

// Decided implements policy.Observer.
func (m mayBeLost) Decided(_ time.Time, d *policy.Decision) {
	if d.Request.Stage == sidecar.StageData && d.Charged > 0 {
		m.MayBeLost(d.Payer.Subject(), d.Request.ID, d.To)
	}
}

// refusals is an Observer that has refusals counted.
type refusals struct {
	counts *refusal.Counts
	trips  *deferfail.Breaker
}

// Decided implements policy.Observer.
func (r refusals) Decided(now time.Time, d *policy.Decision) {
	if d.Blocked && d.Payer.Subject() != "" {
		r.counts.Refused(d.Payer.Subject(), envelope.AppendMarks(nil, d.Request.Sender, d.To))
	}
	if subject := d.Payer.Subject(); d.Charged > 0 && len(d.Uses) > 0 && r.trips.WouldRefuse(subject) { // all of it
		r.counts.WouldRefuse(now, subject, int64(d.Charged), d.Uses[0].Epoch)
		return
	}
	for i, u := range d.Uses {
		if u.Over > 0 && (i == 0 || d.Uses[i-1].Subject != u.Subject) {
			r.counts.WouldRefuse(now, u.Subject, u.Over, u.Epoch)
		}
	}
}

// shares is an Observer that has operators told of authors that leave room for others.
type shares struct{ *share.Announcer }

// Decided implements policy.Observer.
func (s shares) Decided(now time.Time, d *policy.Decision) {
	if d.Over != nil && d.Over.Use.Withheld {
		s.Refused(now, d.Payer.Domain, d.Author.Key, d.Over.Attempted, d.Over.Use.Limit)
	}
}

// heldMail is what policy asks of held mail: of what stops have held, too.
type heldMail struct {
	*hold.Holds
	stops *stop.Stops
}

// Kept implements policy.HeldMail.
func (h heldMail) Kept(now time.Time, subject, id string, token ratelimit.Token) (sidecar.Block, bool) {
	scope := h.HeldBy(subject, id, token)
	if scope == "" {
		return sidecar.Block{}, false
	}
	arrived, _ := envelope.IDTime(id)
	return h.stops.Kept(now, scope, arrived)
}

// waits reports whether held mail waits for the end of a stop, or for its release after that.
func (e *Engine) waits(now time.Time, h sidecar.Held) bool {
	_, stopped := e.Stopped.Block(now, h.Author, h.Payer)
	if !stopped && h.Stop != "" {
		arrived, _ := envelope.IDTime(h.ID)
		_, stopped = e.Stopped.Kept(now, h.Stop, arrived)
	}
	return stopped
}

// isWatched reports whether the limits of a subject are only watched.
func (e *Engine) isWatched(subject string) bool {
	s := e.Settings.Load()
	return s.HasWatched && s.Watched(s.PayerOfScope(subject), subject)
}

// isBlocked reports whether all mail of a subject is blocked.
func (e *Engine) isBlocked(now time.Time, subject string) bool {
	_, blocked := e.BlockOf(now, sidecar.Author{}, e.Settings.Load().PayerOfScope(subject))
	return blocked
}

// OnSurvey has all subjects looked at by somebody else too; see reconcile.Owner. Call it before Run.
func (e *Engine) OnSurvey(begin func(now time.Time) (each func(ratelimit.Standing), done func())) {
	e.loop.Add(reconcile.Owner{Survey: begin})
}

// Run makes and removes lock files and releases held mail until ctx is done. It waits for
// the deliveries that were begun.
func (e *Engine) Run(ctx context.Context) error {
	defer e.Holds.Wait()
	return e.loop.Run(ctx)
}

// Step reconciles the domains whose counts have changed.
func (e *Engine) Step(ctx context.Context, now time.Time) { e.loop.Step(ctx, now) }

// SurveySpikes looks for spikes in what is counted, where there is no Run to do it.
func (e *Engine) SurveySpikes(now time.Time, counts sidecar.Counts) {
	each, done := e.spikes.Survey(now)
	counts.Standings(now, func(st ratelimit.Standing) bool { each(st); return true })
	done()
}

// Forget forgets what is too old, where there is no Run and no Checkpoint to do it.
func (e *Engine) Forget(now time.Time) {
	e.Recorder.Forget(now)
	e.Deferfail.Forget(now)
	e.Holds.Forget(now)
}

// Gone forgets what is held of a message, or of some of its recipients, that has left Exim's queue
// without a line in its log.
func (e *Engine) Gone(id string, recipients []string) {
	tokens := make([]ratelimit.Token, 0, len(recipients))
	for _, to := range recipients {
		tokens = append(tokens, e.Settings.Load().Token(id, envelope.Fold(to), 0))
	}
	e.Holds.Gone(id, tokens...)
}

// Changed has a subject reconciled, unless it is a mailbox or account: it was brought to a limit, released
// or reset, here or by another node.
func (e *Engine) Changed(subject string) {
	if sidecar.AlwaysCounted(subject) {
		e.loop.ReconcileSoon(subject)
	}
}

// LockEvent takes in what an operator did by hand in the lock directory.
func (e *Engine) LockEvent(ctx context.Context, now time.Time, what lockfile.Event) {
	e.Locks.Event(ctx, now, what)
	if what.Kind == lockfile.RemovedByHand {
		e.EmitStopped(now, what.File.Domain)
	}
}

// StopEvent takes in what an operator did by hand in the directory of the stopped.
func (e *Engine) StopEvent(ctx context.Context, now time.Time, what lockfile.Event) {
	e.Stopped.Event(ctx, now, what)
}

// Names reports whether operators name a subject, so that it is counted past
// store.max_subjects too.
func (e *Engine) Names(subject string) bool { return e.Settings.Load().Names(subject) }

// Config returns the configuration in force.
func (e *Engine) Config() *config.Config { return e.Settings.Load().Config }

// Keep returns the longest window of any limit: so long the store must remember sends.
func (e *Engine) Keep() time.Duration { return e.Settings.Load().LongestWindow() }

// SetConfig puts a configuration in force; see live.Live.
func (e *Engine) SetConfig(now time.Time, c *config.Config) { e.Settings.SetConfig(now, c) }

// RefuseConfig records why the configuration file as it is now is not in force.
func (e *Engine) RefuseConfig(err error) { e.Settings.RefuseConfig(err) }

// SetPanel puts in force what the panel's files say now.
func (e *Engine) SetPanel(now time.Time, panel settings.Panel) { e.Settings.SetPanel(now, panel) }

// tick is called once a second: followed files may have changed, and settings that were
// set for a time may have expired.
func (e *Engine) tick(_ context.Context, now time.Time) {
	e.refresh()
	e.Settings.Expire(now)
}

// follow takes in the settings that other nodes have changed.
func (e *Engine) follow(_ context.Context, now time.Time) { e.Settings.Reload(now) }

// refresh rereads the files of local domains and owners. It warns if all of one is gone:
// that may be meant, or come from a panel that writes on a full disk.
func (e *Engine) refresh() {
	s := e.Settings.Load()
	local, owned := !s.Locals.Get().Empty(), s.OwnerMap.Get().Known()
	if err := s.Refresh(); err != nil {
		e.events.Emit(event.Event{Kind: event.FileUnread, Err: err})
	}
	if local && s.Locals.Get().Empty() {
		e.events.Emit(event.Event{Kind: event.NoLocalDomains, Attrs: event.Attrs("local_domains", s.Config.LocalDomains())})
	}
	if owned && !s.OwnerMap.Get().Known() {
		e.events.Emit(event.Event{Kind: event.OwnersGone, Attrs: event.Attrs("identity.owners", s.Config.Identity.Owners)})
	}
}
