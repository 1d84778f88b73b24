package ratelimit

import (
	"slices"
	"strings"
	"time"
)

// fresh returns the tokens of a Take that are not charged yet, and their marks.
func (l *Ledger) fresh(t *Take, at int64) (tokens, marks []Token) {
	if len(t.Tokens) == 1 && t.Tokens[0] != 0 && !l.known(t.Tokens[0], at) {
		return t.Tokens, t.Marks
	}
	const few = 16 // up to so many a linear search is faster than a map
	var seen map[Token]struct{}
	if len(t.Tokens) > few {
		seen = make(map[Token]struct{}, len(t.Tokens))
	}
	for i, token := range t.Tokens {
		twice := false
		if seen == nil {
			twice = slices.Contains(tokens, token)
		} else if _, twice = seen[token]; !twice {
			seen[token] = struct{}{}
		}
		if twice || token == 0 || l.known(token, at) {
			continue
		}
		tokens = append(tokens, token)
		if i < len(t.Marks) {
			marks = append(marks, t.Marks[i])
		}
	}
	return tokens, marks
}

// A decision is what measure has found out about a Take.
type decision struct {
	result      Result
	at          int64 // time of the decision, Unix milliseconds
	when        int64 // date of the sends
	full        bool  // a limit that is not watched has no room
	watchedFull bool  // a watched one has none
	needsWindow bool  // a subject is not counted yet in the window of a limit
	candidates  []candidate
	adds        []int64 // for each Use, how many of the sends count in it
}

// A candidate is one subject of a decision.
type candidate struct {
	name     string
	id       uint32
	known    bool // there is such a subject
	from, to int  // its Uses
	admitted int  // how many of the sends it is charged for: fewer than all if it is watched
	within   int  // how many it would be charged for if no limit withheld any
}

// space is memory that each decision reuses, to spare the garbage collector. Only
// one is made at a time.
type space struct {
	candidates []candidate
	adds       []int64
	members    []uint32
	limits     [][]Limit
	charge     charge
	batch      batch
}

// measure finds out what each limit of a Take has counted, and whether there is room
// for n more sends dated when. The decision is valid until the next call.
func (l *Ledger) measure(t *Take, at, when, n int64) decision {
	d := decision{at: at, when: when, candidates: l.space.candidates[:0], adds: l.space.adds[:0]}
	d.result.At = time.UnixMilli(at)
	uses := 0
	for _, sub := range t.Subjects {
		uses += len(sub.Limits)
	}
	d.result.Uses = slices.Grow(t.Uses[:0], uses)
	for _, sub := range t.Subjects {
		id, s := l.subjects.byName(sub.Name)
		var rings []ring
		if s != nil {
			rings = l.subjects.open(id, at)
		}
		from, admitted, within := len(d.result.Uses), n, n
		for _, limit := range sub.Limits {
			u, adds := l.use(s, rings, limit, t, when, at, n)
			u.Subject, u.Watched = sub.Name, sub.Watched
			switch {
			case u.Full && sub.Watched && !t.Force:
				d.watchedFull = true
				within = min(within, max(0, limit.Max-u.Used-t.Ahead))
				admitted = min(admitted, max(0, limit.Max-limit.withheld()-u.Used-t.Ahead))
			case u.Full:
				d.full = true
			}
			d.needsWindow = d.needsWindow || needsWindow(rings, newWindow(limit.Window))
			d.result.Uses = append(d.result.Uses, u)
			d.adds = append(d.adds, adds)
		}
		d.candidates = append(d.candidates, candidate{sub.Name, id, s != nil, from, len(d.result.Uses), int(admitted), int(within)})
	}
	l.space.candidates, l.space.adds = d.candidates, d.adds
	return d
}

// use measures one limit. adds is how many of n sends would count in its window: all
// or, if they are dated too early, none. s is nil if the subject is new.
func (l *Ledger) use(s *subject, rings []ring, limit Limit, t *Take, when, at, n int64) (u Use, adds int64) {
	u.Limit = limit
	withheld := limit.withheld()
	if t.Force {
		withheld = 0
	}
	w := newWindow(limit.Window)
	if w.outlived(when, at) {
		n = 0
	}
	var r *ring
	if s != nil {
		u.Epoch, u.Refused = s.epoch, int64(len(s.marks))
		if r = ringOf(rings, w); r != nil {
			u.Used = r.total.Sent
		}
		if when <= s.epoch || r != nil && when < r.since {
			n = 0
		}
	}
	if limit.Max == 0 || n == 0 || u.Used+t.Ahead+n+withheld <= limit.Max {
		return u, n
	}
	u.Full, u.Withheld = true, u.Used+t.Ahead+n <= limit.Max
	if room := limit.Max - withheld - t.Ahead - n; room >= 0 {
		u.Frees = time.UnixMilli(r.frees(room))
	}
	return u, n
}

// ringOf is the ring of a window; nil if the subject is not counted in it.
func ringOf(rings []ring, w window) *ring {
	for i := range rings {
		if rings[i].window == w {
			return &rings[i]
		}
	}
	return nil
}

// refuse counts refused sends for each subject with a full limit: all of them or, if
// only watched limits are full, those that the subject had no room for. A limit that is
// full only by what it withholds counts none.
func (l *Ledger) refuse(d *decision, marks []Token) {
	for _, c := range d.candidates {
		uses := d.result.Uses[c.from:c.to]
		if !slices.ContainsFunc(uses, func(u Use) bool { return u.Full && !u.Withheld }) {
			continue
		}
		refused := marks
		if !d.full {
			refused = marks[min(c.within, len(marks)):]
		}
		if len(refused) == 0 || !l.ensureSubject(&c, d.at) {
			continue
		}
		s := l.subjects.get(c.id)
		unseen := s.unseen(refused)
		if len(unseen) > 0 {
			l.do(&refusal{id: c.id, at: d.at, marks: unseen})
		}
		for i := range uses {
			uses[i].Refused = int64(len(s.marks))
		}
	}
}

// unseen returns the marks that the subject does not have yet, up to maxMarks in all.
func (s *subject) unseen(marks []Token) []Token {
	marks = slices.Compact(slices.Sorted(slices.Values(marks)))
	marks = slices.DeleteFunc(marks, func(m Token) bool { _, seen := s.marks[m]; return seen })
	return marks[:min(len(marks), maxMarks-len(s.marks))]
}

// forgive forgets the refusals of subjects whose limits have room again, also when
// ahead more sends, already let through, will be charged.
func (l *Ledger) forgive(d *decision, ahead int64) {
	for _, c := range d.candidates {
		uses := d.result.Uses[c.from:c.to]
		if !c.known || l.subjects.get(c.id).marks == nil ||
			slices.ContainsFunc(uses, func(u Use) bool { return u.Limit.Max > 0 && u.Used+ahead >= u.Limit.Max }) {
			continue
		}
		l.do(&forgiveness{id: c.id})
		for i := range uses {
			uses[i].Refused = 0
		}
	}
}

// charge counts sends and keeps their records. Watched subjects may be charged for
// fewer sends than the others, so it charges one run of sends with the same payers
// after the other.
func (l *Ledger) charge(d *decision, t *Take, tokens []Token) {
	d.result.OK, d.result.Charged = true, len(tokens)
	if t.Outcome != 0 {
		d.result.Moved += len(tokens)
	}
	if d.watchedFull {
		for _, c := range d.candidates {
			for i := c.from; i < c.to; i++ {
				d.result.Uses[i].Over = int64(len(tokens) - c.within)
			}
		}
	}
	for from, to := 0, 0; from < len(tokens); from = to {
		to = len(tokens)
		for i := range d.candidates {
			if admitted := d.candidates[i].admitted; admitted > from {
				to = min(to, admitted)
			}
		}
		l.chargeAdmitted(d, t, tokens[from:to], from)
	}
}

// chargeAdmitted charges one run of sends. from is how many sends of the Take come
// before the run; subjects that are charged for no more than those are left out.
func (l *Ledger) chargeAdmitted(d *decision, t *Take, tokens []Token, from int) {
	members, limits := l.space.members[:0], l.space.limits[:0]
	unkept := len(d.candidates) > 0
	for i := range d.candidates {
		c := &d.candidates[i]
		if c.admitted <= from {
			unkept = false
			continue
		}
		if !l.ensureSubject(c, d.at) {
			l.uncounted += int64(len(tokens))
			continue
		}
		members = append(members, c.id)
		limits = append(limits, t.Subjects[i].Limits)
		for j := c.from; j < c.to; j++ {
			d.result.Uses[j].Used += min(d.adds[j], int64(len(tokens)))
		}
	}
	l.space.members, l.space.limits = members, limits
	if len(members) == 0 && unkept {
		return // all subjects are past the memory ceiling: there is none for the sends either
	}
	l.space.charge = charge{at: d.at, when: d.when, payers: l.payers(members).with(t.Outcome), limits: limits, tokens: tokens}
	l.do(&l.space.charge)
}

// ensureSubject makes the subject of a candidate if it is new, and reports false if
// the memory ceiling forbids that.
func (l *Ledger) ensureSubject(c *candidate, at int64) bool {
	if c.known {
		return true
	}
	// A Take may name a subject twice.
	if id, s := l.subjects.byName(c.name); s != nil {
		c.id, c.known = id, true
		return true
	}
	if l.pastCeiling(c.name) {
		return false
	}
	c.id, c.known = l.subjects.vacant(), true
	l.do(&newSubject{id: c.id, name: strings.Clone(c.name), at: at})
	return true
}

// payers refers to one subject, or to a group of several, made if there is none.
func (l *Ledger) payers(members []uint32) payers {
	if len(members) == 1 {
		return payers(members[0])
	}
	id, ok := l.groups.index[groupKey(members)]
	if !ok {
		id = l.groups.vacant()
		l.do(&newGroup{id: id, members: slices.Clone(members)})
	}
	return payersGroup | payers(id)
}
