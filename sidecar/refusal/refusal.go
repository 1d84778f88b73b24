package refusal

import (
	"context"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/notes"
)

// A Watch is what watched limits of a subject would have refused since they are watched, or
// since it was reset: each send once, however often its client asked. All of it passed.
type Watch struct {
	Sends int64      `json:"would_refuse"`
	First *time.Time `json:"would_refuse_first"` // null: nothing
	Last  *time.Time `json:"would_refuse_last"`

	Trips    int64      `json:"would_trip_times"` // how often its defers and failures would have tripped it
	LastTrip *time.Time `json:"would_trip_last"`  // null: never
}

// Any reports whether anything would have been refused or tripped.
func (w *Watch) Any() bool { return w.Sends > 0 || w.Trips > 0 }

// Counts are the counts of all subjects of this node.
type Counts struct {
	Options
	notes notes.Map[count]

	mu    sync.Mutex
	all   map[string]*count // by subject
	marks int               // in all of them
}

// count is what is counted of one subject.
type count struct {
	Watch
	Epoch   int64 `json:"epoch,omitempty"`   // when the subject was last reset, as in sidecar.Reset
	Blocked int64 `json:"blocked,omitempty"` // distinct sends refused while all of its mail is

	seen    map[ratelimit.Token]bool // of Blocked; those of before a restart are not known
	changed bool                     // since it was saved
}

// empty reports whether nothing is counted. Such a count is kept only until its note is dropped.
func (one *count) empty() bool { return !one.Any() && one.Blocked == 0 }

// Options are what Counts are made with; all are needed.
type Options struct {
	Notes     notes.Store
	Events    event.Sink
	IsWatched func(subject string) bool
	IsBlocked func(now time.Time, domain string) bool
}

// These bound the memory. What is beyond is not counted here; the totals of all subjects
// have it.
const (
	maxSubjects = 100_000
	maxSeen     = 4096    // of one domain, as many refused sends as of a limit
	maxAllSeen  = 1 << 18 // of all domains
)

// New returns Counts that go on from their notes.
func New(o Options) *Counts {
	c := &Counts{Options: o, notes: notes.New[count](o.Notes, "refused", 1, event.Unread(o.Events, event.NoteUnread)), all: map[string]*count{}}
	c.notes.Load(func(name []string, noted count) error {
		c.all[name[0]] = &noted
		return nil
	})
	return c
}

// of returns the count of a subject; nil if there is no room for another one. mu is held.
func (c *Counts) of(subject string) *count {
	one := c.all[subject]
	if one == nil && len(c.all) < maxSubjects {
		one = &count{}
		c.all[strings.Clone(subject)] = one // or the whole request stays in memory
	}
	return one
}

// WouldTrip counts a trip by defers and failures that blocked nothing because limits are watched.
func (c *Counts) WouldTrip(now time.Time, subject string, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.of(subject); one != nil {
		one.Trips, one.LastTrip, one.Epoch, one.changed = one.Trips+1, new(now), epoch, true
	}
}

// WouldRefuse counts sends that passed only because a limit is watched.
func (c *Counts) WouldRefuse(now time.Time, subject string, sends, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.of(subject)
	if one == nil {
		return
	}
	if one.Sends == 0 {
		one.First = new(now)
	}
	one.Sends, one.Last, one.Epoch, one.changed = one.Sends+sends, new(now), epoch, true
}

// Refused counts sends, by their marks, that were refused because a domain is blocked.
func (c *Counts) Refused(domain string, marks []ratelimit.Token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.of(domain)
	if one == nil {
		return
	}
	for _, mark := range marks {
		if one.seen[mark] || len(one.seen) == maxSeen || c.marks == maxAllSeen {
			continue
		}
		if one.seen == nil {
			one.seen = map[ratelimit.Token]bool{}
		}
		one.seen[mark] = true
		c.marks++
		one.Blocked, one.changed = one.Blocked+1, true
	}
	if one.empty() && !one.changed { // there was nothing to count, or no room for it
		delete(c.all, domain)
	}
}

// Of returns what is counted of a subject. blocked is of a domain that is blocked now.
func (c *Counts) Of(now time.Time, subject string) (watch Watch, blocked int64) {
	watched, stopped := c.IsWatched(subject), c.IsBlocked(now, subject)
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.all[subject]; one != nil && watched {
		watch = one.Watch
	}
	if one := c.all[subject]; one != nil && stopped {
		blocked = one.Blocked
	}
	return watch, blocked
}

// Subjects returns those of which something is counted.
func (c *Counts) Subjects() []string {
	return c.find(func(one *count) bool { return !one.empty() })
}

// Tick ends the counts of domains that are blocked no more, and saves what has changed.
func (c *Counts) Tick(_ context.Context, now time.Time) {
	for _, subject := range c.find(func(one *count) bool { return one.Blocked > 0 }) {
		if !c.IsBlocked(now, subject) {
			c.end(subject, false, true)
		}
	}
	for _, subject := range c.find(func(one *count) bool { return one.changed }) {
		c.save(subject)
	}
}

// find returns the subjects for whose counts f is true.
func (c *Counts) find(f func(*count) bool) (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for subject, one := range c.all {
		if f(one) {
			all = append(all, subject)
		}
	}
	return all
}

// save notes what is counted of a subject, and forgets a subject of which nothing is.
func (c *Counts) save(subject string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.all[subject]
	if one == nil {
		return
	}
	var err error
	if one.empty() {
		if err = c.notes.Drop(subject); err == nil {
			delete(c.all, subject)
		}
	} else if err = c.notes.Put(*one, subject); err == nil {
		one.changed = false
	}
	event.EmitError(c.Events, event.StoreFailed, err) // what has changed is tried again
}

// Survey ends the counts of those whose limits are no longer only watched.
func (c *Counts) Survey(time.Time) (each func(ratelimit.Standing), done func()) {
	return func(ratelimit.Standing) {}, func() {
		for _, subject := range c.find(func(one *count) bool { return one.Any() }) {
			if !c.IsWatched(subject) {
				c.end(subject, true, false)
			}
		}
	}
}

// Reset starts a subject at zero, unless that was done before.
func (c *Counts) Reset(_ context.Context, _ time.Time, r sidecar.Reset) error {
	c.mu.Lock()
	one := c.all[r.Subject]
	before := one != nil && one.Epoch < r.Epoch
	c.mu.Unlock()
	c.end(r.Subject, before, !r.Elsewhere)
	return nil
}

// end ends counts of a subject.
func (c *Counts) end(subject string, watch, blocked bool) {
	c.mu.Lock()
	one := c.all[subject]
	if one == nil {
		c.mu.Unlock()
		return
	}
	if watch {
		one.Watch, one.changed = Watch{}, true
	}
	if blocked {
		c.marks -= len(one.seen)
		one.Blocked, one.seen, one.changed = 0, nil, true
	}
	c.mu.Unlock()
	c.save(subject)
}
