package ratelimit

import (
	"slices"
	"strings"
	"time"
)

// fresh is what of a Take was not charged yet.
func (l *Ledger) fresh(t *Take, at int64) (tokens, marks []Token) {
	if len(t.Tokens) == 1 && t.Tokens[0] != 0 && !l.known(t.Tokens[0], at) {
		return t.Tokens, t.Marks
	}
	const few = 16 // among which looking is faster than a map
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

// A decision is what measure found out about a Take.
type decision struct {
	result Result
	at     int64 // time of the decision
	when   int64 // what the sends are dated
	full   bool  // a limit that is not watched has no room
	passed bool  // a watched one has none
	gains  bool  // a subject is not counted yet in the window of a limit
	sites  []site
	adds   []int64 // for each Use, how many of the sends count in it
}

// A site is one subject of a decision.
type site struct {
	name     string
	id       uint32
	known    bool // there is such a subject
	from, to int  // its Uses
	fits     int  // how many of the sends it is charged for: fewer than all if it is watched
}

// space is what decisions are made in: one at a time, so that answering a
// question leaves little to the garbage collector.
type space struct {
	sites   []site
	adds    []int64
	members []uint32
	limits  [][]Limit
	charge  charge
	batch   batch
}

// measure finds what every limit of a Take has counted, and whether n more
// sends dated when have room in it. The decision is good until the next one.
func (l *Ledger) measure(t *Take, at, when, n int64) decision {
	d := decision{at: at, when: when, sites: l.space.sites[:0], adds: l.space.adds[:0]}
	d.result.At = time.UnixMilli(at)
	uses := 0
	for _, sub := range t.Subjects {
		uses += len(sub.Limits)
	}
	d.result.Uses = slices.Grow(t.Uses[:0], uses)
	for _, sub := range t.Subjects {
		id, s := l.subjects.named(sub.Name)
		var rings []ring
		if s != nil {
			rings = l.subjects.open(id, at)
		}
		from, fits := len(d.result.Uses), n
		for _, limit := range sub.Limits {
			u, adds := l.use(s, rings, limit, t.Ahead, when, at, n)
			u.Subject, u.Watched = sub.Name, sub.Watched
			switch {
			case u.Full && sub.Watched && !t.Force:
				d.passed = true
				fits = min(fits, max(0, limit.Max-u.Used-t.Ahead))
			case u.Full:
				d.full = true
			}
			d.gains = d.gains || lacks(rings, newWindow(limit.Window))
			d.result.Uses = append(d.result.Uses, u)
			d.adds = append(d.adds, adds)
		}
		d.sites = append(d.sites, site{sub.Name, id, s != nil, from, len(d.result.Uses), int(fits)})
	}
	l.space.sites, l.space.adds = d.sites, d.adds
	return d
}

// use measures one limit, and tells how many of n sends would count in it. s
// is nil where the subject is new.
func (l *Ledger) use(s *subject, rings []ring, limit Limit, ahead, when, at, n int64) (u Use, adds int64) {
	u.Limit = limit
	w := newWindow(limit.Window)
	if w.outlived(when, at) {
		n = 0
	}
	var r *ring
	if s != nil {
		u.Epoch, u.Refused = s.epoch, int64(len(s.marks))
		if r = find(rings, w); r != nil {
			u.Used = r.total.Sent
		}
		if when <= s.epoch || r != nil && when < r.since {
			n = 0
		}
	}
	if limit.Max == 0 || n == 0 || u.Used+ahead+n <= limit.Max {
		return u, n
	}
	u.Full = true
	if room := limit.Max - ahead - n; room >= 0 {
		u.Frees = time.UnixMilli(r.frees(room))
	}
	return u, n
}

func find(rings []ring, w window) *ring {
	for i := range rings {
		if rings[i].window == w {
			return &rings[i]
		}
	}
	return nil
}

// refuse counts the refused sends against the subjects that refused: all of
// them, or where only watched ones would have, those that did not fit.
func (l *Ledger) refuse(d *decision, marks []Token) {
	for _, site := range d.sites {
		uses := d.result.Uses[site.from:site.to]
		if !slices.ContainsFunc(uses, func(u Use) bool { return u.Full }) {
			continue
		}
		refused := marks
		if !d.full {
			refused = marks[min(site.fits, len(marks)):]
		}
		if len(refused) == 0 || !l.admit(&site, d.at) {
			continue
		}
		s := l.subjects.get(site.id)
		unseen := s.unseen(refused)
		if len(unseen) > 0 {
			l.do(&refusal{id: site.id, at: d.at, marks: unseen})
		}
		for i := range uses {
			uses[i].Refused = int64(len(s.marks))
		}
	}
}

// unseen returns those of marks that the subject has not, as far as there is
// space for them.
func (s *subject) unseen(marks []Token) []Token {
	marks = slices.Compact(slices.Sorted(slices.Values(marks)))
	marks = slices.DeleteFunc(marks, func(m Token) bool { _, seen := s.marks[m]; return seen })
	return marks[:min(len(marks), maxMarks-len(s.marks))]
}

// forgive forgets the refusals against subjects that have room again, with
// ahead sends promised.
func (l *Ledger) forgive(d *decision, ahead int64) {
	for _, site := range d.sites {
		uses := d.result.Uses[site.from:site.to]
		if !site.known || l.subjects.get(site.id).marks == nil ||
			slices.ContainsFunc(uses, func(u Use) bool { return u.Limit.Max > 0 && u.Used+ahead >= u.Limit.Max }) {
			continue
		}
		l.do(&forgiveness{id: site.id})
		for i := range uses {
			uses[i].Refused = 0
		}
	}
}

// charge records the sends and counts them: those that fit a watched subject,
// then those that do not, without it.
func (l *Ledger) charge(d *decision, t *Take, tokens []Token) {
	d.result.OK, d.result.Charged = true, len(tokens)
	if t.Outcome != 0 {
		d.result.Moved += len(tokens)
	}
	for from, to := 0, 0; from < len(tokens); from = to {
		to = len(tokens)
		for i := range d.sites {
			if fits := d.sites[i].fits; fits > from {
				to = min(to, fits)
			}
		}
		l.chargeFitting(d, t, tokens[from:to], from)
	}
}

// chargeFitting charges sends to the subjects that more than from of them fit.
func (l *Ledger) chargeFitting(d *decision, t *Take, tokens []Token, from int) {
	members, limits := l.space.members[:0], l.space.limits[:0]
	unkept := len(d.sites) > 0
	for i := range d.sites {
		site := &d.sites[i]
		if site.fits <= from {
			unkept = false
			continue
		}
		if !l.admit(site, d.at) {
			l.uncounted += int64(len(tokens))
			continue
		}
		members = append(members, site.id)
		limits = append(limits, t.Subjects[i].Limits)
		for j := site.from; j < site.to; j++ {
			d.result.Uses[j].Used += min(d.adds[j], int64(len(tokens)))
		}
	}
	l.space.members, l.space.limits = members, limits
	if len(members) == 0 && unkept {
		return // past the ceiling there is no memory for the sends either
	}
	l.space.charge = charge{at: d.at, when: d.when, payers: l.payers(members).with(t.Outcome), limits: limits, tokens: tokens}
	l.do(&l.space.charge)
}

// admit makes sure that the subject of a site exists, unless the memory
// ceiling forbids it.
func (l *Ledger) admit(site *site, at int64) bool {
	if site.known {
		return true
	}
	// A Take may name a subject twice.
	if id, s := l.subjects.named(site.name); s != nil {
		site.id, site.known = id, true
		return true
	}
	if l.ceiling() {
		return false
	}
	site.id, site.known = l.subjects.vacant(), true
	l.do(&newSubject{id: site.id, name: strings.Clone(site.name), at: at})
	return true
}

// payers is the number of one subject, or of a group made for several.
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
