package ratelimit

// openPlaces is how many subjects can be unpacked at a time.
const openPlaces = 4096

// An openSubject has the unpacked rings of a subject that was used recently. Most
// decisions are about the few who send much, and unpacking and packing their buckets
// each time would take longer than all the rest.
type openSubject struct {
	*subject // nil: this place is free
	rings    []ring
	changed  bool // rings differ from subject.rings
}

// open returns the unpacked rings of a subject, pruned at a time in Unix
// milliseconds. They are valid until the next call.
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

// setRings puts back the rings that open returned, after a change.
func (t *subjects) setRings(id uint32, rings []ring) {
	o := &t.opened[id%openPlaces]
	o.rings, o.changed = rings, true
}

// packedRings returns the rings of a subject in packed form.
func (t *subjects) packedRings(id uint32) []byte {
	o, s := &t.opened[id%openPlaces], t.get(id)
	if o.subject == s {
		t.close(o)
	}
	return s.rings
}

// close packs the rings of an openSubject, if they were changed.
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

// discard frees the openSubject of a subject that is being dropped.
func (t *subjects) discard(id uint32) {
	if o := &t.opened[id%openPlaces]; o.subject == t.get(id) {
		o.subject, o.changed = nil, false
	}
}

// unpack reads the rings of a subject, reusing the memory of those before.
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
