package sidecar

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/notes"
)

// A Policy answers questions about messages, and looks after what follows
// from the answers: lock files and held mail.
type Policy struct {
	store    Store
	locks    LockDir
	queue    Queue
	notes    Notes
	log      *OperatorLog
	board    Board
	settings *Live
	clock    clock
	holds    *holds
	due      due
	record   *record
	bads     *bads
	trips    *trips
	incoming *transactions
	progress atomic.Pointer[func() []LogProgress]
	shared   atomic.Pointer[func() SharedStatus]
	totals   totals
	unknown  atomic.Int64 // messages without an id
	releases sync.WaitGroup
	spaces   sync.Pool // of *space

	silent    bool       // nobody reads why something is refused: a Simulation's
	clustered bool       // the board is shared with other nodes
	ordering  sync.Mutex // held while locks for all nodes are made or removed

	orderNotes notes.Map[order] // by domain

	// Of tend: what it found the last time.
	uncounted int64
	setOff    time.Duration
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
	Log       *OperatorLog
	Now       time.Time // with a monotonic reading
}

// New returns a Policy that knows what its notes tell of held mail.
func New(o Options) *Policy {
	p := &Policy{store: o.Store, locks: o.Locks, queue: o.Queue, notes: o.Notes, board: o.Board, log: o.Log}
	left, own := o.Left, &noteBoard{notes: o.Notes}
	if p.clustered = o.Board != nil; p.clustered {
		left = own
	} else {
		p.board = own
	}
	p.settings = newLive(liveOptions{config: o.Config, panel: o.Panel, node: foldDomain(o.Node), eximUser: o.EximUser,
		board: p.board, left: left, notes: o.Notes, log: o.Log, now: o.Now})
	p.settings.OnSwap(p.swapped)
	p.clock = newClock(o.Now, o.Store)
	p.holds = newHolds(o.Notes, o.Log)
	p.due = newDue()
	p.record = newRecord(o.Notes, o.Log)
	p.bads = newBads(o.Notes, o.Log)
	p.trips = newTrips(o.Notes, o.Log)
	p.orderNotes = notes.New[order](o.Notes, "order", 1, o.Log.NoteUnread)
	p.incoming = newTransactions()
	if p.settings.Load().localDomains.get().empty() {
		p.log.NoLocalDomains(o.Config.Exim.LocalDomains)
	}
	if o.AnySender && !p.settings.Load().owners.get().known() {
		p.log.NoOwners(o.Config.Identity.Owners)
	}
	p.log.PanelSkipped(o.Panel.Trouble)
	p.resumeOrders()
	return p
}

// Run makes and removes lock files and releases held mail until ctx is done.
// Deliveries that it has begun by then go on by themselves.
func (p *Policy) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer p.releases.Wait()
	var usage sync.WaitGroup
	usage.Go(func() { p.runUsage(ctx) })
	defer usage.Wait()
	p.dueAtStart(time.Now())
	wake, rested := p.due.wake, (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.board.Changed():
			p.settings.Reload(time.Now())
			p.followBoard(ctx, time.Now())
		case <-wake:
			began := time.Now()
			if p.reconcile(ctx, began) > manyDue {
				wake, rested = nil, time.After(restFor*time.Since(began))
			}
		case <-rested:
			wake, rested = p.due.wake, nil
		case now := <-tick.C:
			p.tend(now)
			p.followBoard(ctx, now)
			p.due.addAll(p.lockedDomains())
			p.due.addAll(p.trips.domains())
			p.reconcile(ctx, now)
		}
	}
}

// While a long log is caught up, most domains are due all the time. To look at
// more than manyDue is followed by a rest of restFor times as long, in which the
// log is read.
const (
	manyDue = 100
	restFor = 10
)

// tend looks once a second after what changes without anybody asking.
func (p *Policy) tend(now time.Time) {
	p.store.Horizon(p.clock.store(now)) // keeps the store's clock going
	p.refresh()
	p.settings.Expire(now)
	off := p.clock.setOff(now)
	if step := stepped(p.setOff, off); step != 0 {
		p.log.ClockStepped(step)
	}
	p.setOff = off
	if subjects, _, uncounted := p.store.Size(); uncounted > p.uncounted {
		p.uncounted = uncounted
		p.log.Uncounted(uncounted, subjects)
	}
}

// refresh reads again what the files of local domains and owners hold, and tells
// if all of it is gone. That may be meant, or be a panel that writes on a full disk.
func (p *Policy) refresh() {
	s := p.settings.Load()
	local, owned := !s.localDomains.get().empty(), s.owners.get().known()
	if err := s.refresh(); err != nil {
		p.log.FileUnread(err)
	}
	if local && s.localDomains.get().empty() {
		p.log.NoLocalDomains(s.config.localDomains())
	}
	if owned && !s.owners.get().known() {
		p.log.OwnersGone(s.config.Identity.Owners)
	}
}

// A clock turns the time that a caller read into the time of the store. It
// runs evenly: what is counted must neither be forgotten early nor kept for
// hours because somebody set the system's clock.
type clock struct {
	start time.Time // with a monotonic reading
	base  time.Time // what the store's time was then
}

// newClock goes on from where the store's clock stood, if the system's was
// set back since.
func newClock(now time.Time, s Store) clock {
	base := now
	if r, err := s.Look(context.Background(), time.Time{}, ratelimit.Take{}); err == nil && r.At.After(now) {
		base = r.At
	}
	return clock{start: now, base: base}
}

// store returns the store's time for a time that was just read.
func (c clock) store(now time.Time) time.Time { return c.base.Add(now.Sub(c.start)) }

// setOff is by how much the system's clock was set forward or back since the
// start.
func (c clock) setOff(now time.Time) time.Duration {
	return now.Round(0).Sub(c.start.Round(0)) - now.Sub(c.start)
}

// stepped is the difference of two readings of setOff, 0 for less than can be
// told from a clock that is slewed.
func stepped(before, after time.Duration) time.Duration {
	if step := after - before; step.Abs() >= 2*time.Second {
		return step.Round(time.Second)
	}
	return 0
}

// wall returns what a time of the store's is called on the wall, given both
// readings of now.
func (c clock) wall(now, at time.Time) time.Time {
	return now.Round(0).Add(at.Sub(c.store(now))).Round(time.Second)
}

// totals count since the start.
type totals struct {
	accepted, refused, watched, exempt, unidentified, late atomic.Int64
}
