package ratelimit

// ringsAfter returns the rings of a subject, packed, with only what was sent after a
// time. That time lies within a bucket of each ring, which is counted again from the
// records of the sends. If sends of that time are no longer kept, the bucket stays
// whole.
func (l *Ledger) ringsAfter(id uint32, at int64) []byte {
	var o openSubject
	o.unpack(&subject{rings: l.subjects.packedRings(id)})
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
		if len(r.buckets) > 0 && r.buckets[0].index == first && at >= max(l.last-l.keep, l.completeSince) {
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

// recountAfter counts those sends of a subject after a time that belong to the first
// buckets of rings.
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
