package ratelimit

import (
	"encoding/binary"
	"fmt"
)

// A snapshot is a list of sections: a head, the groups, each page of subjects and
// each shard of sends. Each is copied at another moment, and has the number of the
// last change before that.
const (
	sectionHead   = 'H'
	sectionGroups = 'G'
	sectionPage   = 'P'
	sectionShard  = 'S'
)

// maxPages is the most that there can be: payers has 28 bits for a subject's number.
const maxPages = 1 << 28 / pageSize

// Snapshot calls write with each section of the state, while the Ledger goes on. The
// section is valid until write returns. To make the same Ledger again, give a new one
// the sections by Restore, then by Replay all changes since the call began.
func (l *Ledger) Snapshot(write func(section []byte) error) error {
	var b []byte
	section := func(encode func(b []byte) []byte) error {
		l.mu.Lock()
		b = encode(b[:0])
		l.mu.Unlock()
		if len(b) == 0 {
			return nil
		}
		return write(b)
	}
	if err := section(l.encodeHead); err != nil {
		return err
	}
	if err := section(l.encodeGroups); err != nil {
		return err
	}
	for i := range l.pageCount() {
		if err := section(func(b []byte) []byte { return l.encodePage(b, i) }); err != nil {
			return err
		}
	}
	for i := range l.sends {
		if err := section(func(b []byte) []byte { return l.encodeShard(b, i) }); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) pageCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.subjects.pages)
}

// beginSection writes the kind of a section, the number of the last change and the
// clock.
func (l *Ledger) beginSection(b []byte, kind byte) []byte {
	b = binary.AppendUvarint(append(b, kind), l.seq)
	return binary.AppendUvarint(b, uint64(l.last))
}

func (l *Ledger) encodeHead(b []byte) []byte {
	b = l.beginSection(b, sectionHead)
	for _, v := range []int64{l.keep, l.completeSince, l.uncounted, int64(len(l.subjects.index))} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	return b
}

func (l *Ledger) encodeGroups(b []byte) []byte {
	b = l.beginSection(b, sectionGroups)
	b = binary.AppendUvarint(b, uint64(len(l.groups.list)))
	for _, g := range l.groups.list {
		b = appendIDs(b, g.members)
	}
	return b
}

func (l *Ledger) encodePage(b []byte, i int) []byte {
	b = l.beginSection(b, sectionPage)
	b = binary.AppendUvarint(b, uint64(i))
	for j := range l.subjects.pages[i].places {
		s := &l.subjects.pages[i].places[j]
		b = binary.AppendUvarint(b, uint64(len(s.name)))
		if s.name == "" {
			continue
		}
		b = append(b, s.name...)
		rings := l.subjects.packedRings(uint32(i*pageSize + j))
		b = append(binary.AppendUvarint(b, uint64(len(rings))), rings...)
		b = binary.AppendUvarint(b, uint64(s.epoch))
		b = binary.AppendUvarint(b, uint64(s.touched))
		b = binary.AppendUvarint(b, uint64(len(s.marks)))
		for m := range s.marks {
			b = binary.LittleEndian.AppendUint64(b, uint64(m))
		}
	}
	return b
}

func (l *Ledger) encodeShard(b []byte, i int) []byte {
	b = l.beginSection(b, sectionShard)
	b = binary.AppendUvarint(b, uint64(i))
	return appendSends(b, l.sends[i].slots)
}

// Restore reads one section of a snapshot. Call it for each of them, then Replay for
// each change, then Ready.
func (l *Ledger) Restore(section []byte) error {
	if len(section) == 0 {
		return errShort
	}
	d := &decoder{b: section[1:]}
	seq := d.uint()
	l.last = max(l.last, d.int())
	l.cleaned = l.last // what is forgotten is not restored
	switch section[0] {
	case sectionHead:
		l.keep, l.completeSince, l.uncounted = d.int(), d.int(), d.int()
		l.subjects.index = make(map[string]uint32, min(d.int(), maxPages*pageSize))
	case sectionGroups:
		for i := range d.len(1) {
			l.groups.place(uint32(i), d.ids())
		}
		l.groups.upTo = seq
	case sectionPage:
		l.restorePage(d, seq)
	case sectionShard:
		l.restoreShard(d, seq)
	default:
		return fmt.Errorf("unknown kind of section %q", section[0])
	}
	l.seq = max(l.seq, seq)
	return d.err
}

func (l *Ledger) restorePage(d *decoder, seq uint64) {
	n := int(d.uint())
	if n > maxPages {
		d.fail()
		return
	}
	l.subjects.growTo(n)
	p := l.subjects.pages[n]
	p.upTo = seq
	for i := range p.places {
		name := string(d.bytes())
		if name == "" {
			continue
		}
		s := subject{name: name, rings: append([]byte(nil), d.bytes()...), epoch: d.int(), touched: d.int()}
		if marks := d.tokens(); len(marks) > 0 {
			s.marks = make(map[Token]struct{}, len(marks))
			for _, m := range marks {
				s.marks[m] = struct{}{}
			}
		}
		l.subjects.place(uint32(n*pageSize+i), s)
	}
}

func (l *Ledger) restoreShard(d *decoder, seq uint64) {
	n := d.uint()
	if n >= sendShards {
		d.fail()
		return
	}
	sends := d.sends()
	sh := &l.sends[n]
	*sh = sendShard{slots: make([]send, (len(sends)+8)*100/65), upTo: seq}
	for _, s := range sends {
		if l.live(s, l.last) && s.token != 0 {
			l.groups.refer(s.payers, 1)
			sh.put(s)
		}
	}
}

// Replay makes a recorded change again, except in those sections that were restored
// with the change in them.
func (l *Ledger) Replay(seq uint64, entry []byte) error {
	c, err := decodeChange(entry)
	if err != nil {
		return fmt.Errorf("replay change %d: %w", seq, err)
	}
	l.seq = seq
	c.apply(l)
	return nil
}

// Ready ends a replay. last is the number of the last recorded change. If
// Options.Keep is longer than it was, it applies from now on.
func (l *Ledger) Ready(last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq = max(l.seq, last)
	for _, p := range l.subjects.pages {
		l.seq = max(l.seq, p.upTo)
	}
	for i := range l.sends {
		l.seq = max(l.seq, l.sends[i].upTo)
	}
	l.groups.sweep()
	if span := newWindow(max(l.options.Keep, MinWindow)).span(); span > l.keep {
		l.do(&keepFor{at: l.last, span: span})
	}
}
