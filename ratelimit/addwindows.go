package ratelimit

import (
	"encoding/binary"
	"slices"
	"time"
)

// A subject that is counted can get another window: an operator sets a daily limit
// where there was an hourly one. The new window starts with the counts of a shorter
// one, for what was sent in the last hour was sent in the last day too. What was sent
// before that is not known: counting every subject in windows without a limit would
// take several times the memory.

// needsWindow reports whether a subject that has rings has none for a window.
func needsWindow(rings []ring, w window) bool { return len(rings) > 0 && ringOf(rings, w) == nil }

// nests reports whether each bucket of w lies within one bucket of a longer window.
func (w window) nests(in window) bool { return w.length <= in.length && in.bucket%w.bucket == 0 }

// Nests reports whether a longer window, when it is added, starts with the counts of
// this one.
func Nests(window, in time.Duration) bool { return newWindow(window).nests(newWindow(in)) }

// start is the time, in Unix milliseconds, since which a ring that was pruned at time ms
// has all sends, provided that the ring has been counted for that long.
func (w window) start(ms int64) int64 { return (w.oldest(ms)*w.bucket + 999) / 1000 }

// seedFrom makes the ring of a new, longer window. It starts with the counts of the
// shorter window that reaches back furthest. If no shorter window nests in it, ok is
// false and the ring is empty.
func seedFrom(rings []ring, w window, at int64) (r ring, ok bool) {
	r = ring{window: w, since: at}
	for i := range rings {
		from := &rings[i]
		if !from.window.nests(w) {
			continue
		}
		if since := max(from.since, from.window.start(at)); !ok || since < r.since {
			r.since, r.buckets, r.total, ok = since, from.coarsen(w), from.total, true
		}
	}
	return r, ok
}

// coarsen returns the buckets of a ring, summed up to those of a longer window.
func (r *ring) coarsen(w window) (all []bucket) {
	for _, b := range r.buckets {
		index := b.index * r.window.bucket / w.bucket
		if n := len(all); n > 0 && all[n-1].index == index {
			all[n-1].Counts.sum(b.Counts)
		} else {
			all = append(all, bucket{index, b.Counts})
		}
	}
	return all
}

// addWindows makes subjects that are counted already be counted in all windows of their
// limits. If a new window starts empty, the clock is moved on by a millisecond first,
// because sends made earlier in this millisecond are not in that window.
func (l *Ledger) addWindows(subjects []Subject) {
	added := make([]windowAddition, 0, len(subjects))
	for _, sub := range subjects {
		id, s := l.subjects.byName(sub.Name)
		if s == nil || slices.ContainsFunc(added, func(c windowAddition) bool { return c.id == id }) {
			continue
		}
		rings := l.subjects.open(id, l.last)
		c := windowAddition{id: id}
		for _, limit := range sub.Limits {
			w := newWindow(limit.Window)
			if !needsWindow(rings, w) || slices.Contains(c.windows, w) {
				continue
			}
			c.windows = append(c.windows, w)
			if _, ok := seedFrom(rings, w, l.last); !ok {
				c.at = 1 // marks that the clock must be moved on
			}
		}
		if len(c.windows) > 0 {
			added = append(added, c)
		}
	}
	if slices.ContainsFunc(added, func(c windowAddition) bool { return c.at > 0 }) {
		l.last++
	}
	for i := range added {
		added[i].at = l.last
		l.do(&added[i])
	}
}

// A windowAddition adds windows to a subject.
type windowAddition struct {
	id      uint32
	at      int64
	windows []window
}

func (c *windowAddition) apply(l *Ledger) {
	l.advance(c.at)
	if l.subjectToChange(c.id) == nil {
		return
	}
	rings := l.subjects.open(c.id, c.at)
	n := len(rings)
	for _, w := range c.windows {
		r, _ := seedFrom(rings[:n], w, c.at)
		rings = append(rings, r)
	}
	l.subjects.setRings(c.id, rings)
}

func (c *windowAddition) encode(b []byte) []byte {
	b = binary.AppendUvarint(append(b, kindWindows), uint64(c.id))
	b = binary.AppendUvarint(b, uint64(c.at))
	b = binary.AppendUvarint(b, uint64(len(c.windows)))
	for _, w := range c.windows {
		b = binary.AppendUvarint(b, uint64(w.length/1000))
	}
	return b
}

func decodeWindowAddition(d *decoder) *windowAddition {
	c := &windowAddition{id: uint32(d.uint()), at: d.int()}
	for range d.len(1) {
		c.windows = append(c.windows, newWindow(time.Duration(d.int())*time.Millisecond))
	}
	return c
}
