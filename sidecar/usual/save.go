package usual

import (
	"cmp"
	"slices"
	"time"
)

// A Saved is what is saved of a domain.
type Saved struct {
	Authors []savedRing `json:"authors"`
}

type savedRing struct {
	Key     string `json:"key"`
	First   uint16 `json:"first"` // as in ring
	Last    uint16 `json:"last"`
	Busiest []byte `json:"busiest"` // of the days up to Last, the newest first
}

// Next returns the next domain to save that has changed until a time, "" if there is none.
// Without authors there is nothing left of it.
func (h *Hours) Next(until time.Time) (domain string, s Saved) {
	if len(h.changed) == 0 || h.changed[0].changed.After(until) {
		return "", s
	}
	d := h.changed[0]
	h.changed[0] = nil
	h.changed, d.changed = h.changed[1:], time.Time{}
	return d.name, d.saved()
}

// All returns what is known of all domains.
func (h *Hours) All() map[string]Saved {
	all := map[string]Saved{}
	for name, d := range h.domains {
		all[name] = d.saved()
	}
	return all
}

// Learn adds what was found of a domain elsewhere, but for days of authors of which not is
// true. It lowers nothing that is known already. It returns of how many authors, and days of
// them, something is known now that was not.
func (h *Hours) Learn(now time.Time, domain string, s Saved, not func(author string, day uint16) bool) (authors, days int) {
	for _, a := range s.Authors {
		before := days
		for i, b := range a.Busiest[:min(len(a.Busiest), month, int(a.Last))] {
			if day := a.Last - uint16(i); b > 0 && !not(a.Key, day) && h.Note(now, domain, a.Key, day, unpack(b)) {
				days++
			}
		}
		if r := h.domains[domain].find(a.Key); r != nil && a.First < r.first {
			r.first = a.First
			h.hasChanged(h.domains[domain], now)
		}
		if days > before {
			authors++
		}
	}
	return authors, days
}

func (d *Domain) saved() (s Saved) {
	for i := range d.rings {
		s.Authors = append(s.Authors, d.rings[i].saved())
	}
	return s
}

func (r *ring) saved() savedRing {
	s := savedRing{Key: r.author, First: r.first, Last: r.last}
	for d := range uint16(month) {
		s.Busiest = append(s.Busiest, r.busiest[(r.last-d)%month])
	}
	for len(s.Busiest) > 0 && s.Busiest[len(s.Busiest)-1] == 0 {
		s.Busiest = s.Busiest[:len(s.Busiest)-1]
	}
	return s
}

// Restore goes on from what was saved of a domain.
func (h *Hours) Restore(domain string, s Saved) {
	d := &Domain{name: domain}
	for _, saved := range s.Authors {
		r := ring{author: saved.Key, first: saved.First, last: saved.Last}
		for i, b := range saved.Busiest[:min(len(saved.Busiest), month, int(saved.Last))] {
			r.busiest[(r.last-uint16(i))%month] = b
		}
		d.rings = append(d.rings, r)
	}
	slices.SortFunc(d.rings, func(a, b ring) int { return cmp.Compare(a.author, b.author) })
	h.domains[domain] = d
	h.authors += len(d.rings)
}
