package ratelimit

import (
	"encoding/binary"
	"time"
)

// A Report tells what became of one send, and is told what that has changed.
type Report struct {
	Token    Token
	Told     Outcome
	Subjects []Subject     // who is charged if the send is not known; of none, nobody is. Never to be changed
	Age      time.Duration // how long ago the send was made

	Known   bool // it was charged before, and is still kept
	Charged bool // it is charged now
	Moved   bool // it got another outcome, or its first
}

// Settle takes in reports, in their order. What was delivered or has failed
// stays so, and only what was delivered or has failed replaces what was
// deferred. A send that is not known is charged to its Subjects whatever their
// limits say, for it was made; older than the longest limited window it changes
// nothing.
//
// A whole batch costs one lock and one change. Reports with the same payers
// should share one slice of Subjects, also from call to call, and never change it.
func (l *Ledger) Settle(now time.Time, reports []Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(l.tick(now), reports)
}

// settle finds what reports change, and puts that into the records of the sends
// at once: a later report may be of the same send. The counts follow at the end.
func (l *Ledger) settle(at int64, reports []Report) {
	b := &l.space.batch
	if len(b.payees) > maxPayees {
		l.forgetPayees()
	}
	b.begin(at)
	for i := range reports {
		r := &reports[i]
		r.Known, r.Charged, r.Moved = false, false, false
		sh := l.sends.shard(r.Token)
		if j := sh.find(r.Token); j >= 0 && l.live(sh.slots[j], b.at) {
			s := &sh.slots[j]
			have := s.payers.outcome()
			want := have.then(r.Told)
			r.Known, r.Moved = true, want != have
			if r.Moved {
				b.part(s.payers.who()).add(move{token: s.token, when: s.when, from: have, to: want})
				s.payers = s.payers.with(want)
			}
		} else if len(r.Subjects) > 0 && r.Token != 0 {
			l.chargeReported(b, r)
		}
	}
	l.flush(b)
}

// tell settles sends of one outcome, and returns how many it has moved.
func (l *Ledger) tell(at int64, tokens []Token, told Outcome) (moved int) {
	reports := make([]Report, len(tokens))
	for i, t := range tokens {
		reports[i] = Report{Token: t, Told: told}
	}
	l.settle(at, reports)
	for i := range reports {
		if reports[i].Moved {
			moved++
		}
	}
	return moved
}

// chargeReported charges a send of which nobody knew.
func (l *Ledger) chargeReported(b *batch, r *Report) {
	l.extend(r.Subjects)
	at := b.at
	when := at - max(0, r.Age.Milliseconds())
	if when <= max(at-l.keep, l.complete) { // whether it was charged is forgotten
		return
	}
	p := l.payee(b, r.Subjects)
	if when == at { // then in this very millisecond, which payee may have ended
		when = b.at
	}
	told := Outcome(0).then(r.Told)
	r.Charged, r.Moved = true, told != 0
	l.uncounted += p.uncounted
	if p.limits == nil {
		return // past the ceiling there is no memory for the send either
	}
	l.put(send{r.Token, uint32(when), p.payers.with(told)}, b.at)
	part := b.part(p.payers)
	if part.limits != nil && &part.limits[0] != &p.limits[0] { // the same payers by other limits
		l.flush(b)
		part = b.part(p.payers)
	}
	part.limits = p.limits
	part.add(move{token: r.Token, when: uint32(when), to: told, fresh: true})
}

// A batch is a settlement in the making.
type batch struct {
	settlement
	index  map[payers]int // of parts
	payees map[payeeKey]payee
}

// maxPayees bounds what is remembered of who pays.
const maxPayees = 20_000

// forgetPayees is due when a subject or a group is dropped, whose number another
// one may get.
func (l *Ledger) forgetPayees() { clear(l.space.batch.payees) }

// A payeeKey is a slice of Subjects, which nobody changes.
type payeeKey struct {
	first *Subject
	n     int
}

// A payee is who pays for all sends with the same Subjects.
type payee struct {
	payers    payers
	limits    [][]Limit // for each of them; nil if there are none
	uncounted int64     // Subjects past the memory ceiling
}

func (b *batch) begin(at int64) {
	if b.index == nil {
		b.index, b.payees = map[payers]int{}, map[payeeKey]payee{}
	}
	clear(b.index)
	b.at, b.parts, b.kept = at, b.parts[:0], true
}

// part is that of some payers. It is good until the next call.
func (b *batch) part(who payers) *part {
	i, ok := b.index[who]
	if ok {
		return &b.parts[i]
	}
	i = len(b.parts)
	b.index[who] = i
	if i == cap(b.parts) {
		b.parts = append(b.parts, part{payers: who})
		return &b.parts[i]
	}
	b.parts = b.parts[:i+1] // with the space that it had for moves
	p := &b.parts[i]
	p.payers, p.limits, p.moves = who, nil, p.moves[:0]
	return p
}

// flush makes the change that a batch has become.
func (l *Ledger) flush(b *batch) {
	if len(b.parts) > 0 {
		l.do(&b.settlement)
		b.begin(b.at)
	}
}

// payee finds who pays.
func (l *Ledger) payee(b *batch, subjects []Subject) payee {
	key := payeeKey{&subjects[0], len(subjects)}
	if p, ok := b.payees[key]; ok {
		return p
	}
	if l.gains(subjects) {
		l.flush(b) // which may be what gives them their windows
		l.widen(subjects)
		b.at = l.last
	}
	var p payee
	var members []uint32
	for _, sub := range subjects {
		id, s := l.subjects.named(sub.Name)
		if site := (site{name: sub.Name, id: id, known: s != nil}); l.admit(&site, b.at) {
			members = append(members, site.id)
			p.limits = append(p.limits, sub.Limits)
		} else {
			p.uncounted++
		}
	}
	if len(members) > 0 {
		p.payers = l.payers(members)
	}
	if p.uncounted == 0 { // or there may be room later
		b.payees[key] = p
	}
	return p
}

// gains tells whether a subject gets a window.
func (l *Ledger) gains(subjects []Subject) bool {
	for _, sub := range subjects {
		id, s := l.subjects.named(sub.Name)
		if s == nil {
			continue
		}
		rings := l.subjects.open(id, l.last)
		for _, limit := range sub.Limits {
			if find(rings, newWindow(limit.Window)) == nil {
				return true
			}
		}
	}
	return false
}

// A settlement moves the outcomes of sends, and charges those that are fresh.
type settlement struct {
	at    int64
	parts []part
	kept  bool // the sends' records have it already, only the counts do not
}

// A part is the moves of sends with the same payers.
type part struct {
	payers payers
	limits [][]Limit // as in charge; nil if nothing is fresh
	moves  []move
}

// A move is that of one send from one outcome to another one.
type move struct {
	token    Token
	when     uint32 // as in send
	from, to Outcome
	fresh    bool // it is charged with it
}

func (p *part) add(m move) { p.moves = append(p.moves, m) }

func (c *settlement) apply(l *Ledger) {
	l.advance(c.at)
	for i := range c.parts {
		p := &c.parts[i]
		n := 0
		l.groups.each(p.payers, func(id uint32) {
			if s := l.written(id); s != nil {
				l.countMoves(id, s, p, c.at, p.limitsOf(n))
			}
			n++
		})
		if !c.kept {
			l.keepMoves(p, c.at)
		}
	}
}

// limitsOf are the limits of the n-th payer.
func (p *part) limitsOf(n int) []Limit {
	if n < len(p.limits) {
		return p.limits[n]
	}
	return nil
}

func (l *Ledger) keepMoves(p *part, at int64) {
	for _, m := range p.moves {
		sh := l.sends.shard(m.token)
		if m.fresh {
			l.keepSend(send{m.token, m.when, p.payers.with(m.to)}, at)
		} else if i := sh.find(m.token); i >= 0 && l.seq > sh.upTo {
			sh.slots[i].payers = sh.slots[i].payers.with(m.to)
		}
	}
}

func (l *Ledger) countMoves(id uint32, s *subject, p *part, at int64, limits []Limit) {
	s.touched = at
	rings := l.addRings(id, limits, at)
	for i := range rings {
		r := &rings[i]
		for j := range p.moves {
			m := &p.moves[j]
			if when := (send{when: m.when}).date(at); when > s.epoch && r.counts(when, at) {
				r.add(when, m.counts())
			}
		}
	}
}

// counts is what a move adds to the counts of its payers.
func (m *move) counts() (c Counts) {
	if m.fresh {
		c.Sent = 1
	} else {
		c.add(m.from, -1)
	}
	c.add(m.to, 1)
	return c
}

func (c *settlement) encode(b []byte) []byte {
	b = binary.AppendUvarint(append(b, kindSettle), uint64(c.at))
	b = binary.AppendUvarint(b, uint64(len(c.parts)))
	for i := range c.parts {
		p := &c.parts[i]
		b = appendLimits(binary.AppendUvarint(b, uint64(p.payers)), p.limits)
		b = binary.AppendUvarint(b, uint64(len(p.moves)))
		for _, m := range p.moves {
			b = binary.LittleEndian.AppendUint64(b, uint64(m.token))
			b = binary.LittleEndian.AppendUint32(b, m.when)
			fresh := byte(0)
			if m.fresh {
				fresh = 1
			}
			b = append(b, fresh<<6|byte(m.from)<<3|byte(m.to))
		}
	}
	return b
}

const moveSize = 13

func decodeSettlement(d *decoder) *settlement {
	c := &settlement{at: d.int()}
	c.parts = make([]part, d.len(3))
	for i := range c.parts {
		p := &c.parts[i]
		p.payers = payers(d.uint())
		p.limits = d.limits()
		p.moves = make([]move, d.len(moveSize))
		for j := range p.moves {
			b := d.b
			d.b = b[moveSize:]
			how := b[12]
			p.moves[j] = move{Token(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint32(b[8:]),
				Outcome(how >> 3 & 7), Outcome(how & 7), how>>6 != 0}
		}
	}
	return c
}
