package deferfail

import (
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
	"sluice/sidecar/settings"
)

// watched are the trips of subjects whose limits are only watched: nothing is blocked by them,
// and they are shown, so that it is known who would be when limits are enforced.
type watched struct {
	*trips
	tell func(now time.Time, subject string, epoch int64)
}

func newWatched(o Options) *watched {
	return &watched{newTrips(o.Notes, o.Events, "would-trip"), o.WouldTrip}
}

// begins reports whether a subject would be tripped now, and would not have been before.
func (w *watched) begins(subject string, f Rate) bool {
	return f.watched && f.enforced().Over() && !w.has(subject)
}

// watch notes whether a subject would be tripped if its limits were not only watched. That
// ends as a trip would, and when they are enforced.
func (d *Breaker) watch(s *settings.Settings, now time.Time, standing ratelimit.Standing, f Rate) error {
	subject, f2 := standing.Name, f.enforced()
	would, is := d.watched.of(subject)
	switch {
	case d.watched.begins(subject, f):
		d.Events.Emit(event.Event{Kind: event.WouldTrip, Domain: subject, Attrs: event.Attrs("bad", f2.ratio(), "mostly", d.mainCause(subject))})
		d.watched.tell(now, subject, standing.Epoch)
		return d.watched.set(subject, d.newTrip(s, now, standing))
	case is && !f.watched:
		return d.watched.end(subject)
	case is && f2.calm() && (f2.off() || now.Sub(would.Since) > s.Window/60):
		d.Events.Emit(event.Event{Kind: event.WouldTripEnded, Domain: subject, Attrs: event.Attrs("bad", f2.ratio())})
		return d.watched.end(subject)
	}
	return d.watched.setDeferrals(subject, d.mostlyDeferred(s, standing))
}

// WouldRefuse reports whether mail of a subject passes only because its limits are watched: by
// its defers and failures it would be tripped.
func (d *Breaker) WouldRefuse(subject string) bool { return d.watched.has(subject) }

// WouldTrip returns the trip of a subject that is only watched; nil if it would not be tripped.
func (d *Breaker) WouldTrip(now time.Time, subject string) *TripStatus {
	return d.statusOf(now, subject, d.watched.trips)
}
