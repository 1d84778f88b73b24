package ratelimit

import (
	"encoding/binary"
	"slices"
)

// An Outcome is what became of a send so far. Its zero value is that nothing
// is known yet.
type Outcome uint8

// The outcomes. Deferred and Failed may have Excused added: they are counted,
// and not held against the subjects. Excused alone excuses what was counted.
const (
	Delivered Outcome = 1
	Deferred  Outcome = 2
	Failed    Outcome = 3
	Excused   Outcome = 4
)

// Kind is the outcome without Excused.
func (o Outcome) Kind() Outcome { return o &^ Excused }

// then is what an outcome becomes when another one is told. What was delivered
// or has failed stays so, and deferring again is nothing new: so the same
// news, told again in the same order, changes nothing.
func (o Outcome) then(told Outcome) Outcome {
	switch {
	case told == Excused && o.Kind() >= Deferred:
		return o | Excused
	case told == Excused:
		return o
	case o.Kind() == 0, o.Kind() == Deferred && told.Kind() != Deferred:
		return told
	}
	return o
}

// add counts n more sends with an outcome.
func (c *Counts) add(o Outcome, n int64) {
	switch o.Kind() {
	case Delivered:
		c.Delivered += n
	case Deferred:
		c.Deferred += n
	case Failed:
		c.Failed += n
	}
	if o&Excused != 0 {
		c.Excused += n
	}
}

// clamp lets no count be negative: after damage a send may be there whose count
// was lost.
func (c *Counts) clamp() {
	for _, n := range [...]*int64{&c.Sent, &c.Delivered, &c.Deferred, &c.Failed, &c.Excused} {
		*n = max(0, *n)
	}
}

// settle tells what became of sends, and returns how many of them are known
// and how many got another outcome by it.
func (l *Ledger) settle(at int64, tokens []Token, told Outcome) (known, moved int) {
	c := &l.space.settlement
	c.at, c.told, c.sends = at, told, c.sends[:0]
	for i, t := range tokens {
		if slices.Contains(tokens[:i], t) {
			continue
		}
		sh := l.sends.shard(t)
		j := sh.find(t)
		if j < 0 || !l.live(sh.slots[j], at) {
			continue
		}
		known++
		if have := sh.slots[j].payers.outcome(); have.then(told) != have {
			c.sends = append(c.sends, sh.slots[j])
		}
	}
	if len(c.sends) > 0 {
		l.do(c)
	}
	return known, len(c.sends)
}

// settlement moves the outcomes of sends, which it has as they were before.
type settlement struct {
	at    int64
	told  Outcome
	sends []send
}

func (c *settlement) apply(l *Ledger) {
	l.advance(c.at)
	for _, x := range c.sends {
		have := x.payers.outcome()
		want := have.then(c.told)
		when := x.date(c.at)
		l.groups.each(x.payers, func(id uint32) {
			if s := l.written(id); s != nil {
				l.recount(s, when, c.at, func(b *Counts) {
					b.add(have, -1)
					b.add(want, 1)
				})
			}
		})
		sh := l.sends.shard(x.token)
		if i := sh.find(x.token); i >= 0 && l.seq > sh.upTo {
			sh.slots[i].payers = x.payers.with(want)
		}
	}
}

func (c *settlement) encode(b []byte) []byte {
	b = binary.AppendUvarint(append(b, kindSettle), uint64(c.at))
	return appendSends(append(b, byte(c.told)), c.sends)
}

func decodeSettlement(d *decoder) *settlement {
	return &settlement{at: d.int(), told: Outcome(d.uint()), sends: d.sends()}
}
