package ratelimit

import (
	"encoding/binary"
	"slices"
	"time"
)

// A subject that is counted can gain a window: a limit of a day is set where
// there was one of an hour. The new window does not begin at zero, but with what a
// shorter one has: what was sent in the last hour was sent in the last day too.
// What was sent before that is not known, for to count each subject in windows
// that nothing limits would cost several times the memory.

// lacks tells whether a subject with these rings is not counted in a window.
func lacks(rings []ring, w window) bool { return len(rings) > 0 && find(rings, w) == nil }

// nests tells whether each bucket of a window lies in one of a longer one.
func (w window) nests(in window) bool { return w.length <= in.length && in.bucket%w.bucket == 0 }

// Nests tells whether a subject that is counted in a window begins a longer one
// with that.
func Nests(window, in time.Duration) bool { return newWindow(window).nests(newWindow(in)) }

// starts is the first time of which a pruned ring has all that counts, if it was
// there long enough.
func (w window) starts(ms int64) int64 { return (w.oldest(ms)*w.bucket + 999) / 1000 }

// sown is a ring of another window with what these have, as far back as one of
// them reaches; false where none can tell, and it begins at zero.
func sown(rings []ring, w window, at int64) (r ring, ok bool) {
	r = ring{window: w, since: at}
	for i := range rings {
		from := &rings[i]
		if !from.window.nests(w) {
			continue
		}
		if since := max(from.since, from.window.starts(at)); !ok || since < r.since {
			r.since, r.buckets, r.total, ok = since, from.coarser(w), from.total, true
		}
	}
	return r, ok
}

// coarser are the buckets of a ring as those of a longer window.
func (r *ring) coarser(w window) (all []bucket) {
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

// widen gives subjects that are counted the windows of their limits in which they
// were not. Where one of them begins at zero, the clock goes on first, for sends
// of this millisecond are not in it.
func (l *Ledger) widen(subjects []Subject) {
	gains := make([]widening, 0, len(subjects))
	for _, sub := range subjects {
		id, s := l.subjects.named(sub.Name)
		if s == nil || slices.ContainsFunc(gains, func(c widening) bool { return c.id == id }) {
			continue
		}
		rings := l.subjects.open(id, l.last)
		c := widening{id: id}
		for _, limit := range sub.Limits {
			w := newWindow(limit.Window)
			if !lacks(rings, w) || slices.Contains(c.windows, w) {
				continue
			}
			c.windows = append(c.windows, w)
			if _, ok := sown(rings, w, l.last); !ok {
				c.at = 1
			}
		}
		if len(c.windows) > 0 {
			gains = append(gains, c)
		}
	}
	if slices.ContainsFunc(gains, func(c widening) bool { return c.at > 0 }) {
		l.last++
	}
	for i := range gains {
		gains[i].at = l.last
		l.do(&gains[i])
	}
}

// A widening gives a subject windows in which it was not counted.
type widening struct {
	id      uint32
	at      int64
	windows []window
}

func (c *widening) apply(l *Ledger) {
	l.advance(c.at)
	if l.written(c.id) == nil {
		return
	}
	rings := l.subjects.open(c.id, c.at)
	n := len(rings)
	for _, w := range c.windows {
		r, _ := sown(rings[:n], w, c.at)
		rings = append(rings, r)
	}
	l.subjects.change(c.id, rings)
}

func (c *widening) encode(b []byte) []byte {
	b = binary.AppendUvarint(append(b, kindWiden), uint64(c.id))
	b = binary.AppendUvarint(b, uint64(c.at))
	b = binary.AppendUvarint(b, uint64(len(c.windows)))
	for _, w := range c.windows {
		b = binary.AppendUvarint(b, uint64(w.length/1000))
	}
	return b
}

func decodeWidening(d *decoder) *widening {
	c := &widening{id: uint32(d.uint()), at: d.int()}
	for range d.len(1) {
		c.windows = append(c.windows, newWindow(time.Duration(d.int())*time.Millisecond))
	}
	return c
}
