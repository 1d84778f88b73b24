package reconcile

import (
	"context"
	"errors"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
)

// An Owner is one owner of state, as far as the Loop has to do with it. Funcs that
// it does not need are nil.
type Owner struct {
	// Start is called once, before all else.
	Start func(now time.Time)
	// Tick is called once a second.
	Tick func(ctx context.Context, now time.Time)
	// Follow takes in what other nodes have changed on the board. It is called when
	// the board has changed, and before each Tick: what was missed costs only time.
	Follow func(ctx context.Context, now time.Time)
	// Reconcile makes true for a domain what follows from its counts.
	Reconcile func(ctx context.Context, now time.Time, domain string) error
	// Stepped is called after domains were reconciled.
	Stepped func(ctx context.Context, now time.Time)
	// Reset is called when a domain was reset, here or by another node.
	Reset func(ctx context.Context, now time.Time, r sidecar.Reset) error
	// Stop is called last: what is only in memory is saved.
	Stop func(now time.Time)
	// Survey begins to look at all subjects, which each is called for, and then done.
	Survey func(now time.Time) (each func(ratelimit.Standing), done func())
}

// A CountStore is a store as far as the Loop needs it.
type Store interface {
	Horizon(now time.Time) time.Time
	Reset(ctx context.Context, now time.Time, subject string, seen int64) (int64, error)
	Standing(now time.Time, subject string) ratelimit.Standing
	Standings(now time.Time, f func(ratelimit.Standing) bool)
	Size() (subjects, sends, uncounted int64)
}

// A Loop has owners look again at the domains whose counts have changed, and at
// everything once a second.
type Loop struct {
	store     Store
	clock     sidecar.Clock
	events    event.Sink
	clustered bool
	changed   <-chan struct{} // has an element after another node has changed the board
	owners    []Owner

	mu    sync.Mutex
	dirty map[string]bool // domains to look at
	wake  chan struct{}

	// Of Tick: what it found the last time.
	uncounted int64
	setOff    time.Duration
}

// LoopOptions are what a Loop is made with.
type Options struct {
	Store  Store
	Clock  sidecar.Clock
	Events event.Sink
	Board  <-chan struct{} // has an element after another node has changed something; nil: this node shares with nobody
}

// NewLoop returns a Loop without owners.
func New(o Options) *Loop {
	return &Loop{store: o.Store, clock: o.Clock, events: o.Events, clustered: o.Board != nil, changed: o.Board,
		dirty: map[string]bool{}, wake: make(chan struct{}, 1)}
}

// Add has an owner looked after. It is called before Run.
func (l *Loop) Add(o Owner) { l.owners = append(l.owners, o) }

// Look has domains looked at soon. It never waits: a question is being answered.
func (l *Loop) Look(domains ...string) {
	if len(domains) == 0 {
		return
	}
	l.LookAtNextTick(domains...)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// LookAtNextTick has domains looked at within a second.
func (l *Loop) LookAtNextTick(domains ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, domain := range domains {
		l.dirty[domain] = true
	}
}

// Changed has a subject looked at, if it is a domain: it was brought to a limit,
// released or reset, here or by another node.
func (l *Loop) Changed(subject string) {
	if sidecar.IsDomain(subject) {
		l.Look(subject)
	}
}

// While a long log is caught up, most domains are dirty all the time. To look at
// more than manyDirty is followed by a rest of restFor times as long, in which the
// log is read.
const (
	manyDirty = 100
	restFor   = 10
)

// Run looks after the owners until ctx is done.
func (l *Loop) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var surveys sync.WaitGroup
	surveys.Go(func() { l.runSurveys(ctx) })
	defer surveys.Wait()
	l.Start(time.Now())
	wake, rested := l.wake, (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			l.stop(time.Now())
			return nil
		case <-l.changed:
			l.follow(ctx, time.Now())
		case <-wake:
			began := time.Now()
			if l.stepAndRelease(ctx, began) > manyDirty {
				wake, rested = nil, time.After(restFor*time.Since(began))
			}
		case <-rested:
			wake, rested = l.wake, nil
		case now := <-tick.C:
			l.Tick(ctx, now)
		}
	}
}

// Start has each owner begin.
func (l *Loop) Start(now time.Time) {
	for _, r := range l.owners {
		if r.Start != nil {
			r.Start(now)
		}
	}
}

func (l *Loop) stop(now time.Time) {
	for _, o := range l.owners {
		if o.Stop != nil {
			o.Stop(now)
		}
	}
}

// Tick is what is done once a second.
func (l *Loop) Tick(ctx context.Context, now time.Time) {
	l.Watch(now)
	l.follow(ctx, now)
	for _, r := range l.owners {
		if r.Tick != nil {
			r.Tick(ctx, now)
		}
	}
	l.stepAndRelease(ctx, now)
}

func (l *Loop) follow(ctx context.Context, now time.Time) {
	if !l.clustered {
		return
	}
	for _, r := range l.owners {
		if r.Follow != nil {
			r.Follow(ctx, now)
		}
	}
}

// watch keeps the store's clock going, and tells what has happened to it and to its
// memory.
func (l *Loop) Watch(now time.Time) {
	l.store.Horizon(l.clock.Store(now))
	off := l.clock.SetOff(now)
	if step := stepped(l.setOff, off); step != 0 {
		l.events.Emit(event.Event{Kind: event.ClockStepped, Attrs: event.Attrs("by", step)})
	}
	l.setOff = off
	if subjects, _, uncounted := l.store.Size(); uncounted > l.uncounted {
		l.uncounted = uncounted
		l.events.Emit(event.Event{Kind: event.MemoryCeiling, Attrs: event.Attrs("uncounted_sends", uncounted, "subjects", subjects)})
	}
}

// stepped is the difference of two readings of Clock.SetOff, 0 for less than can be
// told from a clock that is slewed.
func stepped(before, after time.Duration) time.Duration {
	if step := after - before; step.Abs() >= 2*time.Second {
		return step.Round(time.Second)
	}
	return 0
}

// Step has each dirty domain reconciled, and returns how many there were.
func (l *Loop) Step(ctx context.Context, now time.Time) int {
	domains := l.take()
	for _, domain := range domains {
		err := l.followReset(ctx, now, domain)
		for _, r := range l.owners {
			if r.Reconcile != nil {
				err = errors.Join(err, r.Reconcile(ctx, now, domain))
			}
		}
		if err != nil {
			l.events.Emit(event.Event{Kind: event.LockTrouble, Domain: domain, Err: err})
		}
	}
	return len(domains)
}

// stepAndRelease is Step, and what follows from it.
func (l *Loop) stepAndRelease(ctx context.Context, now time.Time) int {
	n := l.Step(ctx, now)
	for _, o := range l.owners {
		if o.Stepped != nil {
			o.Stepped(ctx, now)
		}
	}
	return n
}

func (l *Loop) take() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for domain := range l.dirty {
		all = append(all, domain)
	}
	clear(l.dirty)
	return all
}

// Reset lets a domain start at zero, in the store and in each owner, unless its
// epoch is past seen. A negative seen always resets.
func (l *Loop) Reset(ctx context.Context, now time.Time, domain string, seen int64) error {
	epoch, err := l.store.Reset(ctx, l.clock.Store(now), domain, seen)
	if err != nil {
		return err
	}
	err = l.reset(ctx, now, sidecar.Reset{Domain: domain, Epoch: epoch})
	l.Look(domain) // and what was held goes out
	return err
}

// followReset tells the owners of a reset that another node may have made.
func (l *Loop) followReset(ctx context.Context, now time.Time, domain string) error {
	if !l.clustered {
		return nil
	}
	epoch := l.store.Standing(l.clock.Store(now), domain).Epoch
	return l.reset(ctx, now, sidecar.Reset{Domain: domain, Epoch: epoch, Elsewhere: true})
}

func (l *Loop) reset(ctx context.Context, now time.Time, reset sidecar.Reset) (err error) {
	for _, r := range l.owners {
		if r.Reset != nil {
			err = errors.Join(err, r.Reset(ctx, now, reset))
		}
	}
	return err
}

const (
	// surveyEvery is how often all subjects are looked at.
	surveyEvery = 10 * time.Second
	// surveyShare is the least part of the time in which they are not: going
	// through a million domains takes long enough to be felt by mail.
	surveyShare = 20
)

func (l *Loop) runSurveys(ctx context.Context) {
	for {
		start := time.Now()
		l.Survey(start)
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(surveyEvery, surveyShare*time.Since(start)) - time.Since(start)):
		}
	}
}

// Survey has the owners look at all subjects.
func (l *Loop) Survey(now time.Time) {
	var each []func(ratelimit.Standing)
	var done []func()
	for _, r := range l.owners {
		if r.Survey != nil {
			e, d := r.Survey(now)
			each, done = append(each, e), append(done, d)
		}
	}
	l.store.Standings(l.clock.Store(now), func(s ratelimit.Standing) bool {
		for _, look := range each {
			look(s)
		}
		return true
	})
	for _, d := range done {
		d()
	}
}
