package sidecar

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/notes"
)

// deferfail is how a domain stands with its defer/fail percentage.
type deferfail struct {
	sent, bad    int64
	min, percent int64
	off          bool // nobody is tripped: the domain is watched or exempt
	epoch        int64
}

// deferfailOf finds it in what is counted in the window.
func (s *Settings) deferfailOf(standing ratelimit.Standing) deferfail {
	d := s.tripsAt(standing.Name)
	d.count(standing, s.window)
	return d
}

// tripsAt is what trips a domain, with nothing counted.
func (s *Settings) tripsAt(domain string) deferfail {
	d := deferfail{off: !s.enforces(domain)}
	d.min, d.percent = s.deferfailLimits(s.owned(domain))
	return d
}

// count takes in what is counted in a window.
func (d *deferfail) count(standing ratelimit.Standing, window time.Duration) {
	d.epoch = standing.Epoch
	for _, w := range standing.Windows {
		if w.Window == window {
			d.sent, d.bad = w.Sent, w.Bad()
		}
	}
}

// deferfailLimits are how many bad sends of somebody, and which share, trip.
func (s *Settings) deferfailLimits(who identity) (least, percent int64) {
	least, _ = inForce(s, who, "deferfail_min", func(t *Thresholds) *int64 { return t.DeferfailMin })
	percent, _ = inForce(s, who, "deferfail_percent", func(t *Thresholds) *int64 { return t.DeferfailPercent })
	return least, percent
}

// none tells that nothing trips a domain.
func (d deferfail) none() bool { return d.off || d.percent == 0 }

// over tells that a domain trips.
func (d deferfail) over() bool {
	return !d.none() && d.bad >= d.min && d.bad*100 >= d.percent*d.sent
}

// calm tells that a tripped domain may be released. It lies below what trips, so
// that one more bad outcome does not trip it again.
func (d deferfail) calm() bool {
	return d.none() || d.bad < d.min || d.bad*1000 < 8*d.percent*d.sent
}

// now is the percentage of bad sends, rounded down.
func (d deferfail) now() int64 { return d.bad * 100 / max(1, d.sent) }

// ratio is "12/5 (30%)": bad of how many trip, and what share of the sends.
func (d deferfail) ratio() string { return fmt.Sprintf("%d/%d (%d%%)", d.bad, d.min, d.now()) }

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

func newTrips(store Notes, log *OperatorLog) *trips {
	t := &trips{notes: notes.New[trip](store, "trip", 1, log.NoteUnread), all: map[string]trip{}}
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

// tripped tells whether a domain is refused for its percentage: at once not, when
// it is watched, exempt, or nothing trips it any more.
func (p *Policy) tripped(s *Settings, domain string) bool {
	if !p.trips.has(domain) {
		return false
	}
	_, percent := s.deferfailLimits(s.owned(domain))
	return percent > 0 && s.enforces(domain)
}

// reconcileTrip trips a domain, or releases it, and has its lock file follow.
func (p *Policy) reconcileTrip(ctx context.Context, now time.Time, domain string) error {
	s, at := p.settings.Load(), p.clock.store(now)
	d := s.deferfailOf(p.store.Standing(at, domain))
	if (d.over() || p.trips.has(domain) && !d.calm()) && p.excuseOutage(ctx, now, domain) {
		d = s.deferfailOf(p.store.Standing(at, domain))
	}
	var err error
	switch tripped := p.trips.has(domain); {
	case !tripped && d.over():
		p.log.Tripped(domain, d.ratio(), p.mainCause(domain))
		if err = p.trips.set(domain, now, d.epoch); err == nil {
			p.shareTrip(ctx, domain)
		}
	case tripped && d.calm() && (d.none() || now.Sub(p.trips.at(domain)) > s.window/60):
		p.log.TripEnded(domain, d.ratio())
		err = p.endTrip(ctx, domain)
	}
	if err != nil {
		return err
	}
	return p.showTrip(domain, d)
}

// showTrip makes or removes max_deferfail_ of a domain.
func (p *Policy) showTrip(domain string, d deferfail) error {
	lock := Lock{LockDeferFail, domain}
	i := slices.IndexFunc(p.locks.Files(domain), func(f LockFile) bool { return f.Lock == lock })
	switch tripped := p.trips.has(domain); {
	case tripped && i < 0:
		return p.locks.Make(lock, d.ratio(), d.epoch)
	case !tripped && i >= 0 && !p.locks.Files(domain)[i].Operator:
		return p.locks.Unmake(lock)
	}
	return nil
}

// excuseOutage leaves out what a domain sent to a destination that fails for
// everybody, and reports whether there was any.
func (p *Policy) excuseOutage(ctx context.Context, now time.Time, domain string) bool {
	to, sends := p.bads.outage(domain, now.Add(-p.settings.Load().window))
	if len(sends) == 0 {
		return false
	}
	reports := make([]ratelimit.Report, len(sends))
	for i, t := range sends {
		reports[i] = ratelimit.Report{Token: t, Told: ratelimit.Excused}
	}
	if err := p.store.Settle(ctx, p.clock.store(now), reports); err != nil {
		p.log.StoreFailed(err)
		return false
	}
	p.log.OutageLeftOut(domain, to, len(sends))
	return true
}

// mainCause is why most of a domain's bad sends are bad.
func (p *Policy) mainCause(domain string) Cause {
	if causes, _ := p.bads.causes(domain); len(causes) > 0 {
		return causes[0].Cause
	}
	return OtherCause
}

// refuseTripped answers for a domain over its percentage: 550, or at the router
// a hold.
func (p *Policy) refuseTripped(q *question) Reply {
	action, text := Reject, textDeferfail
	if q.Stage == StageRoute {
		action, text = Defer, textDeferfailHeld
	}
	p.totals.refused.Add(1)
	if p.silent {
		return Reply{Action: action}
	}
	d := q.deferfailOf(p.store.Standing(q.at, q.who.domain))
	r := Reply{Action: action, Text: fmt.Sprintf(text, q.who.domain, d.ratio()) + fmt.Sprintf(
		" [%d of %d sends in %s deferred or failed, mostly %s; limit %d%% and %d, from %s; sluice on %s]",
		d.bad, d.sent, span(q.window), p.mainCause(q.who.domain), d.percent, d.min, q.deferfailOrigin(q.who), q.Node)}
	p.log.Refused(q.Request, r.Action, r.Text)
	return r
}

// deferfailOrigin is who set the percentage of somebody.
func (s *Settings) deferfailOrigin(who identity) Origin {
	_, origin := inForce(s, who, "deferfail_percent", func(t *Thresholds) *int64 { return t.DeferfailPercent })
	return origin
}

// ignored are the causes that are left out for somebody.
func (s *Settings) ignored(who identity) []Cause {
	causes, _ := inForce(s, who, "deferfail_ignore", func(t *Thresholds) *[]Cause { return t.DeferfailIgnore })
	return causes
}
