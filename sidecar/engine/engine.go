package engine

import (
	"context"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/deferfail"
	"sluice/sidecar/delivery"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/hold"
	"sluice/sidecar/lock"
	"sluice/sidecar/notes"
	"sluice/sidecar/operator"
	"sluice/sidecar/policy"
	"sluice/sidecar/reconcile"
	"sluice/sidecar/settings"
	"sluice/sidecar/suspension"
)

// A Policy is all owners of state of a node, connected.
type Engine struct {
	*policy.Policy
	*operator.Operator
	*delivery.Recorder
	store     Store
	clock     sidecar.Clock
	events    event.Sink
	locks     sidecar.LockDir
	notes     sidecar.Notes
	board     sidecar.Board
	Settings  *settings.Live
	Holds     *hold.Holds
	lockFiles *lock.Locks
	deferfail *deferfail.Breaker
	loop      *reconcile.Loop
	clustered bool // the board is shared with other nodes
}

// Options are what a Policy is made with; all are needed but Board and Left.
type Options struct {
	Config    *config.Config
	Panel     settings.Panel // what the panel's files say; zero: there is none
	Node      string         // name of this node: Config.Store.Node or the host name
	EximUser  string         // login name of Exim's own user
	AnySender bool           // Exim lets any local user send in any name
	Store     Store
	Notes     sidecar.Notes
	Board     sidecar.Board     // nil: this node shares with nobody
	Left      sidecar.LeftBoard // that it has shared before; nil: it still does, or never has
	Locks     sidecar.LockDir
	Queue     sidecar.Queue
	Events    event.Sink
	Now       time.Time // with a monotonic reading
}

// New returns a Policy that knows what its notes tell of held mail.
func New(o Options) *Engine {
	p := &Engine{store: o.Store, events: o.Events, locks: o.Locks, notes: o.Notes, board: o.Board}
	left := o.Left
	var changed <-chan struct{}
	if p.clustered = o.Board != nil; p.clustered {
		left, changed = &notes.Board{Notes: o.Notes}, o.Board.Changed()
	} else {
		p.board = &notes.Board{Notes: o.Notes}
	}
	p.Settings = settings.NewLive(settings.LiveOptions{Config: o.Config, Panel: o.Panel, Node: envelope.FoldDomain(o.Node), EximUser: o.EximUser,
		Board: p.board, Left: left, Notes: o.Notes, Events: o.Events, Now: o.Now})

	clock := sidecar.NewClock(o.Now, o.Store)
	p.clock = clock
	p.Policy = policy.New(policy.Options{Store: o.Store, Settings: p.Settings.Load, Clock: clock, Events: o.Events})
	p.loop = reconcile.New(reconcile.Options{Store: o.Store, Clock: clock, Events: o.Events, Board: changed})
	p.lockFiles = lock.New(lock.Options{Dir: o.Locks, Store: o.Store, Clock: clock, Events: o.Events, Settings: p.Settings.Load, Reconciler: p.loop, Board: o.Board, Notes: o.Notes})
	p.deferfail = deferfail.New(deferfail.Options{Dir: o.Locks, Store: o.Store, Clock: clock, Events: o.Events, Settings: p.Settings.Load, Reconciler: p.loop, Board: o.Board, Notes: o.Notes})
	p.Holds = hold.New(hold.Options{Notes: o.Notes, Events: o.Events, Queue: o.Queue, Room: p.Room})
	p.Connect(p.Holds, []policy.Blocker{suspension.Blocker{Settings: p.Settings.Load, Suspended: true}, p.lockFiles, suspension.Blocker{Settings: p.Settings.Load, Suspended: false}, p.deferfail}, fullDomains{p.loop, p.clustered})
	p.loop.Add(reconcile.Owner{Tick: p.tick, Follow: p.follow})
	p.loop.Add(reconcile.Owner{Start: p.lockFiles.Start, Tick: p.lockFiles.Tick, Follow: p.lockFiles.Follow, Reconcile: p.lockFiles.Reconcile,
		Reset: p.lockFiles.Reset, Survey: p.lockFiles.Survey})
	p.loop.Add(reconcile.Owner{Tick: p.deferfail.Tick, Follow: p.deferfail.Follow, Reconcile: p.deferfail.Reconcile, Reset: p.deferfail.Reset,
		Survey: p.deferfail.Survey, Stop: p.deferfail.Stop})
	p.loop.Add(reconcile.Owner{Stepped: p.Holds.ReleaseAll, Reset: p.Holds.Reset})
	p.Recorder = delivery.New(delivery.Options{Settings: p.Settings.Load, Store: o.Store, Clock: clock, Events: o.Events, Notes: o.Notes,
		Charged: p.Charged, Look: p.loop.Look, Observers: []delivery.Observer{p.deferfail, p.Holds}})
	if p.Settings.Load().Locals.Get().Empty() {
		o.Events.Emit(event.Event{Kind: event.NoLocalDomains, Attrs: event.Attrs("local_domains", o.Config.Exim.LocalDomains)})
	}
	if o.AnySender && !p.Settings.Load().OwnerMap.Get().Known() {
		o.Events.Emit(event.Event{Kind: event.NoOwners, Attrs: event.Attrs("identity.owners", o.Config.Identity.Owners)})
	}
	p.Settings.EmitPanelSkipped(o.Panel.Trouble)
	p.Operator = operator.New(operator.Options{Settings: p.Settings, Store: o.Store, Clock: clock, Events: o.Events, Dir: o.Locks,
		Policy: p.Policy, Locks: p.lockFiles, Holds: p.Holds, Deferfail: p.deferfail, Reconciler: p.loop, Late: p.Late})
	p.Settings.OnSwap(p.Swapped)
	return p
}

// Run makes and removes lock files and releases held mail until ctx is done.
// Deliveries that it has begun by then go on by themselves.
func (p *Engine) Run(ctx context.Context) error {
	defer p.Holds.Wait()
	return p.loop.Run(ctx)
}

// Turned has a domain looked at: it was brought to a limit, released or reset,
// here or by another node.
func (p *Engine) Turned(subject string) { p.loop.Changed(subject) }

// LockEvent takes in what a hand did in the lock directory.
func (p *Engine) LockEvent(ctx context.Context, now time.Time, e sidecar.LockEvent) {
	p.lockFiles.Event(ctx, now, e)
}

// fullDomains has domains looked at that a decision finds at their limit.
type fullDomains struct {
	loop      *reconcile.Loop
	clustered bool
}

func (f fullDomains) Decided(_ time.Time, d *policy.Decision) {
	// Where a send is refused, another node may have brought the domain there, and
	// this answer told of it first.
	if d.Full && (!d.Refused || f.clustered) {
		f.loop.Look(d.Payer.Domain)
	}
}

// tick looks once a second after settings that change without anybody asking.
func (p *Engine) tick(_ context.Context, now time.Time) {
	p.refresh()
	p.Settings.Expire(now)
}

// follow takes in what other nodes have changed.
func (p *Engine) follow(_ context.Context, now time.Time) { p.Settings.Reload(now) }

// refresh reads again what the files of local domains and owners hold, and tells
// if all of it is gone. That may be meant, or be a panel that writes on a full disk.
func (p *Engine) refresh() {
	s := p.Settings.Load()
	local, owned := !s.Locals.Get().Empty(), s.OwnerMap.Get().Known()
	if err := s.Refresh(); err != nil {
		p.events.Emit(event.Event{Kind: event.FileUnread, Err: err})
	}
	if local && s.Locals.Get().Empty() {
		p.events.Emit(event.Event{Kind: event.NoLocalDomains, Attrs: event.Attrs("local_domains", s.Config.LocalDomains())})
	}
	if owned && !s.OwnerMap.Get().Known() {
		p.events.Emit(event.Event{Kind: event.OwnersGone, Attrs: event.Attrs("identity.owners", s.Config.Identity.Owners)})
	}
}

// Step has the domains looked at whose counts have changed.
func (p *Engine) Step(ctx context.Context, now time.Time) { p.loop.Step(ctx, now) }

// Forget forgets what is too old, where there is no Run and no Checkpoint to do it.
func (p *Engine) Forget(now time.Time) {
	p.Recorder.Forget(now)
	p.deferfail.Forget(now)
	p.Holds.Forget(now)
}

// Config is the configuration in force.
func (p *Engine) Config() *config.Config { return p.Settings.Load().Config }

// Keep is the longest window that is limited for anybody.
func (p *Engine) Keep() time.Duration { return p.Settings.Load().Keep() }

// SetConfig puts a configuration in force; see Live.
func (p *Engine) SetConfig(now time.Time, c *config.Config) { p.Settings.SetConfig(now, c) }

// RefuseConfig notes why the file as it is now is not in force.
func (p *Engine) RefuseConfig(err error) { p.Settings.RefuseConfig(err) }

// SetPanel puts in force what the panel's files say now.
func (p *Engine) SetPanel(now time.Time, panel settings.Panel) { p.Settings.SetPanel(now, panel) }
