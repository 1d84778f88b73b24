package usual

import (
	"iter"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
)

// Hours are what the authors of all domains usually send in an hour. Not more than one
// goroutine may use them at once. Days are numbered from 1970, by the time zone of who asks.
type Hours struct {
	most    int // authors
	domains map[string]*Domain
	changed []*Domain // not saved as they are, the longest first
	authors int
	pruned  uint16 // day
	since   time.Time
}

// A Domain has the hours of the authors of one. Nothing is usual of a nil *Domain.
type Domain struct {
	name    string
	rings   []ring    // by author, sorted
	day     uint16    // to which quotas belongs
	quotas  int64     // the sum
	changed time.Time // since when it is not saved as it is; zero: it is
}

// AuthorSize is how many bytes an author takes, with its key and its part of what is saved.
const AuthorSize = 200

// New returns Hours of at most so many authors.
func New(most int) *Hours { return &Hours{most: most, domains: map[string]*Domain{}} }

// Has reports whether an author has usual hours: not if strangers choose what it sends, or if
// it is everybody.
func Has(author string) bool {
	return author != sidecar.Loopback && !strings.HasPrefix(author, sidecar.ForwardPrefix)
}

// Note takes in that an author of a domain has sent so much in an hour of a day. It counts if
// it is the busiest hour of that day, and then Note reports so.
func (h *Hours) Note(now time.Time, domain, author string, day uint16, sent int64) (busiest bool) {
	d := h.domains[domain]
	if d == nil {
		d = &Domain{name: strings.Clone(domain)}
		h.domains[d.name] = d
	}
	r := d.find(author)
	if r == nil {
		if h.authors >= h.most && !h.prune(day) {
			return false
		}
		i, _ := d.search(author)
		d.rings = slices.Insert(d.rings, i, ring{author: strings.Clone(author), first: day, last: day})
		r = &d.rings[i]
		h.authors++
	}
	if !r.note(day, sent) {
		return false
	}
	if h.since.IsZero() && r.in(week, day) > 0 {
		h.since = now
	}
	h.hasChanged(d, now)
	return true
}

// Forget takes out what an author of a domain has sent on a day: it was not usual.
func (h *Hours) Forget(now time.Time, domain, author string, day uint16) {
	d := h.domains[domain]
	if r := d.find(author); r != nil && r.has(day) {
		r.busiest[day%month] = 0
		h.hasChanged(d, now)
	}
}

func (h *Hours) hasChanged(d *Domain, now time.Time) {
	d.day = 0 // add up anew
	if d.changed.IsZero() {
		d.changed = now
		h.changed = append(h.changed, d)
	}
}

// prune forgets who has sent nothing for a month, at most once a day, and reports whether
// there is room then.
func (h *Hours) prune(day uint16) bool {
	if h.pruned == day {
		return false
	}
	h.pruned = day
	for name, d := range h.domains {
		before := len(d.rings)
		d.rings = slices.DeleteFunc(d.rings, func(r ring) bool { return r.last+month <= day })
		d.day = 0
		h.authors -= before - len(d.rings)
		if len(d.rings) == 0 {
			delete(h.domains, name)
		}
	}
	return h.authors < h.most
}

// Bytes is how many are used, about.
func (h *Hours) Bytes() int64 { return int64(h.authors) * AuthorSize }

// Since is when it was first known what anybody usually sends; zero: it is not yet.
func (h *Hours) Since() time.Time { return h.since }

// Of returns those of a domain; nil: nothing is known of it.
func (h *Hours) Of(domain string) *Domain { return h.domains[domain] }

// Quota is for how many sends an hour the others of its domain leave room for an author, on a
// day.
func (d *Domain) Quota(author string, day uint16) int64 {
	if r := d.find(author); r != nil {
		return r.quota(day)
	}
	return 0
}

// OthersQuota is for how many sends an hour an author leaves room in all.
func (d *Domain) OthersQuota(author string, day uint16) int64 {
	if d == nil {
		return 0
	}
	if d.day != day {
		d.day, d.quotas = day, 0
		for i := range d.rings {
			d.quotas += d.rings[i].quota(day)
		}
	}
	return d.quotas - d.Quota(author, day)
}

// Free is how many sends an hour an author may make without leaving room for others, where
// the limit of its domain is max: a half more than is usual, or a twentieth of max. An author
// that is new today may make none. A script has no twentieth: it may have as many directories
// as it likes, and would send one from each a day before.
func (d *Domain) Free(author string, day uint16, max int64) int64 {
	if strings.HasPrefix(author, sidecar.ScriptPrefix) {
		max = 0
	}
	return d.find(author).free(day, max)
}

// Usual is what an author sends in its busiest hours, within a month; 0 if that is not known.
func (d *Domain) Usual(author string, day uint16) int64 {
	if r := d.find(author); r != nil {
		return r.apart(month, day)
	}
	return 0
}

// Known reports whether anybody of the domain has sent on an earlier day.
func (d *Domain) Known(day uint16) bool {
	return d != nil && slices.ContainsFunc(d.rings, func(r ring) bool { return r.first < day })
}

// First is the day of an author's first send; false if it has none that is remembered.
func (d *Domain) First(author string) (day uint16, known bool) {
	r := d.find(author)
	if r == nil {
		return 0, false
	}
	return r.first, true
}

// Authors are those of whom anything is known.
func (d *Domain) Authors() iter.Seq[string] {
	return func(yield func(string) bool) {
		if d == nil {
			return
		}
		for i := range d.rings {
			if !yield(d.rings[i].author) {
				return
			}
		}
	}
}

// find returns the ring of an author, or nil.
func (d *Domain) find(author string) *ring {
	if i, known := d.search(author); known {
		return &d.rings[i]
	}
	return nil
}

func (d *Domain) search(author string) (i int, known bool) {
	if d == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(d.rings, author, func(r ring, key string) int { return strings.Compare(r.author, key) })
}
