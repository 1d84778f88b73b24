package ratelimit

// openPlaces is how many subjects have their rings open.
const openPlaces = 4096

// An openSubject is the rings of a subject in recent use, unpacked: most questions
// are about the few who send, and to unpack and pack an hour of buckets for each
// of them would take longer than all else.
type openSubject struct {
	*subject // nil if none is open here
	rings    []ring
	changed  bool // since they were packed
}

// open returns the rings of a subject, pruned at a time. They are good until the
// next call.
func (t *subjects) open(id uint32, at int64) []ring {
	o, s := &t.opened[id%openPlaces], t.get(id)
	if o.subject != s {
		t.close(o)
		o.unpack(s)
	}
	for i := range o.rings {
		o.rings[i].prune(at)
	}
	return o.rings
}

// change puts back what open returned, changed.
func (t *subjects) change(id uint32, rings []ring) {
	o := &t.opened[id%openPlaces]
	o.rings, o.changed = rings, true
}

// packed are the rings of a subject, packed.
func (t *subjects) packed(id uint32) []byte {
	o, s := &t.opened[id%openPlaces], t.get(id)
	if o.subject == s {
		t.close(o)
	}
	return s.rings
}

// close packs the rings that are open in a place, if they were changed.
func (t *subjects) close(o *openSubject) {
	if !o.changed {
		return
	}
	t.packing = t.packing[:0]
	for i := range o.rings {
		t.packing = o.rings[i].pack(t.packing)
	}
	if n := len(t.packing); n > cap(o.subject.rings) || cap(o.subject.rings) > 2*n+64 {
		o.subject.rings = nil
	}
	o.subject.rings = append(o.subject.rings[:0], t.packing...)
	o.changed = false
}

// forget closes a subject that is dropped.
func (t *subjects) forget(id uint32) {
	if o := &t.opened[id%openPlaces]; o.subject == t.get(id) {
		o.subject, o.changed = nil, false
	}
}

// unpack opens a subject, in the space of the one before.
func (o *openSubject) unpack(s *subject) {
	o.subject, o.rings = s, o.rings[:0]
	for d := (decoder{b: s.rings}); len(d.b) > 0; {
		n := len(o.rings)
		if n == cap(o.rings) {
			o.rings = append(o.rings, ring{})
		}
		o.rings = o.rings[:n+1]
		o.rings[n].unpack(&d)
	}
}
