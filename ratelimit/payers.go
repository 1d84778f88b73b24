package ratelimit

import "encoding/binary"

// payers packs into 32 bits who was charged for a send and what became of it. The upper
// three bits are the Outcome. The rest is the number of a subject or, with payersGroup
// set, of a group.
type payers uint32

const (
	payersGroup  payers = 1 << 28
	outcomeShift        = 29
)

func (p payers) who() payers { return p &^ (7 << outcomeShift) }

func (p payers) outcome() Outcome { return Outcome(p >> outcomeShift) }

func (p payers) with(o Outcome) payers { return p.who() | payers(o)<<outcomeShift }

// A group is a set of subjects that are charged together. All sends with the same
// payers share one group.
type group struct {
	members []uint32
	sends   int // how many sends refer to it
}

// groups holds all groups, by number and by members.
type groups struct {
	list  []group
	index map[string]uint32
	free  []uint32
	upTo  uint64 // the restored groups have the changes up to this one; see Ledger.Replay
}

func groupKey(members []uint32) string {
	b := make([]byte, 0, 32)
	for _, m := range members {
		b = binary.LittleEndian.AppendUint32(b, m)
	}
	return string(b)
}

// vacant is a free number for a new group.
func (t *groups) vacant() uint32 {
	if n := len(t.free); n > 0 {
		return t.free[n-1]
	}
	return uint32(len(t.list))
}

// place puts a group at a number. The count of sends that refer to it stays.
func (t *groups) place(id uint32, members []uint32) {
	if n := len(t.free); n > 0 && t.free[n-1] == id {
		t.free = t.free[:n-1]
	}
	for int(id) >= len(t.list) {
		t.list = append(t.list, group{})
	}
	g := &t.list[id]
	if old := groupKey(g.members); t.index[old] == id {
		delete(t.index, old)
	}
	g.members = members
	t.index[groupKey(members)] = id
}

// refer adds n to the count of sends that refer to the group of p, if p is a group.
func (t *groups) refer(p payers, n int) {
	if p&payersGroup == 0 {
		return
	}
	id := uint32(p.who() &^ payersGroup)
	for int(id) >= len(t.list) { // a snapshot's sends may be newer than its groups
		t.list = append(t.list, group{})
	}
	g := &t.list[id]
	g.sends += n
}

// sweep frees the numbers of groups to which no send refers. It reports whether
// there is any that was not free before.
func (t *groups) sweep() (freed bool) {
	t.free = t.free[:0]
	for id := len(t.list) - 1; id >= 0; id-- {
		if g := &t.list[id]; g.sends == 0 {
			if key := groupKey(g.members); t.index[key] == uint32(id) {
				delete(t.index, key)
			}
			freed = freed || g.members != nil
			g.members = nil
			t.free = append(t.free, uint32(id))
		}
	}
	return freed
}

// each calls f with the number of each subject in p.
func (t *groups) each(p payers, f func(id uint32)) {
	if p&payersGroup == 0 {
		f(uint32(p.who()))
		return
	}
	id := int(p.who() &^ payersGroup)
	if id >= len(t.list) {
		return // the group was lost with a damaged file
	}
	for _, member := range t.list[id].members {
		f(member)
	}
}

// has reports whether a subject is in p.
func (t *groups) has(p payers, id uint32) (has bool) {
	t.each(p, func(one uint32) { has = has || one == id })
	return has
}
