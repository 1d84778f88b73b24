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
	"sluice/sidecar/notes"
	"sluice/sidecar/settings"
)

// rate is how a domain stands with its defer/fail percentage.
type Rate struct {
	sent, Bad    int64
	min, percent int64
	off          bool // nobody is tripped: the domain is watched or exempt
	epoch        int64
}

// rateOf finds it in what is counted in the window.
func rateOf(s *settings.Settings, standing ratelimit.Standing) Rate {
	d := TripsAt(s, standing.Name)
	d.Count(standing, s.Window)
	return d
}

// tripsAt is what trips a domain, with nothing counted.
func TripsAt(s *settings.Settings, domain string) Rate {
	d := Rate{off: !s.Enforces(domain)}
	d.min, d.percent = s.DeferfailLimits(s.PayerOfDomain(domain))
	return d
}

// count takes in what is counted in a window.
func (d *Rate) Count(standing ratelimit.Standing, window time.Duration) {
	d.epoch = standing.Epoch
	for _, w := range standing.Windows {
		if w.Window == window {
			d.sent, d.Bad = w.Sent, w.Bad()
		}
	}
}

// none tells that nothing trips a domain.
func (d Rate) none() bool { return d.off || d.percent == 0 }

// over tells that a domain trips.
func (d Rate) Over() bool {
	return d.Suspect() && d.Bad*100 >= d.percent*d.sent
}

// Suspect tells that a domain has as many bad sends as trip it, if their share is as high.
func (d Rate) Suspect() bool { return !d.none() && d.Bad >= d.min }

// calm tells that a tripped domain may be released. It lies below what trips, so
// that one more bad outcome does not trip it again.
func (d Rate) calm() bool {
	return d.none() || d.Bad < d.min || d.Bad*1000 < 8*d.percent*d.sent
}

// now is the percentage of bad sends, rounded down.
func (d Rate) now() int64 { return d.Bad * 100 / max(1, d.sent) }

// ratio is "12/5 (30%)": bad of how many trip, and what share of the sends.
func (d Rate) ratio() string { return fmt.Sprintf("%d/%d (%d%%)", d.Bad, d.min, d.now()) }

// trips are the domains over their percentage. They are noted: whether a domain
// between the two thresholds is refused depends on where it came from.
type trips struct {
	notes notes.Map[trip] // by domain
	mu    sync.RWMutex
	all   map[string]trip
}

// A trip is noted with whether others know, or a node that was down would tell
// them of one that they have ended.
type trip struct {
	Since time.Time `json:"since"`           // on the wall
	Epoch int64     `json:"epoch,omitempty"` // of the counts that tripped it
	Told  bool      `json:"told,omitempty"`  // the other nodes know
}

func newTrips(store sidecar.Notes, events event.Sink) *trips {
	t := &trips{notes: notes.New[trip](store, "trip", 1, event.Unread(events, event.NoteUnread)), all: map[string]trip{}}
	t.notes.Load(func(name []string, noted trip) error {
		t.all[name[0]] = noted
		return nil
	})
	return t
}

func (t *trips) has(domain string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, tripped := t.all[domain]
	return tripped
}

func (t *trips) at(domain string) time.Time {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.all[domain].Since
}

func (t *trips) domains() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Collect(maps.Keys(t.all))
}

func (t *trips) set(domain string, now time.Time, epoch int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.note(domain, trip{Since: now, Epoch: epoch})
}

// note keeps a trip, in memory also after an error. mu is held.
func (t *trips) note(domain string, noted trip) error {
	t.all[domain] = noted
	return t.notes.Put(noted, domain)
}

func (t *trips) clear(domain string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, tripped := t.all[domain]; !tripped {
		return nil
	}
	delete(t.all, domain)
	return t.notes.Drop(domain)
}

// outdate ends a trip of which the other nodes do not know, if what tripped it was
// reset since: a node that starts can trip a domain before it hears of that.
func (t *trips) outdate(domain string, epoch int64) error {
	t.mu.RLock()
	noted, tripped := t.all[domain]
	t.mu.RUnlock()
	if !tripped || noted.Told || noted.Epoch >= epoch {
		return nil
	}
	return t.clear(domain)
}

// share notes that the other nodes know of a trip.
func (t *trips) share(domain string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	noted, tripped := t.all[domain]
	if !tripped || noted.Told {
		return nil
	}
	noted.Told = true
	return t.note(domain, noted)
}

func (t *trips) isShared(domain string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.all[domain].Told
}
