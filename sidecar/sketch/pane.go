package sketch

// MaxEntries is how many authors a pane tells apart.
const MaxEntries = 128

// An Entry is what one author has sent in a pane: so much, or less by at most Err.
type Entry struct {
	Author           uint32 // the number of one
	Tried, Sent, Err uint32
}

// A Pane has the sends in one part of a window, by author. It is a summary by
// Space-Saving (Metwally, Agrawal, El Abbadi 2005): up to MaxEntries authors are counted
// exactly. Each further one takes the place of the least, and begins with its count. So no
// author is counted too low, and each with more than a MaxEntries-th of all has an entry.
type Pane struct {
	Number      int64  // of the part of time, counted from 1970
	Tried, Sent int64  // of all authors
	Floor       uint32 // what an author without an entry has tried at most
	Entries     []Entry
}

// Find returns the entry of an author, or nil. Who sends most is found first.
func (p *Pane) Find(author uint32) *Entry {
	for i := range p.Entries {
		if p.Entries[i].Author != author {
			continue
		}
		if i == 0 {
			return &p.Entries[0]
		}
		p.Entries[i], p.Entries[i-1] = p.Entries[i-1], p.Entries[i]
		return &p.Entries[i-1]
	}
	return nil
}

// Enter makes an entry for an author that has none, and returns the author that had to go
// for it, or 0. An author that has no entry may have had one: Floor is what it has tried at
// most.
func (p *Pane) Enter(author uint32) (e *Entry, gone uint32) {
	if len(p.Entries) < MaxEntries {
		p.Entries = append(p.Entries, Entry{author, p.Floor, p.Floor, p.Floor})
		return &p.Entries[len(p.Entries)-1], 0
	}
	e = &p.Entries[0]
	for i := range p.Entries {
		if p.Entries[i].Tried < e.Tried {
			e = &p.Entries[i]
		}
	}
	gone, p.Floor = e.Author, e.Tried
	*e = Entry{author, p.Floor, p.Floor, p.Floor}
	return e, gone
}

// A Sum is what an author has sent in several panes, or less by at most Err.
type Sum struct{ Tried, Sent, Err int64 }

// Sums adds up by author what the panes from a number on have, in to, which it returns. An author without an
// entry in a pane may have tried its floor there.
func Sums(panes []Pane, from int64, to map[uint32]Sum) map[uint32]Sum {
	clear(to)
	var floor int64
	for i := range panes {
		p := &panes[i]
		if p.Number < from {
			continue
		}
		floor += int64(p.Floor)
		for _, e := range p.Entries {
			s, low := to[e.Author], int64(p.Floor)
			to[e.Author] = Sum{s.Tried + int64(e.Tried) - low, s.Sent + int64(e.Sent) - low, s.Err + int64(e.Err) - low}
		}
	}
	if floor == 0 { // nearly always
		return to
	}
	for author, s := range to {
		to[author] = Sum{s.Tried + floor, s.Sent + floor, s.Err + floor}
	}
	return to
}
