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

// maxBad bounds the bad sends of a domain whose cause is kept. More are counted in the
// store all the same.
const maxBad = 4096

// bads keeps the cause and the destination of the bad sends that the store counts.
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

	dirty bool // not saved as it is now
}

// badSend is a send that was deferred or has failed.
type badSend struct {
	When    time.Time     `json:"when"`  // when its message arrived
	Cause   sidecar.Cause `json:"cause"` // of the last outcome
	To      string        `json:"to"`    // domain of the recipient
	Excused bool          `json:"excused,omitempty"`
}

// saveEvery is how often bads are saved. A crash may lose those recorded since the last
// time: their causes, not their number, which the store keeps.
const saveEvery = 10 * time.Second

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

// Recorded implements delivery.Observer: it takes in new outcomes of sends.
func (d *Breaker) Recorded(now time.Time, news []sidecar.Outcome) {
	d.bads.mu.Lock()
	defer d.bads.mu.Unlock()
	for i := range news {
		o := &news[i]
		d.bads.note(o, func(domain string) int64 { return d.epochOf(now, domain) })
		if o.Result == ratelimit.Delivered && d.trips.has(o.Payer.Subject()) {
			d.reconciler.ReconcileSoon(o.Payer.Subject()) // its trip may end
		}
	}
}

// note takes in the new outcome of a send. mu is held.
func (b *bads) note(o *sidecar.Outcome, epoch func(domain string) int64) {
	to := b.destinations.observe(o)
	if o.Charged && o.Result == ratelimit.Delivered {
		return // this is its first outcome, so it was never bad
	}
	domain := o.Payer.Subject()
	d := b.domains[domain]
	if d == nil {
		if o.Result == ratelimit.Delivered {
			return
		}
		d = newDomainBad()
		d.Epoch = epoch(domain)
		b.domains[domain] = d
	}
	d.observe(o, to)
}

// observe keeps a bad send, with its destination, and forgets one that was delivered in
// the end.
func (d *domainBad) observe(o *sidecar.Outcome, to string) {
	if o.Result == ratelimit.Delivered {
		if n := len(d.Sends); n > 0 {
			delete(d.Sends, o.Token)
			d.dirty = d.dirty || len(d.Sends) != n
		}
		return
	}
	before, known := d.Sends[o.Token]
	cause := o.Cause
	if known && strings.Contains(o.Entry.Text, "retry timeout exceeded") {
		cause = before.Cause // Exim gave up, for the reason of the earlier attempts
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

// forget forgets the bad sends of a domain from before a reset, with which epoch began.
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

// causes returns why sends of a domain were bad, the most frequent cause first, and which
// of them do not count towards a trip.
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

// A CauseStatus is how many sends of a domain were bad for one cause.
type CauseStatus struct {
	Cause    sidecar.Cause `json:"cause"`
	Count    int64         `json:"count"`
	LastLine string        `json:"last_line"` // of the log
}

// LeftOut are bad sends that do not count towards a trip: their cause is in
// deferfail_ignore, or their destination fails for everybody.
type LeftOut struct {
	Destination string        `json:"destination"`
	Cause       sidecar.Cause `json:"cause"`
	Count       int64         `json:"count"`
}

// hasBad reports whether anything at all counts towards a trip.
func hasBad(s ratelimit.Standing) bool {
	return slices.ContainsFunc(s.Windows, func(w ratelimit.WindowCounts) bool { return w.Bad() > 0 })
}
