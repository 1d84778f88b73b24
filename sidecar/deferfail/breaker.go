package deferfail

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/cluster"
	"sluice/sidecar/event"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/notes"
	"sluice/sidecar/printable"
	"sluice/sidecar/settings"
)

// Operators grep for these texts, so they do not change.
const (
	textDeferfail     = "%s has exceeded the max defers and failures per hour (%s) allowed. Message discarded."
	textDeferfailHeld = "%s has exceeded the max defers and failures per hour (%s) allowed. Message will be reattempted later"
)

// tripKeys begin the keys of trips on the board; a subject follows.
const tripKeys = "trip/"

// A Breaker trips domains of which too much is deferred or fails, and ends their trips.
type Breaker struct {
	Options
	asked    map[string]time.Time // when others were asked about a subject that may trip
	trips    *trips
	watched  *watched
	badSends *badSends
	probes   probes
}

// Store is what a Breaker needs of the store that counts sends.
type Store interface {
	sidecar.Counts
	Settle(ctx context.Context, now time.Time, reports []ratelimit.Report) error
}

// Options are what a Breaker is made with; all but Board are needed.
type Options struct {
	Store      Store
	Dir        lockfile.Dir
	Clock      ratelimit.Clock
	Events     event.Sink
	Settings   func() *settings.Settings
	Reconciler sidecar.Reconciler
	Board      notes.Board // nil: this node shares with nobody
	Notes      notes.Store
	Authors    Authors
	Others     *cluster.Feed // nil: there are none
	// WouldTrip is told when a subject would be tripped if its limits were not only watched.
	WouldTrip func(now time.Time, subject string, epoch int64)
}

// New returns a Breaker that goes on from the trips and bad sends in its notes.
func New(o Options) *Breaker {
	return &Breaker{Options: o, asked: map[string]time.Time{},
		trips: newTrips(o.Notes, o.Events, "trip"), watched: newWatched(o), badSends: newBadSends(o.Notes, o.Events), probes: probes{subjects: map[string]*subjectProbes{}}}
}

// Tick has the loop reconcile the tripped domains: bad sends leave the window, and no line
// of the log shows when. It forgets the probes of the others. It also saves the causes of bad sends, every saveEvery.
func (d *Breaker) Tick(ctx context.Context, now time.Time) {
	d.Reconciler.ReconcileAtTick(d.trips.subjects()...)
	d.Reconciler.ReconcileAtTick(d.watched.subjects()...)
	d.reconcileAsked()
	d.probes.dropExcept(d.trips.has)
	d.startCalm(ctx, now)
	if d.badSends.saved.Add(saveEvery).Before(now) {
		d.Stop(ctx, now)
	}
}

// Stop saves the causes of bad sends.
func (d *Breaker) Stop(_ context.Context, now time.Time) {
	if err := d.badSends.save(now); err != nil {
		d.Events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
}

// Survey has the loop reconcile domains that should trip though nothing new went wrong:
// their good sends have left the window, so the share of bad ones has grown. It also has it
// look again at what is held against others, which what happened since may explain.
func (d *Breaker) Survey(now time.Time) (each func(ratelimit.Standing), done func()) {
	s := d.Settings()
	each = func(st ratelimit.Standing) {
		if !sidecar.AlwaysCounted(st.Name) || !hasBad(st) || d.trips.has(st.Name) {
			return
		}
		if f := rateOf(s, st); f.Over() || d.watched.begins(st.Name, f) || d.badSends.unexplained(st.Name) {
			d.Reconciler.ReconcileSoon(st.Name)
		}
	}
	return each, func() { d.Forget(now) }
}

// Forget forgets why sends were bad that have left the window.
func (d *Breaker) Forget(now time.Time) {
	window := d.Settings().Window
	d.badSends.prune(now.Add(-window - window/60))
}

// Reconcile finds out which bad sends of a subject are not its fault, trips it or ends its
// trip, and makes or removes its lock file.
func (d *Breaker) Reconcile(ctx context.Context, now time.Time, subject string) error {
	if !sidecar.AlwaysCounted(subject) {
		return nil
	}
	s := d.Settings()
	excused := d.excuse(ctx, now, subject)
	standing := d.Store.Standing(d.Clock.Store(now), subject)
	f := rateOf(s, standing)
	trip, tripped := d.trips.of(subject)
	over := !tripped && f.Over() && d.spare(now, subject, f).Over()
	if !over {
		delete(d.asked, subject)
	}
	var err error
	switch {
	case over && !d.decides(now, subject):
	case over:
		delete(d.asked, subject)
		err = d.tripOrLeaveOut(ctx, now, s, f, standing)
	case tripped && f.calm() && excused:
		d.Events.Emit(event.Event{Kind: event.TripExcused, Domain: subject, Attrs: event.Attrs("bad", f.ratio())})
		err = d.endTrip(ctx, subject)
	case tripped && f.calm() && (f.off() || now.Sub(trip.Since) > s.Window/60):
		d.Events.Emit(event.Event{Kind: event.TripEnded, Domain: subject, Attrs: event.Attrs("bad", f.ratio())})
		err = d.endTrip(ctx, subject)
	}
	if err == nil {
		err = d.trips.see(subject, f, d.mostlyDeferred(s, standing))
	}
	if err == nil {
		err = d.watch(s, now, standing, f)
	}
	if err != nil {
		return err
	}
	return d.reconcileLock(subject, f)
}

// tripOrLeaveOut trips a subject, unless there are some who are to blame.
func (d *Breaker) tripOrLeaveOut(ctx context.Context, now time.Time, s *settings.Settings, f Rate, standing ratelimit.Standing) error {
	if d.leaveOut(ctx, now, s, f, standing) {
		return nil
	}
	subject := standing.Name
	d.Events.Emit(event.Event{Kind: event.Tripped, Domain: subject, Attrs: append(event.Attrs("bad", f.ratio(), "mostly", d.mainCause(subject)), d.Authors.Culprit(now, subject).Attrs()...)})
	if err := d.trips.set(subject, d.newTrip(s, now, standing)); err != nil {
		return err
	}
	d.shareTrip(ctx, subject)
	return nil
}

// newTrip returns the trip of a subject with these counts.
func (d *Breaker) newTrip(s *settings.Settings, now time.Time, standing ratelimit.Standing) trip {
	return trip{Since: now, Epoch: standing.Epoch, Deferrals: d.mostlyDeferred(s, standing)}
}

// mostlyDeferred reports whether of what is held against a subject at least half was
// deferred.
func (d *Breaker) mostlyDeferred(s *settings.Settings, standing ratelimit.Standing) bool {
	var deferred, failed int64
	for _, w := range standing.Windows {
		if w.Window == s.Window {
			deferred, failed = w.Deferred, w.Failed
		}
	}
	d.badSends.each(standing.Name, func(b badSend) {
		switch {
		case !b.Excused:
		case b.Failed:
			failed--
		default:
			deferred--
		}
	})
	return deferred >= failed
}

// reconcileLock makes or removes the max_deferfail_ file of a domain. Other subjects have none.
func (d *Breaker) reconcileLock(subject string, f Rate) error {
	if !sidecar.IsDomain(subject) {
		return nil
	}
	lock := lockfile.Lock{Kind: lockfile.DeferFail, Domain: subject}
	i := slices.IndexFunc(d.Dir.Files(subject), func(f lockfile.File) bool { return f.Lock == lock })
	switch tripped := d.trips.has(subject); {
	case tripped && i < 0:
		return d.Dir.Make(lock, f.ratio(), f.epoch)
	case !tripped && i >= 0 && !d.Dir.Files(subject)[i].Operator:
		return d.Dir.Unmake(lock)
	}
	return nil
}

// excuse has the store not count as bad what others explain who have the same fault, and
// reports whether there was any.
func (d *Breaker) excuse(ctx context.Context, now time.Time, subject string) bool {
	s := d.Settings()
	sends, places := d.badSends.excusable(subject, now, now.Add(-s.Window-s.Window/60), len(s.OwnerMap.Get().Main), func(key string) time.Time {
		return d.Authors.LastBlame(key, subject)
	})
	if len(sends) == 0 {
		return false
	}
	reports := make([]ratelimit.Report, len(sends))
	for i, t := range sends {
		reports[i] = ratelimit.Report{Token: t, Outcome: ratelimit.Excused}
	}
	if err := d.Store.Settle(ctx, d.Clock.Store(now), reports); err != nil {
		d.Events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
		return false
	}
	d.badSends.excuse(subject, sends)
	excused := 0
	for _, n := range places {
		excused += n
	}
	if excused < len(sends) { // some for who has sent them: the others need not spare the subject these any more
		d.Others.Ask(now, subject)
	}
	for _, place := range slices.Sorted(maps.Keys(places)) {
		d.Events.Emit(event.Event{Kind: event.OutageLeftOut, Domain: subject, Attrs: event.Attrs("destination", place, "sends", places[place])})
	}
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

// Follow trips subjects that another node has tripped, and ends trips that another one
// has ended.
func (d *Breaker) Follow(ctx context.Context, now time.Time) {
	tripped := map[string]string{} // the node that has done it
	d.Board.Entries(tripKeys, func(key string, node []byte) { tripped[strings.TrimPrefix(key, tripKeys)] = string(node) })
	for subject, node := range tripped {
		if !d.trips.has(subject) {
			d.Events.Emit(event.Event{Kind: event.TrippedElsewhere, Domain: subject, Attrs: event.Attrs("node", node)})
			d.logTrouble(subject, d.trips.set(subject, d.newTrip(d.Settings(), now, d.Store.Standing(d.Clock.Store(now), subject))))
			d.Reconciler.ReconcileSoon(subject)
		}
		d.logTrouble(subject, d.trips.noteShared(subject))
	}
	for _, subject := range d.trips.subjects() {
		_, is := tripped[subject]
		switch kept, _ := d.trips.of(subject); {
		case is:
		case kept.Shared:
			d.logTrouble(subject, d.trips.end(subject))
			d.Reconciler.ReconcileSoon(subject)
		default:
			d.logTrouble(subject, d.trips.endBefore(subject, d.epochOf(now, subject)))
			if d.trips.has(subject) {
				d.shareTrip(ctx, subject)
			} else {
				d.Reconciler.ReconcileSoon(subject)
			}
		}
	}
}

// shareTrip posts the trip of a subject for all nodes.
func (d *Breaker) shareTrip(ctx context.Context, subject string) {
	if d.Board == nil {
		return
	}
	if _, err := d.Board.Post(ctx, tripKeys+subject, []byte(d.Settings().Node)); err != nil {
		d.Events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
		return
	}
	d.logTrouble(subject, d.trips.noteShared(subject))
}

// endTrip ends the trip of a subject, on all nodes. If the board cannot be reached, the
// others find out by the counts.
func (d *Breaker) endTrip(ctx context.Context, subject string) error {
	if d.Board != nil && d.trips.has(subject) {
		if err := d.Board.Remove(ctx, tripKeys+subject); err != nil {
			d.Events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
		}
	}
	d.probes.forget(subject)
	return d.trips.end(subject)
}

// Reset ends the trip of a domain and forgets its bad sends. After a reset by another
// node, a trip on the board is left to that node, which removes it there.
func (d *Breaker) Reset(ctx context.Context, _ time.Time, r sidecar.Reset) error {
	d.badSends.forget(r.Subject, r.Epoch)
	if err := d.watched.endBefore(r.Subject, r.Epoch); err != nil {
		return err
	}
	if r.Elsewhere {
		return d.trips.endBefore(r.Subject, r.Epoch)
	}
	return d.endTrip(ctx, r.Subject)
}

// epochOf returns the epoch of a subject's counts, which grows with each reset.
func (d *Breaker) epochOf(now time.Time, subject string) int64 {
	return d.Store.Standing(d.Clock.Store(now), subject).Epoch
}

func (d *Breaker) logTrouble(subject string, err error) {
	if err != nil {
		d.Events.Emit(event.Event{Kind: event.LockTrouble, Domain: subject, Err: err})
	}
}

// Block blocks tripped subjects, unless the settings have changed since: the subject is
// watched or exempt now, or its deferfail_percent is 0. What others have deferred may yet be
// delivered, so that nothing is bounced for it: clients are to come again, mail of sendmail
// is held, and a few of the deferred sends are tried again.
func (d *Breaker) Block(now time.Time, _ sidecar.Author, who sidecar.Payer) (sidecar.Block, bool) {
	subject := who.Subject()
	trip, tripped := d.trips.of(subject)
	if !tripped {
		return sidecar.Block{}, false
	}
	s := d.Settings()
	least, percent := s.DeferfailLimits(s.PayerOfScope(subject))
	if percent == 0 || !s.Enforces(subject) {
		return sidecar.Block{}, false
	}
	b := sidecar.Block{SMTP: sidecar.Reject, Local: sidecar.Reject, By: sidecar.ByDeferfail, Text: func(a sidecar.Action) sidecar.RefusalText {
		return d.refusal(s, now, who, a, trip.last)
	}}
	if trip.Deferrals {
		b.SMTP, b.Local = sidecar.Defer, sidecar.Accept
		b.Retries = &retries{d, subject, least, now}
	}
	return b, true
}

// refusal words the refusal of mail of a tripped subject. Its counts are a call of Redis where nodes
// share them, so that those of a second ago do.
func (d *Breaker) refusal(s *settings.Settings, now time.Time, who sidecar.Payer, a sidecar.Action, f *Rate) sidecar.RefusalText {
	text := textDeferfail
	if a == sidecar.Defer {
		text = textDeferfailHeld
	}
	subject := who.Subject()
	if f == nil || d.Board == nil {
		f = new(rateOf(s, d.Store.Standing(d.Clock.Store(now), subject)))
	}
	return sidecar.RefusalText{
		Text:    fmt.Sprintf(text, sidecar.TitleOf(subject), f.ratio()),
		Why:     fmt.Sprintf("%d of %d sends in %s deferred or failed, mostly %s; limit %d%% and %d", f.Bad, f.sent, printable.Span(s.Window), d.mainCause(subject), f.percent, f.min),
		Culprit: d.Authors.Culprit(now, subject),
		Where:   fmt.Sprintf("limit from %s; sluice on %s", s.DeferfailOrigin(who), s.Node),
	}
}
