package storetest

import (
	"maps"
	"slices"
	"time"

	"sluice/ratelimit"
)

// Since when subjects are counted in the windows of their limits.

// begin notes that new subjects are counted in the windows of an accepted Take
// from their first send on.
func (h *history) begin(subjects []ratelimit.Subject) {
	for _, s := range subjects {
		if h.sinces[s.Name] != nil {
			continue
		}
		h.sinces[s.Name] = map[time.Duration]int64{}
		for _, l := range s.Limits {
			h.sinces[s.Name][l.Window] = 0
		}
	}
}

// widen notes since when subjects that were counted before are in windows that
// they gain: as far back as a shorter window can tell, whose buckets lie in those
// of the new one. It tells whether there is none, and a window begins now.
func (h *history) widen(subjects []ratelimit.Subject) (now bool) {
	for _, s := range subjects {
		had := h.sinces[s.Name]
		gained := maps.Clone(had)
		for _, l := range s.Limits {
			if _, counted := had[l.Window]; counted || had == nil {
				continue
			}
			gained[l.Window] = h.last
			if source := h.source(s.Name, l.Window); source > 0 {
				gained[l.Window] = max(had[source], h.reach(source))
			} else {
				now = true
			}
		}
		if had != nil {
			h.sinces[s.Name] = gained
		}
	}
	return now
}

// source is the window that a new one begins with; 0 is none.
func (h *history) source(subject string, window time.Duration) (best time.Duration) {
	for w, since := range h.sinces[subject] {
		if w < window && bucketOf(window)%bucketOf(w) == 0 &&
			(best == 0 || max(since, h.reach(w)) < max(h.sinces[subject][best], h.reach(best))) {
			best = w
		}
	}
	return best
}

// oldest is the first bucket of a window that counts now, and reach the first
// millisecond of which a window has all.
func (h *history) oldest(w time.Duration) int64 {
	return (h.last*1000 - w.Microseconds()) / bucketOf(w)
}
func (h *history) reach(w time.Duration) int64 { return (h.oldest(w)*bucketOf(w) + 999) / 1000 }

// gains is what a window that a subject has not begins with.
func (h *history) gains(subject string, window time.Duration) (n int64) {
	source := h.source(subject, window)
	if source == 0 {
		return 0
	}
	for _, c := range h.log {
		if slices.Contains(c.subjects, subject) && c.when > h.epochs[subject] && c.when >= h.sinces[subject][source] &&
			c.when*1000/bucketOf(source) >= h.oldest(source) {
			n++
		}
	}
	return n
}

// beginsNow tells whether a subject that was counted before gains a window that no
// other one can tell of.
func (h *history) beginsNow(subjects []ratelimit.Subject) bool {
	return slices.ContainsFunc(subjects, func(s ratelimit.Subject) bool {
		return slices.ContainsFunc(s.Limits, func(l ratelimit.Limit) bool {
			_, counted := h.sinces[s.Name][l.Window]
			return !counted && h.sinces[s.Name] != nil && h.source(s.Name, l.Window) == 0
		})
	})
}
