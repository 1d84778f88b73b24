package ratelimit

import (
	"slices"
	"time"
)

// fresh is what of a Take was not charged yet.
type fresh struct {
	tokens, marks []Token
}

func (l *Ledger) fresh(t Take, at int64) (f fresh) {
	seen := map[Token]struct{}{}
	for i, token := range t.Tokens {
		if _, twice := seen[token]; twice || token == 0 || l.known(token, at) {
			continue
		}
		if len(t.Tokens) > 1 {
			seen[token] = struct{}{}
		}
		f.tokens = append(f.tokens, token)
		if i < len(t.Marks) {
			f.marks = append(f.marks, t.Marks[i])
		}
	}
	return f
}

// A decision is what measure found out about a Take.
type decision struct {
	result Result
	at     int64 // time of the decision
	when   int64 // what the sends are dated
	full   bool  // a limit has no room
	sites  []site
}

// A site is one subject of a decision.
type site struct {
	name  string
	id    uint32
	known bool // there is such a subject
	from  int  // its first Use
	to    int  // after its last
}

// measure finds what every limit of a Take has counted, and whether n more
// sends dated when have room in it.
func (l *Ledger) measure(t Take, at, when, n int64) decision {
	d := decision{at: at, when: when}
	d.result.At = time.UnixMilli(at)
	d.result.Uses = make([]Use, 0, 2*len(t.Subjects))
	d.sites = make([]site, 0, len(t.Subjects))
	for _, sub := range t.Subjects {
		id, s := l.subjects.named(sub.Name)
		d.sites = append(d.sites, site{sub.Name, id, s != nil, len(d.result.Uses), len(d.result.Uses) + len(sub.Limits)})
		var rings []ring
		if s != nil {
			rings = l.open(s, at)
		}
		for _, limit := range sub.Limits {
			u := l.use(s, rings, limit, t.Ahead, when, at, n)
			u.Subject = sub.Name
			d.full = d.full || u.Full
			d.result.Uses = append(d.result.Uses, u)
		}
	}
	return d
}

// use measures one limit. s is nil where the subject is new.
func (l *Ledger) use(s *subject, rings []ring, limit Limit, ahead, when, at, n int64) Use {
	u := Use{Limit: limit}
	w := newWindow(limit.Window)
	if w.index(when) < w.oldest(at) {
		n = 0
	}
	var r *ring
	if s != nil {
		u.Epoch, u.Refused = s.epoch, int64(len(s.marks))
		if r = find(rings, w); r != nil {
			u.Used = r.sum().Sent
		}
		if when <= s.epoch || r != nil && !r.counts(when, at) {
			n = 0
		}
	}
	if limit.Max == 0 || n == 0 || u.Used+ahead+n <= limit.Max {
		return u
	}
	u.Full = true
	if room := limit.Max - ahead - n; room >= 0 {
		u.Frees = time.UnixMilli(r.frees(room))
	}
	return u
}

func find(rings []ring, w window) *ring {
	for i := range rings {
		if rings[i].window == w {
			return &rings[i]
		}
	}
	return nil
}

// refuse counts the refused sends against the subjects that refused.
func (l *Ledger) refuse(d *decision, marks []Token) {
	for _, site := range d.sites {
		uses := d.result.Uses[site.from:site.to]
		if !slices.ContainsFunc(uses, func(u Use) bool { return u.Full }) {
			continue
		}
		if len(marks) == 0 || !l.admit(&site, d.at) {
			continue
		}
		s := l.subjects.get(site.id)
		unseen := s.unseen(marks)
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

// charge records the sends and counts them.
func (l *Ledger) charge(d *decision, t Take, tokens []Token) {
	if l.gains(d, t) {
		// Sends of this millisecond are not in the new ring; see ring.since.
		l.last++
		if d.when == d.at {
			d.when = l.last
		}
		d.at = l.last
	}
	c := charge{at: d.at, when: d.when, tokens: tokens}
	members := make([]uint32, 0, len(d.sites))
	for i := range d.sites {
		site := &d.sites[i]
		if !l.admit(site, d.at) {
			l.uncounted += int64(len(tokens))
			continue
		}
		members = append(members, site.id)
		c.windows = append(c.windows, windowsOf(t.Subjects[i].Limits))
		for j := site.from; j < site.to; j++ {
			l.raise(&d.result.Uses[j], site, d, int64(len(tokens)))
		}
	}
	d.result.OK, d.result.Charged = true, len(tokens)
	if len(members) == 0 && len(d.sites) > 0 {
		return // past the ceiling there is no memory for the sends either
	}
	c.payers = l.payers(members)
	l.do(&c)
}

// gains tells whether a subject gets a window in which it was not counted.
func (l *Ledger) gains(d *decision, t Take) bool {
	for i, site := range d.sites {
		if !site.known {
			continue
		}
		rings := l.open(l.subjects.get(site.id), d.at)
		for _, limit := range t.Subjects[i].Limits {
			if len(rings) > 0 && find(rings, newWindow(limit.Window)) == nil {
				return true
			}
		}
	}
	return false
}

// raise adds to a Use the sends that count in it.
func (l *Ledger) raise(u *Use, site *site, d *decision, n int64) {
	s := l.subjects.get(site.id)
	w := newWindow(u.Limit.Window)
	if d.when <= s.epoch || w.index(d.when) < w.oldest(d.at) {
		return
	}
	if rings := l.open(s, d.at); len(rings) > 0 {
		if r := find(rings, w); r == nil && d.when < d.at || r != nil && d.when < r.since {
			return
		}
	}
	u.Used += n
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
	l.do(&newSubject{id: site.id, name: site.name, at: at})
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
		l.do(&newGroup{id: id, members: members})
	}
	return payersGroup | payers(id)
}

func windowsOf(limits []Limit) []int64 {
	ws := make([]int64, len(limits))
	for i, l := range limits {
		ws[i] = l.Window.Milliseconds()
	}
	return ws
}
