package attribution

// maxEntries is how many authors a pane tells apart.
const maxEntries = 128

// An entry is what one author has sent in a pane: so much, or less by at most err.
type entry struct {
	author           uint32 // number in authors
	tried, sent, err uint32
}

// A pane has the sends of a subject in one part of the window, by author. It is a summary by
// Space-Saving (Metwally, Agrawal, El Abbadi 2005): up to maxEntries authors are counted
// exactly. Each further one takes the place of the least, and begins with its count. So no
// author is counted too low, and each with more than a maxEntries-th of all has an entry.
type pane struct {
	number      int64 // of the part of time, counted from 1970
	tried, sent int64 // of all authors
	floor       uint32
	entries     []entry
}

// find returns the entry of an author, or nil. Who sends most is found first.
func (p *pane) find(author uint32) *entry {
	for i := range p.entries {
		if p.entries[i].author != author {
			continue
		}
		if i == 0 {
			return &p.entries[0]
		}
		p.entries[i], p.entries[i-1] = p.entries[i-1], p.entries[i]
		return &p.entries[i-1]
	}
	return nil
}

// enter makes an entry for an author that has none, and returns the author that had to go
// for it, or 0. An author that has no entry may have had one: floor is what it has tried at
// most.
func (p *pane) enter(author uint32) (e *entry, gone uint32) {
	if len(p.entries) < maxEntries {
		p.entries = append(p.entries, entry{author, p.floor, p.floor, p.floor})
		return &p.entries[len(p.entries)-1], 0
	}
	e = &p.entries[0]
	for i := range p.entries {
		if p.entries[i].tried < e.tried {
			e = &p.entries[i]
		}
	}
	gone, p.floor = e.author, e.tried
	*e = entry{author, p.floor, p.floor, p.floor}
	return e, gone
}

// A sum is what an author has sent in several panes, or less by at most err.
type sum struct{ tried, sent, err int64 }

// sums adds up by author what the panes from a number on have, in to, which it returns. An author without an
// entry in a pane may have tried its floor there.
func sums(panes []pane, from int64, to map[uint32]sum) map[uint32]sum {
	clear(to)
	var floor int64
	for i := range panes {
		p := &panes[i]
		if p.number < from {
			continue
		}
		floor += int64(p.floor)
		for _, e := range p.entries {
			s, low := to[e.author], int64(p.floor)
			to[e.author] = sum{s.tried + int64(e.tried) - low, s.sent + int64(e.sent) - low, s.err + int64(e.err) - low}
		}
	}
	if floor == 0 { // nearly always
		return to
	}
	for author, s := range to {
		to[author] = sum{s.tried + floor, s.sent + floor, s.err + floor}
	}
	return to
}
