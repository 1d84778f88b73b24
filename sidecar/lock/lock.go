package lock

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/notes"
	"sluice/sidecar/settings"
)

// textLocked is to the letter what operators grep for.
const textLocked = "Domain %s is locked.  Message will be reattempted later"

// Locks knows which lock and usage files should stand, and has them stand.
type Locks struct {
	dir        sidecar.LockDir
	store      sidecar.Counts
	clock      sidecar.Clock
	events     event.Sink
	settings   func() *settings.Settings
	reconciler sidecar.Reconciler

	cluster sync.Mutex             // held while locks for all nodes are made or removed
	board   sidecar.Board          // nil: this node shares with nobody
	known   notes.Map[clusterLock] // by domain
}

// LockOptions are what Locks are made with; all but Board are needed.
type Options struct {
	Dir        sidecar.LockDir
	Store      sidecar.Counts
	Clock      sidecar.Clock
	Events     event.Sink
	Settings   func() *settings.Settings
	Reconciler sidecar.Reconciler
	Board      sidecar.Board // nil: this node shares with nobody
	Notes      sidecar.Notes
}

// NewLocks returns Locks, and completes what a crash has interrupted.
func New(o Options) *Locks {
	l := &Locks{dir: o.Dir, store: o.Store, clock: o.Clock, events: o.Events, settings: o.Settings, reconciler: o.Reconciler, board: o.Board, known: notes.New[clusterLock](o.Notes, "order", 1, event.Unread(o.Events, event.NoteUnread))}
	l.resume()
	return l
}

// start finds the domains at their limit whose lock file a crash may have prevented.
func (l *Locks) Start(now time.Time) {
	at := l.clock.Store(now)
	l.store.Standings(at, func(s ratelimit.Standing) bool {
		if sidecar.IsDomain(s.Name) {
			if _, full := l.fullest(s); full {
				l.reconciler.Look(s.Name)
			}
		}
		return true
	})
}

// tick has the domains looked at that have a lock file of ours: sends leave the
// window without anybody asking.
func (l *Locks) Tick(context.Context, time.Time) {
	for _, f := range l.dir.Files("") {
		if !f.Operator {
			l.reconciler.LookAtNextTick(f.Domain)
		}
	}
}

// reconcile makes max_hourly_ of a domain that is at its limit, and
// removes it when used < max again.
func (l *Locks) Reconcile(_ context.Context, now time.Time, domain string) error {
	lock := sidecar.Lock{Kind: sidecar.LockHourly, Domain: domain}
	var ours bool
	for _, f := range l.dir.Files(domain) {
		if f.Lock != lock {
			continue
		}
		if f.Operator {
			return nil // a hand's, whatever is counted
		}
		ours = true
	}
	use, full := l.fullest(l.store.Standing(l.clock.Store(now), domain))
	switch {
	case full && !ours:
		content := sidecar.Ratio(use.Used, use.Limit.Max)
		l.events.Emit(event.Event{Kind: event.LimitReached, Domain: domain, Attrs: event.Attrs("sent", content)})
		return l.dir.Make(lock, content, use.Epoch)
	case !full && ours:
		l.events.Emit(event.Event{Kind: event.LimitFreed, Domain: domain})
		return l.dir.Unmake(lock)
	}
	return nil
}

// fullest is the limit of a domain that is used up and enforced, if one is.
func (l *Locks) fullest(standing ratelimit.Standing) (ratelimit.Use, bool) {
	s := l.settings()
	if u, full := s.Full(standing); full && s.Enforces(standing.Name) {
		return u, true
	}
	return ratelimit.Use{}, false
}

// Event takes in what a hand did in the lock directory.
func (l *Locks) Event(ctx context.Context, now time.Time, e sidecar.LockEvent) {
	if e.Kind != sidecar.LockReleased {
		l.events.Emit(EventOf(e))
		return
	}
	// A hand that removes a lock of ours means the counts it stood for, not
	// those since; one that removes its own means all.
	seen := e.File.Epoch
	switch {
	case e.File.Operator:
		seen = -1
		l.endClusterLock(ctx, e.File.Domain)
	case l.store.Standing(l.clock.Store(now), e.File.Domain).Epoch > seen:
		l.events.Emit(event.Event{Kind: event.LockRemovedLate, Domain: e.File.Domain, Attrs: event.Attrs("lock", string(e.File.Kind))})
		l.reconciler.Look(e.File.Domain)
		return
	}
	l.events.Emit(EventOf(e))
	if err := l.reconciler.Reset(ctx, now, e.File.Domain, seen); err != nil {
		l.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
}

// reset removes the lock files that stood for counts of before.
func (l *Locks) Reset(_ context.Context, _ time.Time, r sidecar.Reset) error {
	before := false
	for _, f := range l.dir.Files(r.Domain) {
		if !f.Operator && f.Epoch < r.Epoch {
			before = true
			l.logTrouble(r.Domain, l.dir.Unmake(f.Lock))
		}
	}
	if before && r.Elsewhere {
		l.events.Emit(event.Event{Kind: event.ResetElsewhere, Domain: r.Domain})
	}
	return nil
}

func (l *Locks) logTrouble(domain string, err error) {
	if err != nil {
		l.events.Emit(event.Event{Kind: event.LockTrouble, Domain: domain, Err: err})
	}
}

// Block blocks domains of which a hand has made a lock file.
func (l *Locks) Block(_ time.Time, _ sidecar.Author, who sidecar.Payer) (sidecar.Block, bool) {
	if who.Domain == "" || !slices.ContainsFunc(l.dir.Files(who.Domain), func(f sidecar.LockFile) bool { return f.Operator }) {
		return sidecar.Block{}, false
	}
	return sidecar.Block{SMTP: sidecar.Defer, Local: sidecar.Accept, By: sidecar.ByOperator, Text: func(sidecar.Action) string { return fmt.Sprintf(textLocked, who.Domain) }}, true
}
