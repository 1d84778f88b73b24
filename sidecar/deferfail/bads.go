package deferfail

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/notes"
)

// maxBad bounds the bad sends of a domain that are told apart. Beyond, they are
// counted in the store all the same, and only not explained.
const maxBad = 4096

// bads explains the bad outcomes that the store counts: why, and where to.
type bads struct {
	notes        notes.Map[domainBad] // by domain
	mu           sync.Mutex
	domains      map[string]*domainBad
	destinations destinations
	saved        time.Time
}

// domainBad is what went wrong for one domain.
type domainBad struct {
	Sends map[ratelimit.Token]badSend `json:"sends"`
	Last  map[sidecar.Cause]string    `json:"last"`            // the last line of each cause
	Epoch int64                       `json:"epoch,omitempty"` // of the counts at its first bad send

	dirty bool // not saved yet
}

type badSend struct {
	When    time.Time     `json:"when"`  // when its message arrived
	Cause   sidecar.Cause `json:"cause"` // of the last outcome
	To      string        `json:"to"`    // domain of the recipient
	Excused bool          `json:"excused,omitempty"`
}

// saveBad is how often explanations are saved: a crash may cost those since.
const saveBad = 10 * time.Second

func newBads(store sidecar.Notes, events event.Sink) *bads {
	b := &bads{notes: notes.New[domainBad](store, "bad", 1, event.Unread(events, event.NoteUnread)), domains: map[string]*domainBad{}, destinations: destinations{}}
	b.notes.Load(func(name []string, noted domainBad) error {
		d := newDomainBad()
		maps.Copy(d.Sends, noted.Sends)
		maps.Copy(d.Last, noted.Last)
		b.domains[name[0]] = d
		return nil
	})
	return b
}

func newDomainBad() *domainBad {
	return &domainBad{Sends: map[ratelimit.Token]badSend{}, Last: map[sidecar.Cause]string{}}
}

// Recorded takes in the new outcomes of sends.
func (d *Breaker) Recorded(now time.Time, news []sidecar.Outcome) {
	d.bads.mu.Lock()
	defer d.bads.mu.Unlock()
	for i := range news {
		o := &news[i]
		d.bads.note(o, func(domain string) int64 { return d.epochOf(now, domain) })
		if o.Kind == ratelimit.Delivered && d.trips.has(o.Payer.Domain) {
			d.reconciler.Look(o.Payer.Domain) // its trip may end
		}
	}
}

// note takes in the new outcome of a send. mu is held.
func (b *bads) note(o *sidecar.Outcome, epoch func(domain string) int64) {
	to := b.destinations.tell(o)
	if o.Charged && o.Kind == ratelimit.Delivered {
		return // of one that is new nothing was bad
	}
	domain := o.Payer.Domain
	d := b.domains[domain]
	if d == nil {
		if o.Kind == ratelimit.Delivered {
			return
		}
		d = newDomainBad()
		d.Epoch = epoch(domain)
		b.domains[domain] = d
	}
	d.tell(o, to)
}

// tell keeps a bad send, to a destination, and forgets one that was delivered
// after all.
func (d *domainBad) tell(o *sidecar.Outcome, to string) {
	if o.Kind == ratelimit.Delivered {
		if n := len(d.Sends); n > 0 {
			delete(d.Sends, o.Token)
			d.dirty = d.dirty || len(d.Sends) != n
		}
		return
	}
	before, known := d.Sends[o.Token]
	cause := o.Cause
	if known && strings.Contains(o.Entry.Text, "retry timeout exceeded") {
		cause = before.Cause // it gave up; why is what kept it waiting
	}
	d.dirty = true
	d.Last[cause] = strings.Clone(o.Entry.Line[:min(len(o.Entry.Line), 500)])
	if known || len(d.Sends) < maxBad {
		d.Sends[o.Token] = badSend{When: o.When, Cause: cause, To: to, Excused: o.Excused}
	}
}

// prune forgets what was sent before a time.
func (d *domainBad) prune(since time.Time) {
	before := len(d.Sends)
	maps.DeleteFunc(d.Sends, func(_ ratelimit.Token, s badSend) bool { return s.When.Before(since) })
	if len(d.Sends) == before {
		return
	}
	used := make(map[sidecar.Cause]bool, 8) // without an allocation
	for _, s := range d.Sends {
		used[s.Cause] = true
	}
	maps.DeleteFunc(d.Last, func(c sidecar.Cause, _ string) bool { return !used[c] })
}

// forget forgets what was bad of a domain under an earlier epoch.
func (b *bads) forget(domain string, epoch int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.domains[domain]; d != nil && d.Epoch < epoch {
		d.Epoch = epoch
		clear(d.Sends)
		clear(d.Last)
		d.dirty = true
	}
}

// prune forgets everywhere what was sent before a time.
func (b *bads) prune(since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.domains {
		if n := len(d.Sends); n > 0 {
			d.prune(since)
			d.dirty = d.dirty || len(d.Sends) != n
		}
	}
	b.destinations.prune(since)
}

// save notes what has changed.
func (b *bads) save(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saved = now
	for domain, d := range b.domains {
		if !d.dirty {
			continue
		}
		if len(d.Sends) == 0 {
			if err := b.notes.Drop(domain); err != nil {
				return err
			}
			delete(b.domains, domain)
			continue
		}
		if err := b.notes.Put(*d, domain); err != nil {
			return err
		}
		d.dirty = false
	}
	return nil
}

// causes lists what went wrong for a domain, the most frequent first, and what
// of it is not held against it.
func (b *bads) causes(domain string) (causes []CauseStatus, leftOut []LeftOut) {
	b.mu.Lock()
	defer b.mu.Unlock()
	causes, leftOut = []CauseStatus{}, []LeftOut{}
	d := b.domains[domain]
	if d == nil {
		return causes, leftOut
	}
	counts, out := map[sidecar.Cause]int64{}, map[LeftOut]int64{}
	for _, s := range d.Sends {
		counts[s.Cause]++
		if s.Excused {
			out[LeftOut{Destination: s.To, Cause: s.Cause}]++
		}
	}
	for cause, n := range counts {
		causes = append(causes, CauseStatus{Cause: cause, Count: n, LastLine: d.Last[cause]})
	}
	for l, n := range out {
		l.Count = n
		leftOut = append(leftOut, l)
	}
	slices.SortFunc(causes, func(a, b CauseStatus) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Cause, b.Cause))
	})
	slices.SortFunc(leftOut, func(a, b LeftOut) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Destination+string(a.Cause), b.Destination+string(b.Cause)))
	})
	return causes, leftOut
}

// A CauseStatus is how often sends were bad for one cause.
type CauseStatus struct {
	Cause    sidecar.Cause `json:"cause"`
	Count    int64         `json:"count"`
	LastLine string        `json:"last_line"` // of the log
}

// LeftOut is bad sends that are not held against a domain: their cause is in
// deferfail_ignore, or their destination fails for everybody.
type LeftOut struct {
	Destination string        `json:"destination"`
	Cause       sidecar.Cause `json:"cause"`
	Count       int64         `json:"count"`
}

// hasBad tells whether anything is held against a subject at all.
func hasBad(s ratelimit.Standing) bool {
	return slices.ContainsFunc(s.Windows, func(w ratelimit.WindowCounts) bool { return w.Bad() > 0 })
}
