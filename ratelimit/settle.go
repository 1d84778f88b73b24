package ratelimit

import (
	"encoding/binary"
	"time"
)

// A Report is what became of one send. Settle fills in the last three fields.
type Report struct {
	Token    Token
	Outcome  Outcome       // the outcome that is reported
	Subjects []Subject     // who is charged if the send is not known; nobody if empty. Must never be changed
	Age      time.Duration // how long ago the send was made

	Known   bool // it was charged before and is still kept
	Charged bool // it is charged now
	Moved   bool // its outcome has changed
}

// Settle takes in reports, in their order; see Outcome.then. A send that is not known
// is charged to its Subjects, whatever their limits, for it was made. If it is older
// than the longest limited window, it changes nothing.
//
// A batch of reports is one change. Reports with the same payers should share one
// slice of Subjects, also between calls: who pays is looked up once for each slice.
func (l *Ledger) Settle(now time.Time, reports []Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(l.tick(now), reports)
}

// settle changes the records of the sends at once, because a later report may be of
// the same send. The counts change at the end, in flush.
func (l *Ledger) settle(at int64, reports []Report) {
	b := &l.space.batch
	if len(b.payees) > maxPayees {
		l.clearPayees()
	}
	b.begin(at)
	for i := range reports {
		r := &reports[i]
		r.Known, r.Charged, r.Moved = false, false, false
		sh := l.sends.shard(r.Token)
		if j := sh.find(r.Token); j >= 0 && l.live(sh.slots[j], b.at) {
			s := &sh.slots[j]
			have := s.payers.outcome()
			want := have.then(r.Outcome)
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

// settleTokens settles sends with one outcome, and returns how many have changed.
func (l *Ledger) settleTokens(at int64, tokens []Token, o Outcome) (moved int) {
	reports := make([]Report, len(tokens))
	for i, t := range tokens {
		reports[i] = Report{Token: t, Outcome: o}
	}
	l.settle(at, reports)
	for i := range reports {
		if reports[i].Moved {
			moved++
		}
	}
	return moved
}

// chargeReported charges a send that was not known.
func (l *Ledger) chargeReported(b *batch, r *Report) {
	l.extend(r.Subjects)
	at := b.at
	when := at - max(0, r.Age.Milliseconds())
	if when <= max(at-l.keep, l.completeSince) { // whether it was charged is forgotten
		return
	}
	p := l.payee(b, r.Subjects)
	if when == at { // sent just now; b.at is later than at if payee has moved the clock on
		when = b.at
	}
	outcome := Outcome(0).then(r.Outcome)
	r.Charged, r.Moved = true, outcome != 0
	l.uncounted += p.uncounted
	if p.limits == nil {
		return // all payers are past the memory ceiling: there is none for the send either
	}
	l.putSend(send{r.Token, uint32(when), p.payers.with(outcome)}, b.at)
	part := b.part(p.payers)
	if part.limits != nil && &part.limits[0] != &p.limits[0] { // other limits for the same payers: a part has one list
		l.flush(b)
		part = b.part(p.payers)
	}
	part.limits = p.limits
	part.add(move{token: r.Token, when: uint32(when), to: outcome, fresh: true})
}

// A batch collects a settlement.
type batch struct {
	settlement
	index  map[payers]int // of parts
	payees map[payeeKey]payee
}

// maxPayees bounds batch.payees.
const maxPayees = 20_000

// clearPayees must be called when a subject or a group is dropped, for another one
// may get its number.
func (l *Ledger) clearPayees() { clear(l.space.batch.payees) }

// A payeeKey identifies a slice of Subjects, which nobody changes.
type payeeKey struct {
	first *Subject
	n     int
}

// A payee is who pays for sends with the same Subjects.
type payee struct {
	payers    payers
	limits    [][]Limit // of each payer; nil if there is none
	uncounted int64     // how many of the Subjects are past the memory ceiling
}

func (b *batch) begin(at int64) {
	if b.index == nil {
		b.index, b.payees = map[payers]int{}, map[payeeKey]payee{}
	}
	clear(b.index)
	b.at, b.parts, b.recorded = at, b.parts[:0], true
}

// part returns the part of some payers. It is valid until the next call.
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
	b.parts = b.parts[:i+1] // with the memory that it had for moves
	p := &b.parts[i]
	p.payers, p.limits, p.moves = who, nil, p.moves[:0]
	return p
}

// flush makes the change that the batch has collected, and begins the next one.
func (l *Ledger) flush(b *batch) {
	if len(b.parts) > 0 {
		l.do(&b.settlement)
		b.begin(b.at)
	}
}

// payee finds who pays for sends with these Subjects.
func (l *Ledger) payee(b *batch, subjects []Subject) payee {
	key := payeeKey{&subjects[0], len(subjects)}
	if p, ok := b.payees[key]; ok {
		return p
	}
	if l.needWindows(subjects) {
		l.flush(b) // the charges collected so far may add these windows
		l.addWindows(subjects)
		b.at = l.last
	}
	var p payee
	var members []uint32
	for _, sub := range subjects {
		id, s := l.subjects.byName(sub.Name)
		if c := (candidate{name: sub.Name, id: id, known: s != nil}); l.ensureSubject(&c, b.at) {
			members = append(members, c.id)
			p.limits = append(p.limits, sub.Limits)
		} else {
			p.uncounted++
		}
	}
	if len(members) > 0 {
		p.payers = l.payers(members)
	}
	if p.uncounted == 0 { // else ask again next time: there may be room by then
		b.payees[key] = p
	}
	return p
}

// needWindows reports whether one of the subjects is counted, but not yet in all
// windows of its limits.
func (l *Ledger) needWindows(subjects []Subject) bool {
	for _, sub := range subjects {
		id, s := l.subjects.byName(sub.Name)
		if s == nil {
			continue
		}
		rings := l.subjects.open(id, l.last)
		for _, limit := range sub.Limits {
			if ringOf(rings, newWindow(limit.Window)) == nil {
				return true
			}
		}
	}
	return false
}

// A settlement changes the outcomes of sends, and charges those that are fresh.
type settlement struct {
	at       int64
	parts    []part
	recorded bool // the records of the sends are changed already, only the counts are not
}

// A part has the moves of sends with the same payers.
type part struct {
	payers payers
	limits [][]Limit // as in charge; nil if nothing is fresh
	moves  []move
}

// A move is the change of one send from one outcome to another.
type move struct {
	token    Token
	when     uint32 // as in send
	from, to Outcome
	fresh    bool // it is charged too
}

func (p *part) add(m move) { p.moves = append(p.moves, m) }

func (c *settlement) apply(l *Ledger) {
	l.advance(c.at)
	for i := range c.parts {
		p := &c.parts[i]
		n := 0
		l.groups.each(p.payers, func(id uint32) {
			if s := l.subjectToChange(id); s != nil {
				l.countMoves(id, s, p, c.at, p.limitsOf(n))
			}
			n++
		})
		if !c.recorded {
			l.recordMoves(p, c.at)
		}
	}
}

// limitsOf returns the limits of the n-th payer.
func (p *part) limitsOf(n int) []Limit {
	if n < len(p.limits) {
		return p.limits[n]
	}
	return nil
}

// recordMoves changes the records of the sends of a part.
func (l *Ledger) recordMoves(p *part, at int64) {
	for _, m := range p.moves {
		sh := l.sends.shard(m.token)
		if m.fresh {
			l.recordSend(send{m.token, m.when, p.payers.with(m.to)}, at)
		} else if i := sh.find(m.token); i >= 0 && l.seq > sh.upTo {
			sh.slots[i].payers = sh.slots[i].payers.with(m.to)
		}
	}
}

// countMoves counts the moves of a part for one of its payers.
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

// counts is what a move adds to the counts of each payer.
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
