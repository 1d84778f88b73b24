package ratelimit

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// A change is one step of a Ledger. A Ledger is altered by changes only, so that
// replaying them makes the same Ledger again.
//
// A change refers to subjects and groups by number, and what it does to one page or
// shard does not depend on any other: a snapshot copies them one after the other
// while changes go on.
type change interface {
	apply(l *Ledger)
	encode(b []byte) []byte
}

// The first byte of an encoded change. 'n' is reserved for callers that keep other
// things in the same file; package journal has its notes there.
const (
	kindSubject  = 's'
	kindGroup    = 'g'
	kindCharge   = 'c'
	kindUncharge = 'u'
	kindRefusal  = 'r'
	kindForgive  = 'f'
	kindReset    = 'x'
	kindKeep     = 'k'
	kindSettle   = 'o'
	kindWindows  = 'w'
)

func decodeChange(entry []byte) (change, error) {
	if len(entry) == 0 {
		return nil, errShort
	}
	d := &decoder{b: entry[1:]}
	var c change
	switch entry[0] {
	case kindSubject:
		c = &newSubject{id: uint32(d.uint()), at: d.int(), name: string(d.bytes())}
	case kindGroup:
		c = &newGroup{id: uint32(d.uint()), members: d.ids()}
	case kindCharge:
		c = decodeCharge(d)
	case kindUncharge:
		c = decodeUncharge(d)
	case kindRefusal:
		c = &refusal{id: uint32(d.uint()), at: d.int(), marks: d.tokens()}
	case kindForgive:
		c = &forgiveness{id: uint32(d.uint())}
	case kindReset:
		c = decodeReset(d)
	case kindKeep:
		c = &keepFor{at: d.int(), span: d.int()}
	case kindSettle:
		c = decodeSettlement(d)
	case kindWindows:
		c = decodeWindowAddition(d)
	default:
		return nil, fmt.Errorf("unknown kind of entry %q", entry[0])
	}
	return c, d.err
}

// newSubject starts to count a subject.
type newSubject struct {
	id   uint32
	at   int64
	name string
}

func (c *newSubject) apply(l *Ledger) {
	l.subjects.growTo(int(c.id / pageSize))
	if l.seq > l.subjects.page(c.id).upTo {
		l.subjects.place(c.id, subject{name: c.name, touched: c.at})
	}
}

func (c *newSubject) encode(b []byte) []byte {
	b = binary.AppendUvarint(append(b, kindSubject), uint64(c.id))
	b = binary.AppendUvarint(b, uint64(c.at))
	return append(binary.AppendUvarint(b, uint64(len(c.name))), c.name...)
}

// newGroup makes a group of subjects.
type newGroup struct {
	id      uint32
	members []uint32
}

func (c *newGroup) apply(l *Ledger) {
	if l.seq > l.groups.upTo {
		l.groups.place(c.id, c.members)
	}
}

func (c *newGroup) encode(b []byte) []byte {
	return appendIDs(binary.AppendUvarint(append(b, kindGroup), uint64(c.id)), c.members)
}

// charge counts sends for their payers and keeps their records.
type charge struct {
	at, when int64 // the clock, and the date of the sends
	payers   payers
	limits   [][]Limit // of each payer; only the windows matter
	tokens   []Token
}

func (c *charge) apply(l *Ledger) {
	l.advance(c.at)
	i := 0
	l.groups.each(c.payers, func(id uint32) {
		if s := l.subjectToChange(id); s != nil && i < len(c.limits) {
			l.count(id, s, c, c.limits[i])
		}
		i++
	})
	for _, t := range c.tokens {
		l.recordSend(send{t, uint32(c.when), c.payers}, c.at)
	}
}

// subjectToChange returns a subject for a change. It is nil if the page was restored
// with the change already in it, or was lost with a damaged file.
func (l *Ledger) subjectToChange(id uint32) *subject {
	if int(id/pageSize) >= len(l.subjects.pages) || l.seq <= l.subjects.page(id).upTo {
		return nil
	}
	if s := l.subjects.get(id); s.name != "" {
		return s
	}
	return nil
}

// count counts a charge for one of its payers: in all windows that it is counted in, so
// that a limit that is removed and set again has missed nothing.
func (l *Ledger) count(id uint32, s *subject, c *charge, limits []Limit) {
	s.touched = c.at
	n := int64(len(c.tokens))
	more := Counts{Sent: n}
	more.add(c.payers.outcome(), n)
	rings := l.addRings(id, limits, c.at)
	for i := range rings {
		if r := &rings[i]; c.when > s.epoch && r.counts(c.when, c.at) {
			r.add(c.when, more)
		}
	}
}

// addRings returns the rings of a subject, which the caller may change. It first adds
// a ring for each limit whose window has none. That is so for a new subject, and when
// replaying the journal of an old version, which did not record a windowAddition.
func (l *Ledger) addRings(id uint32, limits []Limit, at int64) []ring {
	rings := l.subjects.open(id, at)
	since := at
	if len(rings) == 0 {
		since = 0 // of a new subject everything is counted
	}
	for _, limit := range limits {
		if w := newWindow(limit.Window); ringOf(rings, w) == nil {
			rings = append(rings, ring{window: w, since: since})
		}
	}
	l.subjects.setRings(id, rings)
	return rings
}

func (l *Ledger) recordSend(s send, now int64) {
	if l.seq > l.sends.shard(s.token).upTo {
		l.putSend(s, now)
	}
}

// putSend keeps the record of a send.
func (l *Ledger) putSend(s send, now int64) {
	sh := l.sends.shard(s.token)
	if i := sh.find(s.token); i >= 0 { // a forgotten one, not swept yet
		l.groups.refer(sh.slots[i].payers, -1)
		sh.remove(i)
	}
	if sh.crowded() {
		l.rebuild(sh, now)
	}
	l.groups.refer(s.payers, 1)
	sh.put(s)
}

func (c *charge) encode(b []byte) []byte {
	b = binary.AppendUvarint(append(b, kindCharge), uint64(c.at))
	b = binary.AppendUvarint(b, uint64(c.at-c.when))
	b = binary.AppendUvarint(b, uint64(c.payers))
	return appendTokens(appendLimits(b, c.limits), c.tokens)
}

func decodeCharge(d *decoder) *charge {
	c := &charge{at: d.int()}
	c.when = c.at - d.int()
	c.payers = payers(d.uint())
	c.limits = d.limits()
	c.tokens = d.tokens()
	return c
}

// uncharge takes sends off the counts and forgets them.
type uncharge struct {
	at    int64
	sends []send
}

func (c *uncharge) apply(l *Ledger) {
	l.advance(c.at)
	for _, x := range c.sends {
		l.groups.each(x.payers, func(id uint32) {
			if s := l.subjectToChange(id); s != nil {
				l.uncount(id, s, x, c.at)
			}
		})
		sh := l.sends.shard(x.token)
		if i := sh.find(x.token); i >= 0 && l.seq > sh.upTo {
			l.groups.refer(x.payers, -1)
			sh.remove(i)
		}
	}
}

// uncount takes a send off the counts of a subject.
func (l *Ledger) uncount(id uint32, s *subject, x send, at int64) {
	less := Counts{Sent: -1}
	less.add(x.payers.outcome(), -1)
	when := x.date(at)
	rings := l.subjects.open(id, at)
	for i := range rings {
		if r := &rings[i]; when > s.epoch && r.counts(when, at) {
			r.add(when, less)
		}
	}
	l.subjects.setRings(id, rings)
}

func (c *uncharge) encode(b []byte) []byte {
	b = binary.AppendUvarint(append(b, kindUncharge), uint64(c.at))
	return appendSends(b, c.sends)
}

func decodeUncharge(d *decoder) *uncharge {
	return &uncharge{at: d.int(), sends: d.sends()}
}

// refusal counts refused sends of a subject.
type refusal struct {
	id    uint32
	at    int64
	marks []Token
}

func (c *refusal) apply(l *Ledger) {
	l.advance(c.at)
	s := l.subjectToChange(c.id)
	if s == nil {
		return
	}
	s.touched = c.at
	if s.marks == nil {
		s.marks = map[Token]struct{}{}
	}
	for _, m := range c.marks {
		s.marks[m] = struct{}{}
	}
}

func (c *refusal) encode(b []byte) []byte {
	b = binary.AppendUvarint(append(b, kindRefusal), uint64(c.id))
	return appendTokens(binary.AppendUvarint(b, uint64(c.at)), c.marks)
}

// forgiveness forgets the refused sends of a subject.
type forgiveness struct{ id uint32 }

func (c *forgiveness) apply(l *Ledger) {
	if s := l.subjectToChange(c.id); s != nil {
		s.marks = nil
	}
}

func (c *forgiveness) encode(b []byte) []byte {
	return binary.AppendUvarint(append(b, kindForgive), uint64(c.id))
}

// reset restarts a subject at zero.
type reset struct {
	id    uint32
	at    int64
	rings []byte // for ResetAsOf, packed: what was sent since; nil: the rings are emptied
}

func (c *reset) apply(l *Ledger) {
	// What is charged from now on is dated after the reset.
	l.advance(c.at + 1)
	s := l.subjectToChange(c.id)
	if s == nil {
		return
	}
	if c.rings != nil {
		l.subjects.discard(c.id)
		s.rings = slices.Clone(c.rings)
	} else {
		rings := l.subjects.open(c.id, c.at)
		for i := range rings {
			rings[i].clear()
		}
		l.subjects.setRings(c.id, rings)
	}
	s.epoch, s.touched, s.marks = c.at, max(s.touched, c.at), nil
}

func (c *reset) encode(b []byte) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(append(b, kindReset), uint64(c.id)), uint64(c.at))
	if c.rings != nil {
		b = append(binary.AppendUvarint(b, uint64(len(c.rings))), c.rings...)
	}
	return b
}

func decodeReset(d *decoder) *reset {
	c := &reset{id: uint32(d.uint()), at: d.int()}
	if len(d.b) > 0 {
		c.rings = d.bytes()
	}
	return c
}

// keepFor changes how long sends are kept, to span milliseconds.
type keepFor struct {
	at, span int64
}

func (c *keepFor) apply(l *Ledger) {
	l.completeSince = max(l.completeSince, c.at-l.keep)
	l.keep = c.span
}

func (c *keepFor) encode(b []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(append(b, kindKeep), uint64(c.at)), uint64(c.span))
}

// appendLimits writes the windows of limits; a replay does not need Max.
func appendLimits(b []byte, all [][]Limit) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, limits := range all {
		b = binary.AppendUvarint(b, uint64(len(limits)))
		for _, limit := range limits {
			b = binary.AppendUvarint(b, uint64(limit.Window.Milliseconds()))
		}
	}
	return b
}

func (d *decoder) limits() [][]Limit {
	all := make([][]Limit, d.len(1))
	for i := range all {
		all[i] = make([]Limit, d.len(1))
		for j := range all[i] {
			all[i][j].Window = time.Duration(d.int()) * time.Millisecond
		}
	}
	return all
}

func appendTokens(b []byte, ts []Token) []byte {
	b = binary.AppendUvarint(b, uint64(len(ts)))
	for _, t := range ts {
		b = binary.LittleEndian.AppendUint64(b, uint64(t))
	}
	return b
}

func appendIDs(b []byte, ids []uint32) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return b
}

func (d *decoder) ids() []uint32 {
	ids := make([]uint32, d.len(1))
	for i := range ids {
		ids[i] = uint32(d.uint())
	}
	return ids
}

const sendSize = 16

func appendSends(b []byte, sends []send) []byte {
	n := 0
	for i := range sends {
		if sends[i].token != 0 {
			n++
		}
	}
	b = binary.AppendUvarint(b, uint64(n))
	for i := range sends {
		if s := &sends[i]; s.token != 0 {
			b = binary.LittleEndian.AppendUint64(b, uint64(s.token))
			b = binary.LittleEndian.AppendUint32(b, s.when)
			b = binary.LittleEndian.AppendUint32(b, uint32(s.payers))
		}
	}
	return b
}

func (d *decoder) sends() []send {
	sends := make([]send, d.len(sendSize))
	for i := range sends {
		b := d.b
		sends[i] = send{
			Token(binary.LittleEndian.Uint64(b)),
			binary.LittleEndian.Uint32(b[8:]),
			payers(binary.LittleEndian.Uint32(b[12:])),
		}
		d.b = b[sendSize:]
	}
	return sends
}
