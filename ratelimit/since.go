package ratelimit

// A reset as of some time ago cuts a bucket of each window in two. What of it was
// sent afterwards only the records of the sends tell.

// sentAfter are the rings of a subject with what was sent after a time, packed.
// Where sends of that time are no longer kept, the bucket that it falls into stays
// whole.
func (l *Ledger) sentAfter(id uint32, at int64) []byte {
	var o openSubject
	o.unpack(&subject{rings: l.subjects.packed(id)})
	var cut []*ring
	for i := range o.rings {
		r := &o.rings[i]
		r.prune(l.last)
		first := r.window.index(at)
		old := r.buckets
		r.clear()
		for _, b := range old {
			if b.index >= first {
				r.buckets = append(r.buckets, b)
				r.total.sum(b.Counts)
			}
		}
		if len(r.buckets) > 0 && r.buckets[0].index == first && at >= max(l.last-l.keep, l.complete) {
			r.total.sub(r.buckets[0].Counts)
			r.buckets[0].Counts = Counts{}
			cut = append(cut, r)
		}
	}
	if len(cut) > 0 {
		l.recountAfter(id, at, cut)
	}
	b := []byte{}
	for i := range o.rings {
		b = o.rings[i].pack(b)
	}
	return b
}

// recountAfter counts those sends of a subject after a time that fall into the
// first buckets of rings.
func (l *Ledger) recountAfter(id uint32, at int64, rings []*ring) {
	for i := range l.sends {
		for _, x := range l.sends[i].slots {
			if x.token == 0 {
				continue
			}
			date := x.date(l.last)
			if date <= at || !l.groups.has(x.payers, id) {
				continue
			}
			one := Counts{Sent: 1}
			one.add(x.payers.outcome(), 1)
			for _, r := range rings {
				if date >= r.since && r.window.index(date) == r.buckets[0].index {
					r.add(date, one)
				}
			}
		}
	}
}
