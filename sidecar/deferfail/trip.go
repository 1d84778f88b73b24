package deferfail

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
	"sluice/sidecar/limit"
	"sluice/sidecar/notes"
	"sluice/sidecar/settings"
)

// A Rate is how much of what a domain sent is bad, and how much may be.
type Rate struct {
	sent, Bad    int64 // in the window
	min, percent int64 // a domain trips when it reaches both; percent 0: never
	watched      bool  // it never trips, and it is noted when it would
	exempt       bool  // it never trips
	epoch        int64 // of the counts
}

func rateOf(s *settings.Settings, standing ratelimit.Standing) Rate {
	r := TripsAt(s, standing.Name)
	r.Count(standing, s.Window)
	return r
}

// TripsAt returns the Rate of a domain before anything is counted.
func TripsAt(s *settings.Settings, domain string) Rate {
	mode := s.Mode(s.PayerOfScope(domain), domain)
	r := Rate{watched: mode == limit.Watch, exempt: mode == limit.Exempt}
	r.min, r.percent = s.DeferfailLimits(s.PayerOfScope(domain))
	return r
}

// Count takes in what is counted in a window.
func (r *Rate) Count(standing ratelimit.Standing, window time.Duration) {
	r.epoch = standing.Epoch
	for _, w := range standing.Windows {
		if w.Window == window {
			r.sent, r.Bad = w.Sent, w.Bad()
		}
	}
}

// off reports whether a domain never trips.
func (r Rate) off() bool { return r.watched || r.exempt || r.percent == 0 }

// enforced is the Rate of a domain if it were not only watched.
func (r Rate) enforced() Rate {
	r.watched = false
	return r
}

// Over reports whether a domain trips.
func (r Rate) Over() bool { return r.Suspect() && r.Bad*100 >= r.percent*r.sent }

// Suspect reports whether a domain has enough bad sends to trip, whatever their percentage.
func (r Rate) Suspect() bool { return !r.off() && r.Bad >= r.min }

// calm reports whether a trip may end: below 80% of what trips, so that one more bad send
// does not trip the domain again.
func (r Rate) calm() bool {
	return r.off() || r.Bad < r.min || r.Bad*1000 < 8*r.percent*r.sent
}

// ratio returns "12/5 (30%)": 12 bad sends, where 5 may trip, are 30% of all.
func (r Rate) ratio() string {
	return fmt.Sprintf("%d/%d (%d%%)", r.Bad, r.min, r.Bad*100/max(1, r.sent))
}

// trips are the tripped subjects. They are noted, because the counts alone do not say who
// is tripped: a domain whose Rate is neither Over nor calm stays as it was.
type trips struct {
	notes notes.Map[trip] // by subject
	mu    sync.RWMutex
	all   map[string]trip
}

// A trip of a subject. Shared says that this node has seen the trip on the board. It is noted
// too: without it, a node that was down would take a trip that the others have ended
// meanwhile for one that is not on the board yet, and post it again.
type trip struct {
	Since  time.Time `json:"since"`           // by the system's clock
	Epoch  int64     `json:"epoch,omitempty"` // of the counts that tripped it
	Shared bool      `json:"told,omitempty"`  // it was on the board

	// Deferrals: most of what is bad was deferred, and may be delivered yet.
	Deferrals bool `json:"deferrals,omitempty"`

	last *Rate // a second ago; nil: not since the start
}

func newTrips(store notes.Store, events event.Sink, prefix string) *trips {
	t := &trips{notes: notes.New[trip](store, prefix, 1, event.Unread(events, event.NoteUnread)), all: map[string]trip{}}
	t.notes.Load(func(name []string, noted trip) error {
		t.all[name[0]] = noted
		return nil
	})
	return t
}

func (t *trips) has(subject string) bool {
	_, tripped := t.of(subject)
	return tripped
}

// of returns the trip of a subject; false if it is not tripped.
func (t *trips) of(subject string) (trip, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	noted, tripped := t.all[subject]
	return noted, tripped
}

func (t *trips) subjects() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Collect(maps.Keys(t.all))
}

func (t *trips) set(subject string, tripped trip) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.note(subject, tripped)
}

// note keeps a trip, which after an error is in memory only. mu is held.
func (t *trips) note(subject string, noted trip) error {
	t.all[subject] = noted
	return t.notes.Put(noted, subject)
}

func (t *trips) end(subject string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, tripped := t.all[subject]; !tripped {
		return nil
	}
	delete(t.all, subject)
	return t.notes.Drop(subject)
}

// endBefore ends a trip that was never on the board, if the counts that tripped the subject
// are older than epoch, and so were reset. That happens when a node starts: it can trip a
// subject before it learns that another node has reset it.
func (t *trips) endBefore(subject string, epoch int64) error {
	noted, tripped := t.of(subject)
	if !tripped || noted.Shared || noted.Epoch >= epoch {
		return nil
	}
	return t.end(subject)
}

// see keeps the Rate of a tripped subject, and notes whether its trip is mostly by deferrals.
func (t *trips) see(subject string, f Rate, mostly bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	noted, tripped := t.all[subject]
	if noted.last = &f; tripped && noted.Deferrals == mostly {
		t.all[subject] = noted
	} else if tripped {
		noted.Deferrals = mostly
		return t.note(subject, noted)
	}
	return nil
}

// noteShared notes that a trip is on the board.
func (t *trips) noteShared(subject string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	noted, tripped := t.all[subject]
	if !tripped || noted.Shared {
		return nil
	}
	noted.Shared = true
	return t.note(subject, noted)
}

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
	return d.watched.see(subject, f, d.mostlyDeferred(s, standing))
}

// WouldRefuse reports whether mail of a subject passes only because its limits are watched: by
// its defers and failures it would be tripped.
func (d *Breaker) WouldRefuse(subject string) bool { return d.watched.has(subject) }

// WouldTrip returns the trip of a subject that is only watched; nil if it would not be tripped.
func (d *Breaker) WouldTrip(now time.Time, subject string) *TripStatus {
	return d.statusOf(now, subject, d.watched.trips)
}
