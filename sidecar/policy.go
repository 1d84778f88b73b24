package sidecar

import (
	"context"
	"time"

	"sluice/sidecar/event"
)

// A Policy is all owners of state of a node, connected.
type Policy struct {
	*Core
	*Operator
	*Recorder
	store     Store
	clock     Clock
	events    event.Sink
	locks     LockDir
	notes     Notes
	board     Board
	settings  *Live
	holds     *Holds
	lockFiles *Locks
	deferfail *Deferfail
	loop      *Loop
	clustered bool // the board is shared with other nodes
}

// Options are what a Policy is made with; all are needed but Board and Left.
type Options struct {
	Config    *Config
	Panel     Panel  // what the panel's files say; zero: there is none
	Node      string // name of this node: Config.Store.Node or the host name
	EximUser  string // login name of Exim's own user
	AnySender bool   // Exim lets any local user send in any name
	Store     Store
	Notes     Notes
	Board     Board     // nil: this node shares with nobody
	Left      LeftBoard // that it has shared before; nil: it still does, or never has
	Locks     LockDir
	Queue     Queue
	Events    event.Sink
	Now       time.Time // with a monotonic reading
}

// New returns a Policy that knows what its notes tell of held mail.
func New(o Options) *Policy {
	p := &Policy{store: o.Store, events: o.Events, locks: o.Locks, notes: o.Notes, board: o.Board}
	left := o.Left
	var changed <-chan struct{}
	if p.clustered = o.Board != nil; p.clustered {
		left, changed = &noteBoard{notes: o.Notes}, o.Board.Changed()
	} else {
		p.board = &noteBoard{notes: o.Notes}
	}
	p.settings = newLive(liveOptions{config: o.Config, panel: o.Panel, node: foldDomain(o.Node), eximUser: o.EximUser,
		board: p.board, left: left, notes: o.Notes, events: o.Events, now: o.Now})

	clock := NewClock(o.Now, o.Store)
	p.clock = clock
	p.Core = NewCore(CoreOptions{Store: o.Store, Settings: p.settings.Load, Clock: clock, Events: o.Events})
	p.loop = NewLoop(LoopOptions{Store: o.Store, Clock: clock, Events: o.Events, Board: changed})
	p.lockFiles = NewLocks(LockOptions{Dir: o.Locks, Store: o.Store, Clock: clock, Events: o.Events, Settings: p.settings.Load, Reconciler: p.loop, Board: o.Board, Notes: o.Notes})
	p.deferfail = NewDeferfail(DeferfailOptions{Dir: o.Locks, Store: o.Store, Clock: clock, Events: o.Events, Settings: p.settings.Load, Reconciler: p.loop, Board: o.Board, Notes: o.Notes})
	p.holds = NewHolds(HoldOptions{Notes: o.Notes, Events: o.Events, Queue: o.Queue, Room: p.Room})
	p.Connect(p.holds, []Blocker{panelBlocker{settings: p.settings.Load, suspended: true}, p.lockFiles, panelBlocker{settings: p.settings.Load, suspended: false}, p.deferfail}, fullDomains{p.loop, p.clustered})
	p.loop.Add(Owner{Tick: p.tick, Follow: p.follow})
	p.loop.Add(Owner{Start: p.lockFiles.start, Tick: p.lockFiles.tick, Follow: p.lockFiles.follow, Reconcile: p.lockFiles.reconcile,
		Reset: p.lockFiles.reset, Survey: p.lockFiles.survey})
	p.loop.Add(Owner{Tick: p.deferfail.tick, Follow: p.deferfail.follow, Reconcile: p.deferfail.reconcile, Reset: p.deferfail.reset,
		Survey: p.deferfail.survey, Stop: p.deferfail.stop})
	p.loop.Add(Owner{Stepped: p.holds.releaseAll, Reset: p.holds.reset})
	p.Recorder = NewRecorder(RecorderOptions{Settings: p.settings.Load, Store: o.Store, Clock: clock, Events: o.Events, Notes: o.Notes,
		Charged: p.Charged, Look: p.loop.Look, Observers: []RecordObserver{p.deferfail, p.holds}})
	if p.settings.Load().localDomains.get().empty() {
		o.Events.Emit(event.Event{Kind: event.NoLocalDomains, Attrs: event.Attrs("local_domains", o.Config.Exim.LocalDomains)})
	}
	if o.AnySender && !p.settings.Load().owners.get().known() {
		o.Events.Emit(event.Event{Kind: event.NoOwners, Attrs: event.Attrs("identity.owners", o.Config.Identity.Owners)})
	}
	p.settings.emitPanelSkipped(o.Panel.Trouble)
	p.Operator = NewOperator(OperatorOptions{Settings: p.settings, Store: o.Store, Clock: clock, Events: o.Events, Dir: o.Locks,
		Policy: p.Core, Locks: p.lockFiles, Holds: p.holds, Deferfail: p.deferfail, Reconciler: p.loop, Late: p.Late})
	p.settings.OnSwap(p.Swapped)
	return p
}

// Run makes and removes lock files and releases held mail until ctx is done.
// Deliveries that it has begun by then go on by themselves.
func (p *Policy) Run(ctx context.Context) error {
	defer p.holds.Wait()
	return p.loop.Run(ctx)
}

// Turned has a domain looked at: it was brought to a limit, released or reset,
// here or by another node.
func (p *Policy) Turned(subject string) { p.loop.Changed(subject) }

// LockEvent takes in what a hand did in the lock directory.
func (p *Policy) LockEvent(ctx context.Context, now time.Time, e LockEvent) {
	p.lockFiles.Event(ctx, now, e)
}

// fullDomains has domains looked at that a decision finds at their limit.
type fullDomains struct {
	loop      *Loop
	clustered bool
}

func (f fullDomains) Decided(_ time.Time, d *Decision) {
	// Where a send is refused, another node may have brought the domain there, and
	// this answer told of it first.
	if d.Full && (!d.Refused || f.clustered) {
		f.loop.Look(d.Payer.domain)
	}
}

// tick looks once a second after settings that change without anybody asking.
func (p *Policy) tick(_ context.Context, now time.Time) {
	p.refresh()
	p.settings.Expire(now)
}

// follow takes in what other nodes have changed.
func (p *Policy) follow(_ context.Context, now time.Time) { p.settings.Reload(now) }

// refresh reads again what the files of local domains and owners hold, and tells
// if all of it is gone. That may be meant, or be a panel that writes on a full disk.
func (p *Policy) refresh() {
	s := p.settings.Load()
	local, owned := !s.localDomains.get().empty(), s.owners.get().known()
	if err := s.refresh(); err != nil {
		p.events.Emit(event.Event{Kind: event.FileUnread, Err: err})
	}
	if local && s.localDomains.get().empty() {
		p.events.Emit(event.Event{Kind: event.NoLocalDomains, Attrs: event.Attrs("local_domains", s.config.localDomains())})
	}
	if owned && !s.owners.get().known() {
		p.events.Emit(event.Event{Kind: event.OwnersGone, Attrs: event.Attrs("identity.owners", s.config.Identity.Owners)})
	}
}

// Step has the domains looked at whose counts have changed.
func (p *Policy) Step(ctx context.Context, now time.Time) { p.loop.Step(ctx, now) }

// Survey has all subjects looked at, and forgets what is too old.
func (p *Policy) Survey(now time.Time) {
	p.loop.Survey(now)
	p.Recorder.Forget(now)
	p.holds.Forget(now)
}

// Config is the configuration in force.
func (p *Policy) Config() *Config { return p.settings.Load().config }

// Keep is the longest window that is limited for anybody.
func (p *Policy) Keep() time.Duration { return p.settings.Load().keep() }

// SetConfig puts a configuration in force; see Live.
func (p *Policy) SetConfig(now time.Time, c *Config) { p.settings.SetConfig(now, c) }

// RefuseConfig notes why the file as it is now is not in force.
func (p *Policy) RefuseConfig(err error) { p.settings.RefuseConfig(err) }

// SetPanel puts in force what the panel's files say now.
func (p *Policy) SetPanel(now time.Time, panel Panel) { p.settings.SetPanel(now, panel) }
