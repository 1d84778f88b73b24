package sidecar

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// Operators grep for these texts: they are kept to the letter.
const (
	textDeferfail     = "Domain %s has exceeded the max defers and failures per hour (%s) allowed. Message discarded."
	textDeferfailHeld = "Domain %s has exceeded the max defers and failures per hour (%s) allowed. Message will be reattempted later"
)

// tripKeys begin the keys of trips on the board; a domain follows.
const tripKeys = "trip/"

// Deferfail trips the domains of which too much is deferred or fails, and releases
// them. It knows why each bad send is bad.
type Deferfail struct {
	store      SettlingStore
	dir        LockDir
	clock      Clock
	events     event.Sink
	settings   func() *Settings
	reconciler Reconciler
	board      Board // nil: this node shares with nobody
	trips      *trips
	bads       *bads
}

// A SettlingStore is a store as far as Deferfail needs it.
type SettlingStore interface {
	Counts
	Settle(ctx context.Context, now time.Time, reports []ratelimit.Report) error
}

// DeferfailOptions are what a Deferfail is made with; all but Board are needed.
type DeferfailOptions struct {
	Store      SettlingStore
	Dir        LockDir
	Clock      Clock
	Events     event.Sink
	Settings   func() *Settings
	Reconciler Reconciler
	Board      Board // nil: this node shares with nobody
	Notes      Notes
}

// NewDeferfail returns a Deferfail that knows what was noted of trips and bad sends.
func NewDeferfail(o DeferfailOptions) *Deferfail {
	return &Deferfail{store: o.Store, dir: o.Dir, clock: o.Clock, events: o.Events, settings: o.Settings, reconciler: o.Reconciler, board: o.Board,
		trips: newTrips(o.Notes, o.Events), bads: newBads(o.Notes, o.Events)}
}

// tick has the tripped domains looked at: outcomes leave the window without a line
// in the log.
func (d *Deferfail) tick(_ context.Context, now time.Time) {
	d.reconciler.LookAtNextTick(d.trips.domains()...)
	if d.bads.saved.Add(saveBad).Before(now) {
		d.stop(now)
	}
}

// stop saves why sends are bad.
func (d *Deferfail) stop(now time.Time) {
	if err := d.bads.save(now); err != nil {
		d.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
}

// survey finds domains whose good sends have left the window, and the bad ones not.
func (d *Deferfail) survey(now time.Time) (each func(ratelimit.Standing), done func()) {
	s := d.settings()
	each = func(st ratelimit.Standing) {
		if isDomain(st.Name) && hasBad(st) && rateOf(s, st).over() && !d.trips.has(st.Name) {
			d.reconciler.Look(st.Name)
		}
	}
	return each, func() { d.bads.prune(now.Add(-s.window - s.window/60)) }
}

// reconcile trips a domain, or releases it, and has its lock file follow.
func (d *Deferfail) reconcile(ctx context.Context, now time.Time, domain string) error {
	s, at := d.settings(), d.clock.Store(now)
	f := rateOf(s, d.store.Standing(at, domain))
	if (f.over() || d.trips.has(domain) && !f.calm()) && d.excuseOutage(ctx, now, domain) {
		f = rateOf(s, d.store.Standing(at, domain))
	}
	var err error
	switch tripped := d.trips.has(domain); {
	case !tripped && f.over():
		d.events.Emit(event.Event{Kind: event.Tripped, Domain: domain, Attrs: event.Attrs("bad", f.ratio(), "mostly", d.mainCause(domain))})
		if err = d.trips.set(domain, now, f.epoch); err == nil {
			d.shareTrip(ctx, domain)
		}
	case tripped && f.calm() && (f.none() || now.Sub(d.trips.at(domain)) > s.window/60):
		d.events.Emit(event.Event{Kind: event.TripEnded, Domain: domain, Attrs: event.Attrs("bad", f.ratio())})
		err = d.endTrip(ctx, domain)
	}
	if err != nil {
		return err
	}
	return d.showTrip(domain, f)
}

// showTrip makes or removes max_deferfail_ of a domain.
func (d *Deferfail) showTrip(domain string, f rate) error {
	lock := Lock{Kind: LockDeferFail, Domain: domain}
	i := slices.IndexFunc(d.dir.Files(domain), func(f LockFile) bool { return f.Lock == lock })
	switch tripped := d.trips.has(domain); {
	case tripped && i < 0:
		return d.dir.Make(lock, f.ratio(), f.epoch)
	case !tripped && i >= 0 && !d.dir.Files(domain)[i].Operator:
		return d.dir.Unmake(lock)
	}
	return nil
}

// excuseOutage leaves out what a domain sent to a destination that fails for
// everybody, and reports whether there was any.
func (d *Deferfail) excuseOutage(ctx context.Context, now time.Time, domain string) bool {
	to, sends := d.bads.outage(domain, now.Add(-d.settings().window))
	if len(sends) == 0 {
		return false
	}
	reports := make([]ratelimit.Report, len(sends))
	for i, t := range sends {
		reports[i] = ratelimit.Report{Token: t, Told: ratelimit.Excused}
	}
	if err := d.store.Settle(ctx, d.clock.Store(now), reports); err != nil {
		d.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
		return false
	}
	d.events.Emit(event.Event{Kind: event.OutageLeftOut, Domain: domain, Attrs: event.Attrs("destination", to, "sends", len(sends))})
	return true
}

// Refuses reports whether settings refuse a domain for its percentage: how much it
// has sent, and "12/5 (30%)".
func (d *Deferfail) Refuses(s *Settings, st ratelimit.Standing) (sent int64, text string, refused bool) {
	if !hasBad(st) {
		return 0, "", false
	}
	f := rateOf(s, st)
	return f.sent, f.ratio(), f.over() || d.trips.has(st.Name) && !f.calm()
}

// Causes lists what went wrong for a domain, the most frequent first, and what
// of it is not held against it.
func (d *Deferfail) Causes(domain string) ([]CauseStatus, []LeftOut) { return d.bads.causes(domain) }

// mainCause is why most of a domain's bad sends are bad.
func (d *Deferfail) mainCause(domain string) Cause {
	if causes, _ := d.bads.causes(domain); len(causes) > 0 {
		return causes[0].Cause
	}
	return OtherCause
}

// follow trips domains that another node has tripped, and releases those
// that another one has released.
func (d *Deferfail) follow(ctx context.Context, now time.Time) {
	tripped := map[string]bool{}
	d.board.Entries(tripKeys, func(key string, _ []byte) { tripped[strings.TrimPrefix(key, tripKeys)] = true })
	for domain := range tripped {
		if !d.trips.has(domain) {
			d.events.Emit(event.Event{Kind: event.TrippedElsewhere, Domain: domain})
			d.logTrouble(domain, d.trips.set(domain, now, d.epochOf(now, domain)))
			d.reconciler.Look(domain)
		}
		d.logTrouble(domain, d.trips.share(domain))
	}
	for _, domain := range d.trips.domains() {
		switch {
		case tripped[domain]:
		case d.trips.isShared(domain):
			d.logTrouble(domain, d.trips.clear(domain))
			d.reconciler.Look(domain)
		default:
			d.logTrouble(domain, d.trips.outdate(domain, d.epochOf(now, domain)))
			if d.trips.has(domain) {
				d.shareTrip(ctx, domain)
			} else {
				d.reconciler.Look(domain)
			}
		}
	}
}

// shareTrip tells all nodes that a domain has tripped.
func (d *Deferfail) shareTrip(ctx context.Context, domain string) {
	if d.board == nil {
		return
	}
	if _, err := d.board.Post(ctx, tripKeys+domain, []byte(d.settings().Node)); err != nil {
		d.events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
		return
	}
	d.logTrouble(domain, d.trips.share(domain))
}

// endTrip releases a domain here, and on all nodes.
func (d *Deferfail) endTrip(ctx context.Context, domain string) error {
	if d.board != nil && d.trips.has(domain) {
		if err := d.board.Remove(ctx, tripKeys+domain); err != nil {
			d.events.Emit(event.Event{Kind: event.BoardFailed, Err: err}) // the others find out by the counts
		}
	}
	return d.trips.clear(domain)
}

// reset ends a trip, and forgets bad sends, of before.
func (d *Deferfail) reset(ctx context.Context, _ time.Time, r Reset) error {
	d.bads.forget(r.Domain, r.Epoch)
	if r.Elsewhere {
		return d.trips.outdate(r.Domain, r.Epoch) // one that others know of ends for all, on the board
	}
	return d.endTrip(ctx, r.Domain)
}

// epochOf is when the counts of a domain began anew.
func (d *Deferfail) epochOf(now time.Time, domain string) int64 {
	return d.store.Standing(d.clock.Store(now), domain).Epoch
}

func (d *Deferfail) logTrouble(domain string, err error) {
	if err != nil {
		d.events.Emit(event.Event{Kind: event.LockTrouble, Domain: domain, Err: err})
	}
}

// Block blocks domains over their percentage of bad sends, unless they are
// watched, exempt, or nothing trips them any more.
func (d *Deferfail) Block(now time.Time, _ Author, who identity) (Block, bool) {
	if !d.trips.has(who.domain) {
		return Block{}, false
	}
	s := d.settings()
	if _, percent := s.deferfailLimits(s.owned(who.domain)); percent == 0 || !s.enforces(who.domain) {
		return Block{}, false
	}
	return Block{SMTP: Reject, Local: Reject, By: ByDeferfail, Text: func(a Action) string {
		text := textDeferfail
		if a == Defer {
			text = textDeferfailHeld
		}
		f := rateOf(s, d.store.Standing(d.clock.Store(now), who.domain))
		return fmt.Sprintf(text, who.domain, f.ratio()) + fmt.Sprintf(
			" [%d of %d sends in %s deferred or failed, mostly %s; limit %d%% and %d, from %s; sluice on %s]",
			f.bad, f.sent, span(s.window), d.mainCause(who.domain), f.percent, f.min, s.deferfailOrigin(who), s.Node)
	}}, true
}
