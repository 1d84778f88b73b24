package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
)

// An Owner is one owner of state, as far as a Loop calls it. A func that it does not need
// is nil.
type Owner struct {
	// Start is called once, before all else.
	Start Step
	// Tick is called once a second.
	Tick Step
	// Follow takes in what other nodes have changed on the board. It is called when the
	// board has changed, and before each Tick in case that went unnoticed.
	Follow Step
	// Reconcile brings what the owner keeps of a domain in line with the domain's counts.
	Reconcile func(ctx context.Context, now time.Time, domain string) error
	// Stepped is called after dirty domains were reconciled.
	Stepped Step
	// Reset forgets what a domain did before it was reset, here or by another node.
	Reset func(ctx context.Context, now time.Time, r sidecar.Reset) error
	// Survey begins a look at all subjects: each is called for every one, then done.
	Survey func(now time.Time) (each func(ratelimit.Standing), done func())
	// Stop is called last, to save what is only in memory.
	Stop Step
}

// A Step is something that an Owner does now.
type Step = func(ctx context.Context, now time.Time)

// Store is what a Loop needs of the store that counts sends.
type Store interface {
	Horizon(now time.Time) time.Time
	Reset(ctx context.Context, now time.Time, subject string, seen int64) (int64, error)
	Standing(now time.Time, subject string) ratelimit.Standing
	Standings(now time.Time, f func(ratelimit.Standing) bool)
	Size() (subjects, sends, uncounted int64)
}

// A Loop has the owners reconcile the domains whose counts have changed, and calls them
// once a second.
type Loop struct {
	Options
	owners []Owner

	mu    sync.Mutex
	dirty map[string]bool // domains to reconcile
	wake  chan struct{}   // has an element if dirty domains are not to wait for the next tick

	// What Watch found the last time.
	uncounted int64
	setOff    time.Duration
}

// Options are what a Loop is made with.
type Options struct {
	Store     Store
	Clock     ratelimit.Clock
	Events    event.Sink
	Clustered bool            // the board is shared with other nodes
	Changed   <-chan struct{} // has an element after another node has changed the board
}

// New returns a Loop without owners.
func New(o Options) *Loop {
	return &Loop{Options: o, dirty: map[string]bool{}, wake: make(chan struct{}, 1)}
}

// Add adds an owner behind those there are. Call it before Run.
func (l *Loop) Add(o Owner) { l.owners = append(l.owners, o) }

// ReconcileSoon has domains reconciled as soon as possible. It never waits: a question is
// being answered.
func (l *Loop) ReconcileSoon(domains ...string) {
	if len(domains) == 0 {
		return
	}
	l.ReconcileAtTick(domains...)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// ReconcileAtTick has domains reconciled within a second.
func (l *Loop) ReconcileAtTick(domains ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, domain := range domains {
		l.dirty[domain] = true
	}
}

// While Sluice catches up with a long log, most domains are dirty all the time. After Run
// has reconciled more than manyDirty domains at once, it ignores wake for restFor times as
// long as that took, so that the log is read meanwhile.
const (
	manyDirty = 100
	restFor   = 10
)

// Run calls the owners until ctx is done.
func (l *Loop) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var surveys sync.WaitGroup
	surveys.Go(func() { l.runSurveys(ctx) })
	defer surveys.Wait()
	l.call(ctx, time.Now(), func(o Owner) Step { return o.Start })
	wake, rested := l.wake, (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			l.call(ctx, time.Now(), func(o Owner) Step { return o.Stop })
			return nil
		case <-l.Changed:
			l.follow(ctx, time.Now())
		case <-wake:
			began := time.Now()
			if l.stepAndRelease(ctx, began) > manyDirty {
				wake, rested = nil, time.After(restFor*time.Since(began))
			}
		case <-rested:
			wake, rested = l.wake, nil
		case now := <-tick.C:
			l.Watch(now)
			l.follow(ctx, now)
			l.call(ctx, now, func(o Owner) Step { return o.Tick })
			l.stepAndRelease(ctx, now)
		}
	}
}

// call calls the Step that of picks of each owner.
func (l *Loop) call(ctx context.Context, now time.Time, of func(Owner) Step) {
	for _, o := range l.owners {
		if step := of(o); step != nil {
			step(ctx, now)
		}
	}
}

func (l *Loop) follow(ctx context.Context, now time.Time) {
	if l.Clustered {
		l.call(ctx, now, func(o Owner) Step { return o.Follow })
	}
}

// Watch advances the store's clock, and reports steps of the system's clock and sends
// that the store had no memory to count.
func (l *Loop) Watch(now time.Time) {
	l.Store.Horizon(l.Clock.Store(now))
	off := l.Clock.SetOff(now)
	if step := stepped(l.setOff, off); step != 0 {
		l.Events.Emit(event.Event{Kind: event.ClockStepped, Attrs: event.Attrs("by", step)})
	}
	l.setOff = off
	if subjects, _, uncounted := l.Store.Size(); uncounted > l.uncounted {
		l.uncounted = uncounted
		l.Events.Emit(event.Event{Kind: event.MemoryCeiling, Attrs: event.Attrs("uncounted_sends", uncounted, "subjects", subjects)})
	}
}

// stepped returns by how much two readings of Clock.SetOff differ, or 0 if that is less
// than two seconds: then the clock may only have been slewed.
func stepped(before, after time.Duration) time.Duration {
	if step := after - before; step.Abs() >= 2*time.Second {
		return step.Round(time.Second)
	}
	return 0
}

// Step has each dirty domain reconciled, and returns how many there were.
func (l *Loop) Step(ctx context.Context, now time.Time) int {
	domains := l.takeDirty()
	for _, domain := range domains {
		err := l.followReset(ctx, now, domain)
		for _, o := range l.owners {
			if o.Reconcile != nil {
				err = errors.Join(err, o.Reconcile(ctx, now, domain))
			}
		}
		if err != nil {
			l.Events.Emit(event.Event{Kind: event.LockTrouble, Domain: domain, Err: err})
		}
	}
	return len(domains)
}

// stepAndRelease is Step, and then has the owners do what follows from it.
func (l *Loop) stepAndRelease(ctx context.Context, now time.Time) int {
	n := l.Step(ctx, now)
	l.call(ctx, now, func(o Owner) Step { return o.Stepped })
	return n
}

func (l *Loop) takeDirty() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer clear(l.dirty)
	return slices.Collect(maps.Keys(l.dirty))
}

// Reset restarts a domain at zero, in the store and in each owner, unless its epoch is
// past seen. A negative seen always resets.
func (l *Loop) Reset(ctx context.Context, now time.Time, domain string, seen int64) error {
	epoch, err := l.Store.Reset(ctx, l.Clock.Store(now), domain, seen)
	if err != nil {
		return err
	}
	err = l.reset(ctx, now, sidecar.Reset{Subject: domain, Epoch: epoch})
	l.ReconcileSoon(domain) // what was held is released then
	return err
}

// followReset passes on the epoch of a domain, which another node may have reset.
func (l *Loop) followReset(ctx context.Context, now time.Time, domain string) error {
	if !l.Clustered {
		return nil
	}
	epoch := l.Store.Standing(l.Clock.Store(now), domain).Epoch
	return l.reset(ctx, now, sidecar.Reset{Subject: domain, Epoch: epoch, Elsewhere: true})
}

// reset has each owner forget what a domain did before a reset.
func (l *Loop) reset(ctx context.Context, now time.Time, r sidecar.Reset) (err error) {
	for _, o := range l.owners {
		if o.Reset != nil {
			err = errors.Join(err, o.Reset(ctx, now, r))
		}
	}
	return err
}

const (
	// surveyEvery is how often all subjects are looked at.
	surveyEvery = 10 * time.Second
	// surveyShare bounds the time of surveys to one part in surveyShare: to go through a
	// million domains takes long enough to slow mail down.
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
	for _, o := range l.owners {
		if o.Survey != nil {
			e, d := o.Survey(now)
			each, done = append(each, e), append(done, d)
		}
	}
	l.Store.Standings(l.Clock.Store(now), func(s ratelimit.Standing) bool {
		for _, f := range each {
			f(s)
		}
		return true
	})
	for _, f := range done {
		f()
	}
}
