package storetest

import (
	"maps"
	"slices"
	"time"

	"sluice/ratelimit"
)

// startCounting sets since when new subjects are counted in the windows of an accepted
// Take: since their first send.
func (h *history) startCounting(subjects []ratelimit.Subject) {
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

// addWindows sets since when subjects that were counted before are counted in new
// windows: for as long as the shorter window whose counts it starts with. It reports
// whether a window starts empty, now.
func (h *history) addWindows(subjects []ratelimit.Subject) (now bool) {
	for _, s := range subjects {
		had := h.sinces[s.Name]
		gained := maps.Clone(had)
		for _, l := range s.Limits {
			if _, counted := had[l.Window]; counted || had == nil {
				continue
			}
			gained[l.Window] = h.last
			if source := h.source(s.Name, l.Window); source > 0 {
				gained[l.Window] = max(had[source], h.start(source))
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

// source is the shorter window with whose counts a new one starts; 0: none.
func (h *history) source(subject string, window time.Duration) (best time.Duration) {
	for w, since := range h.sinces[subject] {
		if w < window && bucketOf(window)%bucketOf(w) == 0 &&
			(best == 0 || max(since, h.start(w)) < max(h.sinces[subject][best], h.start(best))) {
			best = w
		}
	}
	return best
}

// oldest is the first bucket of a window that counts now, and start the time since
// which a window has all sends.
func (h *history) oldest(w time.Duration) int64 {
	return (h.last*1000 - w.Microseconds()) / bucketOf(w)
}
func (h *history) start(w time.Duration) int64 { return (h.oldest(w)*bucketOf(w) + 999) / 1000 }

// seedOf is the count that a new window starts with.
func (h *history) seedOf(subject string, window time.Duration) (n int64) {
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

// startsEmpty reports whether a subject that was counted before gets a window that
// starts empty.
func (h *history) startsEmpty(subjects []ratelimit.Subject) bool {
	return slices.ContainsFunc(subjects, func(s ratelimit.Subject) bool {
		return slices.ContainsFunc(s.Limits, func(l ratelimit.Limit) bool {
			_, counted := h.sinces[s.Name][l.Window]
			return !counted && h.sinces[s.Name] != nil && h.source(s.Name, l.Window) == 0
		})
	})
}
