package ratelimit

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// A change is one step of a Ledger. Everything that a Ledger holds came about
// by changes, so that replaying them makes the same Ledger again.
//
// A change names the subjects and groups by number, and what it does to each
// page, shard and to the groups does not depend on the others: a snapshot
// copies those one after the other while changes go on.
type change interface {
	apply(l *Ledger)
	encode(b []byte) []byte
}

// The first byte of an encoded change. The byte 'n' is left to whoever keeps
// other things in the same record.
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
	kindWiden    = 'w'
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
	case kindWiden:
		c = decodeWidening(d)
	default:
		return nil, fmt.Errorf("unknown kind of entry %q", entry[0])
	}
	return c, d.err
}

// newSubject begins to count a subject.
type newSubject struct {
	id   uint32
	at   int64
	name string
}

func (c *newSubject) apply(l *Ledger) {
	l.subjects.reach(int(c.id / pageSize))
	if l.seq > l.subjects.page(c.id).upTo {
		l.subjects.place(c.id, subject{name: c.name, touched: c.at})
	}
}

func (c *newSubject) encode(b []byte) []byte {
	b = binary.AppendUvarint(append(b, kindSubject), uint64(c.id))
	b = binary.AppendUvarint(b, uint64(c.at))
	return append(binary.AppendUvarint(b, uint64(len(c.name))), c.name...)
}

// newGroup begins to use a group of subjects.
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
	at, when int64
	payers   payers
	limits   [][]Limit // for each payer, of which only the windows matter
	tokens   []Token
}

func (c *charge) apply(l *Ledger) {
	l.advance(c.at)
	i := 0
	l.groups.each(c.payers, func(id uint32) {
		if s := l.written(id); s != nil && i < len(c.limits) {
			l.count(id, s, c, c.limits[i])
		}
		i++
	})
	for _, t := range c.tokens {
		l.keepSend(send{t, uint32(c.when), c.payers}, c.at)
	}
}

// written is the subject that a change is to be written to; nil where its
// page was restored with the change in it, or was lost to damage.
func (l *Ledger) written(id uint32) *subject {
	if int(id/pageSize) >= len(l.subjects.pages) || l.seq <= l.subjects.page(id).upTo {
		return nil
	}
	if s := l.subjects.get(id); s.name != "" {
		return s
	}
	return nil
}

func (l *Ledger) count(id uint32, s *subject, c *charge, limits []Limit) {
	s.touched = c.at
	n := int64(len(c.tokens))
	more := Counts{Sent: n}
	more.add(c.payers.outcome(), n)
	// In all of them: a window that is not limited for a while misses nothing.
	rings := l.addRings(id, limits, c.at)
	for i := range rings {
		if r := &rings[i]; c.when > s.epoch && r.counts(c.when, c.at) {
			r.add(c.when, more)
		}
	}
}

// addRings returns the rings of a subject, to be changed, with those added for
// limits that have none: of a new subject, or in journals of before there was a
// widening.
func (l *Ledger) addRings(id uint32, limits []Limit, at int64) []ring {
	rings := l.subjects.open(id, at)
	since := at
	if len(rings) == 0 {
		since = 0 // of a new subject nothing can be missing
	}
	for _, limit := range limits {
		if w := newWindow(limit.Window); find(rings, w) == nil {
			rings = append(rings, ring{window: w, since: since})
		}
	}
	l.subjects.change(id, rings)
	return rings
}

func (l *Ledger) keepSend(s send, now int64) {
	if l.seq > l.sends.shard(s.token).upTo {
		l.put(s, now)
	}
}

// put keeps the record of a send.
func (l *Ledger) put(s send, now int64) {
	sh := l.sends.shard(s.token)
	if i := sh.find(s.token); i >= 0 { // forgotten, but not swept yet
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

// uncharge takes sends back.
type uncharge struct {
	at    int64
	sends []send
}

func (c *uncharge) apply(l *Ledger) {
	l.advance(c.at)
	for _, x := range c.sends {
		l.groups.each(x.payers, func(id uint32) {
			if s := l.written(id); s != nil {
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
	l.subjects.change(id, rings)
}

func (c *uncharge) encode(b []byte) []byte {
	b = binary.AppendUvarint(append(b, kindUncharge), uint64(c.at))
	return appendSends(b, c.sends)
}

func decodeUncharge(d *decoder) *uncharge {
	return &uncharge{at: d.int(), sends: d.sends()}
}

// refusal counts refused sends against a subject.
type refusal struct {
	id    uint32
	at    int64
	marks []Token
}

func (c *refusal) apply(l *Ledger) {
	l.advance(c.at)
	s := l.written(c.id)
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
	if s := l.written(c.id); s != nil {
		s.marks = nil
	}
}

func (c *forgiveness) encode(b []byte) []byte {
	return binary.AppendUvarint(append(b, kindForgive), uint64(c.id))
}

// reset restarts a subject at zero. Its rings stay, for since, but empty: or as
// what was sent after a reset of some time ago has them.
type reset struct {
	id    uint32
	at    int64
	rings []byte
}

func (c *reset) apply(l *Ledger) {
	// What is charged later in this very millisecond belongs to the new epoch.
	l.advance(c.at + 1)
	s := l.written(c.id)
	if s == nil {
		return
	}
	if c.rings != nil {
		l.subjects.forget(c.id)
		s.rings = slices.Clone(c.rings)
	} else {
		rings := l.subjects.open(c.id, c.at)
		for i := range rings {
			rings[i].clear()
		}
		l.subjects.change(c.id, rings)
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

// keepFor changes how long sends are kept. Those dated before the shorter
// time are no longer known for certain.
type keepFor struct {
	at, span int64
}

func (c *keepFor) apply(l *Ledger) {
	l.complete = max(l.complete, c.at-l.keep)
	l.keep = c.span
}

func (c *keepFor) encode(b []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(append(b, kindKeep), uint64(c.at)), uint64(c.span))
}

// appendLimits writes the windows of limits; their max is of no matter later.
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
