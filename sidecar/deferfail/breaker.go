package deferfail

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/settings"
)

// Operators grep for these texts, so they do not change.
const (
	textDeferfail     = "Domain %s has exceeded the max defers and failures per hour (%s) allowed. Message discarded."
	textDeferfailHeld = "Domain %s has exceeded the max defers and failures per hour (%s) allowed. Message will be reattempted later"
)

// tripKeys begin the keys of trips on the board; a domain follows.
const tripKeys = "trip/"

// A Breaker trips domains of which too much is deferred or fails, and ends their trips.
type Breaker struct {
	store      Store
	dir        sidecar.LockDir
	clock      sidecar.Clock
	events     event.Sink
	settings   func() *settings.Settings
	reconciler sidecar.Reconciler
	board      sidecar.Board // nil: this node shares with nobody
	trips      *trips
	bads       *bads
}

// Store is what a Breaker needs of the store that counts sends.
type Store interface {
	sidecar.Counts
	Settle(ctx context.Context, now time.Time, reports []ratelimit.Report) error
}

// Options are what a Breaker is made with; all but Board are needed.
type Options struct {
	Store      Store
	Dir        sidecar.LockDir
	Clock      sidecar.Clock
	Events     event.Sink
	Settings   func() *settings.Settings
	Reconciler sidecar.Reconciler
	Board      sidecar.Board // nil: this node shares with nobody
	Notes      sidecar.Notes
}

// New returns a Breaker that goes on from the trips and bad sends in its notes.
func New(o Options) *Breaker {
	return &Breaker{store: o.Store, dir: o.Dir, clock: o.Clock, events: o.Events, settings: o.Settings, reconciler: o.Reconciler, board: o.Board,
		trips: newTrips(o.Notes, o.Events), bads: newBads(o.Notes, o.Events)}
}

// Tick has the loop reconcile the tripped domains: bad sends leave the window, and no line
// of the log shows when. It also saves the causes of bad sends, every saveEvery.
func (d *Breaker) Tick(ctx context.Context, now time.Time) {
	d.reconciler.ReconcileAtTick(d.trips.domains()...)
	if d.bads.saved.Add(saveEvery).Before(now) {
		d.Stop(ctx, now)
	}
}

// Stop saves the causes of bad sends.
func (d *Breaker) Stop(_ context.Context, now time.Time) {
	if err := d.bads.save(now); err != nil {
		d.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
}

// Survey has the loop reconcile domains that should trip though nothing new went wrong:
// their good sends have left the window, so the share of bad ones has grown.
func (d *Breaker) Survey(now time.Time) (each func(ratelimit.Standing), done func()) {
	s := d.settings()
	each = func(st ratelimit.Standing) {
		if sidecar.IsDomain(st.Name) && hasBad(st) && rateOf(s, st).Over() && !d.trips.has(st.Name) {
			d.reconciler.ReconcileSoon(st.Name)
		}
	}
	return each, func() { d.Forget(now) }
}

// Forget forgets why sends were bad that have left the window.
func (d *Breaker) Forget(now time.Time) {
	window := d.settings().Window
	d.bads.prune(now.Add(-window - window/60))
}

// Reconcile trips a domain or ends its trip, and makes or removes its lock file.
func (d *Breaker) Reconcile(ctx context.Context, now time.Time, domain string) error {
	if !sidecar.IsDomain(domain) {
		return nil
	}
	s, at := d.settings(), d.clock.Store(now)
	f := rateOf(s, d.store.Standing(at, domain))
	if (f.Over() || d.trips.has(domain) && !f.calm()) && d.excuseOutage(ctx, now, domain) {
		f = rateOf(s, d.store.Standing(at, domain))
	}
	var err error
	switch tripped := d.trips.has(domain); {
	case !tripped && f.Over():
		d.events.Emit(event.Event{Kind: event.Tripped, Domain: domain, Attrs: event.Attrs("bad", f.ratio(), "mostly", d.mainCause(domain))})
		if err = d.trips.set(domain, now, f.epoch); err == nil {
			d.shareTrip(ctx, domain)
		}
	case tripped && f.calm() && (f.off() || now.Sub(d.trips.at(domain)) > s.Window/60):
		d.events.Emit(event.Event{Kind: event.TripEnded, Domain: domain, Attrs: event.Attrs("bad", f.ratio())})
		err = d.endTrip(ctx, domain)
	}
	if err != nil {
		return err
	}
	return d.reconcileLock(domain, f)
}

// reconcileLock makes or removes the max_deferfail_ file of a domain.
func (d *Breaker) reconcileLock(domain string, f Rate) error {
	lock := sidecar.Lock{Kind: sidecar.LockDeferFail, Domain: domain}
	i := slices.IndexFunc(d.dir.Files(domain), func(f sidecar.LockFile) bool { return f.Lock == lock })
	switch tripped := d.trips.has(domain); {
	case tripped && i < 0:
		return d.dir.Make(lock, f.ratio(), f.epoch)
	case !tripped && i >= 0 && !d.dir.Files(domain)[i].Operator:
		return d.dir.Unmake(lock)
	}
	return nil
}

// excuseOutage has the store not count as bad what a domain sent to a destination that
// fails for everybody, and reports whether there was any.
func (d *Breaker) excuseOutage(ctx context.Context, now time.Time, domain string) bool {
	to, sends := d.bads.outage(domain, now.Add(-d.settings().Window))
	if len(sends) == 0 {
		return false
	}
	reports := make([]ratelimit.Report, len(sends))
	for i, t := range sends {
		reports[i] = ratelimit.Report{Token: t, Outcome: ratelimit.Excused}
	}
	if err := d.store.Settle(ctx, d.clock.Store(now), reports); err != nil {
		d.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
		return false
	}
	d.events.Emit(event.Event{Kind: event.OutageLeftOut, Domain: domain, Attrs: event.Attrs("destination", to, "sends", len(sends))})
	return true
}

// Refuses reports whether a domain with these counts is blocked under some settings, how
// much it has sent, and its bad sends as "12/5 (30%)": 12, where 5 may trip.
func (d *Breaker) Refuses(s *settings.Settings, st ratelimit.Standing) (sent int64, text string, refused bool) {
	if !hasBad(st) {
		return 0, "", false
	}
	f := rateOf(s, st)
	return f.sent, f.ratio(), f.Over() || d.trips.has(st.Name) && !f.calm()
}

// Causes returns why sends of a domain were bad, the most frequent cause first, and which
// of them do not count towards a trip.
func (d *Breaker) Causes(domain string) ([]CauseStatus, []LeftOut) { return d.bads.causes(domain) }

// mainCause returns the most frequent cause of a domain's bad sends.
func (d *Breaker) mainCause(domain string) sidecar.Cause {
	if causes, _ := d.bads.causes(domain); len(causes) > 0 {
		return causes[0].Cause
	}
	return sidecar.OtherCause
}

// Follow trips domains that another node has tripped, and ends trips that another one
// has ended.
func (d *Breaker) Follow(ctx context.Context, now time.Time) {
	tripped := map[string]bool{}
	d.board.Entries(tripKeys, func(key string, _ []byte) { tripped[strings.TrimPrefix(key, tripKeys)] = true })
	for domain := range tripped {
		if !d.trips.has(domain) {
			d.events.Emit(event.Event{Kind: event.TrippedElsewhere, Domain: domain})
			d.logTrouble(domain, d.trips.set(domain, now, d.epochOf(now, domain)))
			d.reconciler.ReconcileSoon(domain)
		}
		d.logTrouble(domain, d.trips.noteShared(domain))
	}
	for _, domain := range d.trips.domains() {
		switch {
		case tripped[domain]:
		case d.trips.isShared(domain):
			d.logTrouble(domain, d.trips.end(domain))
			d.reconciler.ReconcileSoon(domain)
		default:
			d.logTrouble(domain, d.trips.endBefore(domain, d.epochOf(now, domain)))
			if d.trips.has(domain) {
				d.shareTrip(ctx, domain)
			} else {
				d.reconciler.ReconcileSoon(domain)
			}
		}
	}
}

// shareTrip posts the trip of a domain for all nodes.
func (d *Breaker) shareTrip(ctx context.Context, domain string) {
	if d.board == nil {
		return
	}
	if _, err := d.board.Post(ctx, tripKeys+domain, []byte(d.settings().Node)); err != nil {
		d.events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
		return
	}
	d.logTrouble(domain, d.trips.noteShared(domain))
}

// endTrip ends the trip of a domain, on all nodes. If the board cannot be reached, the
// others find out by the counts.
func (d *Breaker) endTrip(ctx context.Context, domain string) error {
	if d.board != nil && d.trips.has(domain) {
		if err := d.board.Remove(ctx, tripKeys+domain); err != nil {
			d.events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
		}
	}
	return d.trips.end(domain)
}

// Reset ends the trip of a domain and forgets its bad sends. After a reset by another
// node, a trip on the board is left to that node, which removes it there.
func (d *Breaker) Reset(ctx context.Context, _ time.Time, r sidecar.Reset) error {
	d.bads.forget(r.Domain, r.Epoch)
	if r.Elsewhere {
		return d.trips.endBefore(r.Domain, r.Epoch)
	}
	return d.endTrip(ctx, r.Domain)
}

// epochOf returns the epoch of a domain's counts, which grows with each reset.
func (d *Breaker) epochOf(now time.Time, domain string) int64 {
	return d.store.Standing(d.clock.Store(now), domain).Epoch
}

func (d *Breaker) logTrouble(domain string, err error) {
	if err != nil {
		d.events.Emit(event.Event{Kind: event.LockTrouble, Domain: domain, Err: err})
	}
}

// Block blocks tripped domains, unless the settings have changed since: the domain is
// watched or exempt now, or its deferfail_percent is 0.
func (d *Breaker) Block(now time.Time, _ sidecar.Author, who sidecar.Payer) (sidecar.Block, bool) {
	subject := who.Subject()
	if !d.trips.has(subject) {
		return sidecar.Block{}, false
	}
	s := d.settings()
	if _, percent := s.DeferfailLimits(s.PayerOfScope(subject)); percent == 0 || !s.Enforces(subject) {
		return sidecar.Block{}, false
	}
	return sidecar.Block{SMTP: sidecar.Reject, Local: sidecar.Reject, By: sidecar.ByDeferfail, Text: func(a sidecar.Action) sidecar.RefusalText {
		text := textDeferfail
		if a == sidecar.Defer {
			text = textDeferfailHeld
		}
		f := rateOf(s, d.store.Standing(d.clock.Store(now), subject))
		return sidecar.RefusalText{
			Text:  fmt.Sprintf(text, subject, f.ratio()),
			Why:   fmt.Sprintf("%d of %d sends in %s deferred or failed, mostly %s; limit %d%% and %d", f.Bad, f.sent, sidecar.Span(s.Window), d.mainCause(subject), f.percent, f.min),
			Where: fmt.Sprintf("limit from %s; sluice on %s", s.DeferfailOrigin(who), s.Node),
		}
	}}, true
}
