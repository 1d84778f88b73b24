package lock

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/notes"
	"sluice/sidecar/printable"
	"sluice/sidecar/settings"
)

// Operators grep for this text, so it does not change.
const textLocked = "Domain %s is locked.  Message will be reattempted later"

// Locks makes and removes lock and usage files.
type Locks struct {
	dir        lockfile.Dir
	store      sidecar.Counts
	clock      ratelimit.Clock
	events     event.Sink
	settings   func() *settings.Settings
	reconciler sidecar.Reconciler
	culprit    func(now time.Time, subject string) sidecar.Culprit

	cluster sync.Mutex             // held while locks for all nodes are made or removed
	board   notes.Board            // nil: this node shares with nobody
	noted   notes.Map[clusterLock] // by domain
}

// Options are what Locks are made with; all but Board are needed.
type Options struct {
	Dir        lockfile.Dir
	Store      sidecar.Counts
	Clock      ratelimit.Clock
	Events     event.Sink
	Settings   func() *settings.Settings
	Reconciler sidecar.Reconciler
	Board      notes.Board // nil: this node shares with nobody
	Notes      notes.Store
	Culprit    func(now time.Time, subject string) sidecar.Culprit // who sends most of a domain, as far as is known
}

// New returns Locks, and completes what a crash has interrupted.
func New(o Options) *Locks {
	l := &Locks{dir: o.Dir, store: o.Store, clock: o.Clock, events: o.Events, settings: o.Settings, reconciler: o.Reconciler, board: o.Board, culprit: o.Culprit,
		noted: notes.New[clusterLock](o.Notes, "order", 1, event.Unread(o.Events, event.NoteUnread))}
	l.resume()
	return l
}

// Start has the loop reconcile the domains that are at their limit: a crash may have come
// before their lock files were made.
func (l *Locks) Start(_ context.Context, now time.Time) {
	at := l.clock.Store(now)
	l.store.Standings(at, func(s ratelimit.Standing) bool {
		if sidecar.IsDomain(s.Name) {
			if _, full := l.fullest(s); full {
				l.reconciler.ReconcileSoon(s.Name)
			}
		}
		return true
	})
}

// Tick has the loop reconcile the domains that Sluice has locked: they get room again as
// sends leave the window, and no question of a mail server shows when.
func (l *Locks) Tick(context.Context, time.Time) {
	for _, f := range l.dir.Files("") {
		if !f.Operator {
			l.reconciler.ReconcileAtTick(f.Domain)
		}
	}
}

// Reconcile makes the lock file of a domain that is at its limit, and removes it when
// there is room again. An operator's file stays, whatever is counted.
func (l *Locks) Reconcile(_ context.Context, now time.Time, domain string) error {
	if !sidecar.IsDomain(domain) {
		return nil
	}
	lock := hourly(domain)
	var ours bool
	for _, f := range l.dir.Files(domain) {
		if f.Lock != lock {
			continue
		}
		if f.Operator {
			return nil
		}
		ours = true
	}
	use, full := l.fullest(l.store.Standing(l.clock.Store(now), domain))
	switch {
	case full && !ours:
		content := printable.Ratio(use.Used, use.Limit.Max)
		l.events.Emit(event.Event{Kind: event.LimitReached, Domain: domain, Attrs: append(event.Attrs("sent", content), l.culprit(now, domain).Attrs()...)})
		return l.dir.Make(lock, content, use.Epoch)
	case !full && ours:
		l.events.Emit(event.Event{Kind: event.LimitFreed, Domain: domain})
		return l.dir.Unmake(lock)
	}
	return nil
}

// Full lists the domains that Sluice has locked because they are at their limit: one, if it is
// locked so, or all for "".
func (l *Locks) Full(domain string) (domains []string) {
	for _, f := range l.dir.Files(domain) {
		if f.Kind == lockfile.Hourly && !f.Operator {
			domains = append(domains, f.Domain)
		}
	}
	return domains
}

func hourly(domain string) lockfile.Lock {
	return lockfile.Lock{Kind: lockfile.Hourly, Domain: domain}
}

// fullest returns the first limit that a domain has used up; false if it has used up none,
// or if its limits are not enforced.
func (l *Locks) fullest(standing ratelimit.Standing) (ratelimit.Use, bool) {
	s := l.settings()
	if u, full := s.UsedUp(standing); full && s.Enforces(standing.Name) {
		return u, true
	}
	return ratelimit.Use{}, false
}

// Event follows what an operator did by hand in the lock directory. If a lock file was
// removed, the domain starts at zero.
func (l *Locks) Event(ctx context.Context, now time.Time, e lockfile.Event) {
	if e.Kind != lockfile.RemovedByHand {
		l.events.Emit(EventOf(e))
		return
	}
	// Who removes a lock of Sluice's wants to reset what was counted before the lock was
	// made, and not what was counted after a later reset. Who removes their own lock
	// wants to reset all.
	seen := e.File.Epoch
	switch {
	case e.File.Operator:
		seen = -1
		l.fileRemoved(ctx, e.File.Domain)
	case l.store.Standing(l.clock.Store(now), e.File.Domain).Epoch > seen:
		l.events.Emit(event.Event{Kind: event.LockRemovedLate, Domain: e.File.Domain, Attrs: event.Attrs("lock", string(e.File.Kind))})
		l.reconciler.ReconcileSoon(e.File.Domain)
		return
	}
	l.events.Emit(EventOf(e))
	event.EmitError(l.events, event.StoreFailed, l.reconciler.Reset(ctx, now, e.File.Domain, seen))
}

// Reset removes the lock files that Sluice made for counts from before the reset.
func (l *Locks) Reset(_ context.Context, _ time.Time, r sidecar.Reset) error {
	before := false
	for _, f := range l.dir.Files(r.Subject) {
		if !f.Operator && f.Epoch < r.Epoch {
			before = true
			l.logTrouble(r.Subject, l.dir.Unmake(f.Lock))
		}
	}
	if before && r.Elsewhere {
		l.events.Emit(event.Event{Kind: event.ResetElsewhere, Domain: r.Subject})
	}
	return nil
}

func (l *Locks) logTrouble(domain string, err error) {
	if err != nil {
		l.events.Emit(event.Event{Kind: event.LockTrouble, Domain: domain, Err: err})
	}
}

// Block blocks domains for which an operator has made a lock file.
func (l *Locks) Block(_ time.Time, _ sidecar.Author, who sidecar.Payer) (sidecar.Block, bool) {
	if who.Domain == "" || !l.ByHand(who.Domain) {
		return sidecar.Block{}, false
	}
	return sidecar.Block{SMTP: sidecar.Defer, Local: sidecar.Accept, By: sidecar.ByOperator, Text: func(sidecar.Action) sidecar.RefusalText {
		return sidecar.RefusalText{Text: fmt.Sprintf(textLocked, who.Domain)}
	}}, true
}

// lockEvents are the events that operators see of the lock directory.
var lockEvents = map[lockfile.EventKind]event.Kind{
	lockfile.RemovedByHand: event.LockRemoved,
	lockfile.Made:          event.LockMade,
	lockfile.TakenOver:     event.LockTaken,
	lockfile.DirLost:       event.LockDirLost,
	lockfile.Trouble:       event.LockTrouble,
	lockfile.DirMended:     event.LockDirMended,
	lockfile.DirShared:     event.LockDirShared,
	lockfile.Ignored:       event.LockIgnored,
}

// EventOf returns the event that operators see of it.
func EventOf(e lockfile.Event) event.Event {
	seen := event.Event{Kind: lockEvents[e.Kind], Domain: e.File.Domain, Err: e.Err}
	switch {
	case e.Kind == lockfile.DirMended:
		seen.Attrs = event.Attrs("dir", e.Dir)
	case e.File.Kind == "": // it is about the whole directory
	case e.File.Kind == lockfile.OfUsage:
		seen.Kind = event.UsageRemoved
	default:
		seen.Attrs = event.Attrs("lock", string(e.File.Kind))
	}
	return seen
}
