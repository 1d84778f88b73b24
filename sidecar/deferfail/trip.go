package deferfail

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
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
}

func newTrips(store sidecar.Notes, events event.Sink, prefix string) *trips {
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
	t.mu.RLock()
	noted, tripped := t.all[subject]
	t.mu.RUnlock()
	if !tripped || noted.Shared || noted.Epoch >= epoch {
		return nil
	}
	return t.end(subject)
}

// setDeferrals notes whether a trip is mostly by deferrals.
func (t *trips) setDeferrals(subject string, mostly bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	noted, tripped := t.all[subject]
	if !tripped || noted.Deferrals == mostly {
		return nil
	}
	noted.Deferrals = mostly
	return t.note(subject, noted)
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

func (t *trips) isShared(subject string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.all[subject].Shared
}
