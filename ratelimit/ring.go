package ratelimit

import (
	"encoding/binary"
	"slices"
)

// A ring holds the counts of one window of one subject: its buckets that are
// not empty, the oldest first.
type ring struct {
	window  window
	since   int64 // sends dated before are not counted here; 0: all are
	buckets []bucket
	total   Counts // of the buckets
	due     int64  // until then, Unix milliseconds, the first bucket counts; 0: not known
}

// fewBuckets are quickly moved.
const fewBuckets = 8

// A bucket is the counts of one slice of time.
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
		r.buckets = r.buckets[n:] // to move the rest costs more than to make room now and then
	} else {
		r.buckets = slices.Delete(r.buckets, 0, n)
	}
	if len(r.buckets) > 0 {
		r.due = r.window.leaves(r.buckets[0].index)
	}
}

// counts reports whether a send dated when counts here at time ms.
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

// add counts more, of which some may be negative, in the bucket of time when.
func (r *ring) add(when int64, more Counts) {
	b := r.at(when)
	r.total.sub(b.Counts)
	b.sum(more)
	b.clamp()
	r.total.sum(b.Counts)
}

// at returns the bucket of time when, made if there is none.
func (r *ring) at(when int64) *bucket {
	index := r.window.index(when)
	i := len(r.buckets)
	for i > 0 && r.buckets[i-1].index > index { // nearly always it is the last
		i--
	}
	if i > 0 && r.buckets[i-1].index == index {
		return &r.buckets[i-1]
	}
	r.buckets = slices.Insert(r.buckets, i, bucket{index: index})
	r.due = 0
	return &r.buckets[i]
}

// frees is the first time at which a pruned ring holds at most room sends.
func (r *ring) frees(room int64) int64 {
	used := r.total.Sent
	for _, b := range r.buckets {
		if used -= b.Sent; used <= room {
			return r.window.leaves(b.index)
		}
	}
	return 0
}

// A ring is kept packed, because a host with a million active domains keeps
// a million of them: window and since in milliseconds, the number of buckets,
// then for each bucket its index less the one before, twice its sends, one more
// if its other counts follow, and those; all as uvarints. Ten buckets of small
// counts take some 30 bytes, and 70 with outcomes.
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

// unpack reads one ring from a decoder, reusing the space of r.
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
