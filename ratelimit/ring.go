package ratelimit

import (
	"encoding/binary"
	"slices"
)

// A ring holds the counts of a subject in one window.
type ring struct {
	window  window
	since   int64    // sends dated before, Unix milliseconds, are not counted here; 0: all are
	buckets []bucket // those that are not empty, the oldest first
	total   Counts   // sum of the buckets
	due     int64    // Unix milliseconds: until then prune has nothing to do; 0: not known
}

// fewBuckets is the most buckets of a ring for which prune moves those that remain to
// the front of the slice. With more, it only cuts off the front.
const fewBuckets = 8

// A bucket has the counts of one part of a window.
type bucket struct {
	index int64
	Counts
}

// prune drops the buckets that no longer count at time ms.
func (r *ring) prune(ms int64) {
	if ms < r.due || len(r.buckets) == 0 {
		return
	}
	oldest := r.window.oldest(ms)
	n := 0
	for n < len(r.buckets) && r.buckets[n].index < oldest {
		r.total.sub(r.buckets[n].Counts)
		n++
	}
	if len(r.buckets) > fewBuckets {
		r.buckets = r.buckets[n:] // moving many costs more than new memory now and then
	} else {
		r.buckets = slices.Delete(r.buckets, 0, n)
	}
	if len(r.buckets) > 0 {
		r.due = r.window.leaves(r.buckets[0].index)
	}
}

// counts reports whether a send dated when counts in the ring at time ms.
func (r *ring) counts(when, ms int64) bool {
	return when >= r.since && !r.window.outlived(when, ms)
}

// clear empties a ring.
func (r *ring) clear() { r.buckets, r.total = r.buckets[:0], Counts{} }

func (c *Counts) sum(more Counts) {
	c.Sent += more.Sent
	c.Delivered += more.Delivered
	c.Deferred += more.Deferred
	c.Failed += more.Failed
	c.Excused += more.Excused
}

func (c *Counts) sub(less Counts) {
	c.Sent -= less.Sent
	c.Delivered -= less.Delivered
	c.Deferred -= less.Deferred
	c.Failed -= less.Failed
	c.Excused -= less.Excused
}

// add adds counts, which may be negative, to the bucket of time when.
func (r *ring) add(when int64, more Counts) {
	b := r.at(when)
	r.total.sub(b.Counts)
	b.sum(more)
	b.clamp()
	r.total.sum(b.Counts)
}

// at returns the bucket of time when, and makes it if there is none.
func (r *ring) at(when int64) *bucket {
	index := r.window.index(when)
	i := len(r.buckets)
	for i > 0 && r.buckets[i-1].index > index { // nearly always the last one is right
		i--
	}
	if i > 0 && r.buckets[i-1].index == index {
		return &r.buckets[i-1]
	}
	r.buckets = slices.Insert(r.buckets, i, bucket{index: index})
	r.due = 0
	return &r.buckets[i]
}

// frees is the first time at which at most room sends of a pruned ring count.
func (r *ring) frees(room int64) int64 {
	used := r.total.Sent
	for _, b := range r.buckets {
		if used -= b.Sent; used <= room {
			return r.window.leaves(b.index)
		}
	}
	return 0
}

// pack appends a ring to b in a compact form, because a host with a million active
// domains has a million rings. It is all uvarints: window and since in milliseconds,
// the number of buckets, then for each bucket its index less that of the one before,
// twice its sends plus 1 if other counts follow, and those. Ten buckets with small
// counts take about 30 bytes, with outcomes 70.
func (r *ring) pack(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(r.window.length/1000))
	b = binary.AppendUvarint(b, uint64(r.since))
	b = binary.AppendUvarint(b, uint64(len(r.buckets)))
	last := int64(0)
	for _, k := range r.buckets {
		b = binary.AppendUvarint(b, uint64(k.index-last))
		last = k.index
		if (k.Counts == Counts{Sent: k.Sent}) {
			b = binary.AppendUvarint(b, uint64(k.Sent)<<1)
			continue
		}
		b = binary.AppendUvarint(b, uint64(k.Sent)<<1|1)
		for _, n := range [...]int64{k.Delivered, k.Deferred, k.Failed, k.Excused} {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}

// unpack reads a ring, reusing the memory of r.
func (r *ring) unpack(d *decoder) {
	r.window = windowOf(d.int() * 1000)
	r.since = d.int()
	r.clear()
	r.due = 0
	n := d.len(2)
	last := int64(0)
	for range n {
		last += d.int()
		sent := d.uint()
		b := bucket{last, Counts{Sent: int64(sent >> 1)}}
		if sent&1 != 0 {
			b.Delivered, b.Deferred, b.Failed, b.Excused = d.int(), d.int(), d.int(), d.int()
		}
		r.buckets = append(r.buckets, b)
		r.total.sum(b.Counts)
	}
}
