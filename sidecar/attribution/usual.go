package attribution

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
)

const (
	// month and week are how many days, today's included, show what is usual.
	month = 35
	week  = 7
)

// A usual has the busiest hour of each of the last days of an author. The second-highest of
// these is what is usual, so that a weekly newsletter is, and what one day's attack has sent
// is not.
type usual struct {
	author      string
	first, last uint16       // days since 1970: of its first send, and the newest in busiest
	busiest     [month]uint8 // by day modulo month, as pack has it
}

// pack puts a number of sends into a byte, and unpack takes it out, at most 4.5% off and
// rounded.
func pack(n int64) uint8 {
	if n <= 0 {
		return 0
	}
	return uint8(min(255, 1+math.Round(8*math.Log2(float64(n)))))
}

func unpack(b uint8) int64 {
	if b == 0 {
		return 0
	}
	return int64(math.Round(math.Exp2(float64(b-1) / 8)))
}

// note takes in that n sends were made in an hour of a day.
func (u *usual) note(day uint16, n int64) (changed bool) {
	for u.last < day {
		u.last++
		u.busiest[u.last%month] = 0
		u.last = max(u.last, day-min(day, month)) // all before is zeroed by the rest
	}
	if u.last-day >= month {
		return false
	}
	b := &u.busiest[day%month]
	changed, *b = *b < pack(n), max(*b, pack(n))
	return changed
}

// in is the second-highest of the busiest hours of the days up to a day.
func (u *usual) in(days, day uint16) int64 {
	var highest, second uint8
	for d := day; d > 0 && day-d < days; d-- {
		if d > u.last || u.last-d >= month {
			continue
		}
		b := u.busiest[d%month]
		second = max(second, min(b, highest))
		highest = max(highest, b)
	}
	return unpack(second)
}

// quota is for how many sends an hour others leave room: half as much again as is usual in a
// week.
func (u *usual) quota(day uint16) int64 { return (3*u.in(week, day) + 1) / 2 }

// free is how many sends an hour need leave no room for others.
func (u *usual) free(day uint16, max_ int64) int64 {
	if u == nil || u.first >= day {
		return 0
	}
	return max(3*u.in(month, day)/2, max_/20)
}

// usuals are those of all domains.
type usuals struct {
	domains map[string]*habits
	changed []*habits // not saved as they are, the longest first
	authors int
	size    int64  // bytes, about
	pruned  uint16 // day
	since   time.Time
	peaks   map[uint32]peak
}

// habits are what the authors of a domain usually send.
type habits struct {
	domain  string
	of      []usual   // by author, sorted
	day     uint16    // to which quotas belongs
	quotas  int64     // the sum
	changed time.Time // as in saved
	size    int64
}

// A peak is what an author has sent in an hour, and in which pane of it most.
type peak struct{ sent, most, pane int64 }

func newUsuals() usuals { return usuals{domains: map[string]*habits{}, peaks: map[uint32]peak{}} }

// find returns the usual of an author, or nil.
func (h *habits) find(author string) *usual {
	if i, known := slices.BinarySearchFunc(h.of, author, func(u usual, key string) int { return strings.Compare(u.author, key) }); known {
		return &h.of[i]
	}
	return nil
}

// refresh adds up the quotas of a day, if that is not done.
func (h *habits) refresh(day uint16) {
	if h.day == day {
		return
	}
	h.day, h.quotas = day, 0
	for i := range h.of {
		h.quotas += h.of[i].quota(day)
	}
}

// day is that of a pane, by the time zone of this program.
func (a *Attribution) day(pane int64) uint16 {
	seconds := pane * a.length / 1000
	_, offset := time.Unix(seconds, 0).Zone()
	return uint16((seconds + int64(offset)) / 86400)
}

// hasUsual reports whether an author has usual hours: not if strangers choose what it sends,
// or if it is everybody.
func hasUsual(key string) bool {
	return key != sidecar.Loopback && !strings.HasPrefix(key, sidecar.ForwardPrefix)
}

// learn takes in the hour up to the newest pane of a subject, which is over. An hour belongs
// to the day on which most of it was sent: so what was sent at once shortly before midnight
// is of one day.
func (a *Attribution) learn(s *subject, now time.Time) {
	if a.length == 0 || !sidecar.IsDomain(s.name) {
		return
	}
	x := &a.usual
	clear(x.peaks)
	for i := range s.panes {
		p := &s.panes[i]
		if p.number <= s.last-parts || p.number > s.last {
			continue
		}
		for _, e := range p.entries {
			sent, pk := int64(e.sent)-int64(e.err), x.peaks[e.author]
			if sent > pk.most {
				pk.most, pk.pane = sent, p.number
			}
			pk.sent += max(0, sent)
			x.peaks[e.author] = pk
		}
	}
	for id, pk := range x.peaks {
		if key := a.authors.all[id].Key; pk.sent > 0 && hasUsual(key) {
			x.note(s.name, key, a.day(pk.pane), pk.sent, now, a)
		}
	}
}

// note takes in an hour of an author.
func (x *usuals) note(domain, author string, day uint16, sent int64, now time.Time, a *Attribution) {
	h := x.domains[domain]
	if h == nil {
		h = &habits{domain: strings.Clone(domain)}
		x.domains[h.domain] = h
	}
	u := h.find(author)
	if u == nil {
		if x.authors >= a.mostUsual() && !x.prune(day, a.mostUsual()) {
			return
		}
		i, _ := slices.BinarySearchFunc(h.of, author, func(u usual, key string) int { return strings.Compare(u.author, key) })
		h.of = slices.Insert(h.of, i, usual{author: strings.Clone(author), first: day, last: day})
		u = &h.of[i]
		x.resize(h, 1)
	}
	if !u.note(day, sent) {
		return
	}
	h.day = 0 // add up anew
	if x.since.IsZero() && u.in(week, day) > 0 {
		x.since = now
	}
	if h.changed.IsZero() && a.Notes != nil {
		h.changed = now
		x.changed = append(x.changed, h)
	}
}

// usualSize is how many bytes a usual takes, with its key and its part of a note.
const usualSize = 200

// mostUsual is how many authors may have one: they take at most a quarter of the memory.
func (a *Attribution) mostUsual() int {
	return int(min(orUnbounded(int64(a.MaxAuthors)), a.Memory/4/usualSize))
}

// resize takes in that so many authors of a domain were added.
func (x *usuals) resize(h *habits, more int) {
	x.authors += more
	size := int64(len(h.of)) * usualSize
	x.size, h.size = x.size+size-h.size, size
}

// prune forgets who has sent nothing for a month, at most once a day, and reports whether
// there is room then.
func (x *usuals) prune(day uint16, most int) bool {
	if x.pruned == day {
		return false
	}
	x.pruned = day
	for name, h := range x.domains {
		before := len(h.of)
		h.of = slices.DeleteFunc(h.of, func(u usual) bool { return u.last+month <= day })
		h.day = 0
		x.resize(h, len(h.of)-before)
		if len(h.of) == 0 {
			delete(x.domains, name)
		}
	}
	return x.authors < most
}

// A savedUsual is the note of a domain's habits.
type savedUsual struct {
	Authors []savedHours `json:"authors"`
}

type savedHours struct {
	Key     string `json:"key"`
	First   uint16 `json:"first"` // as in usual
	Last    uint16 `json:"last"`
	Busiest []byte `json:"busiest"` // of the days up to Last, the newest first
}

// usualEvery is how often at most the habits of a domain are saved. What a crash loses of
// them is mostly learned again from the panes.
const usualEvery = time.Hour

// saveUsual notes what has changed until a time. mu is not held while it writes.
func (a *Attribution) saveUsual(until time.Time) {
	if a.Notes == nil {
		return
	}
	for {
		name, n := "", savedUsual{}
		a.locked(func() {
			x := &a.usual
			if len(x.changed) == 0 || x.changed[0].changed.After(until) {
				return
			}
			h := x.changed[0]
			x.changed[0] = nil
			x.changed, h.changed = x.changed[1:], time.Time{}
			name, n = h.domain, h.saved()
		})
		switch {
		case name == "":
			return
		case len(n.Authors) == 0:
			a.report(a.habits.Drop(name))
		default:
			a.report(a.habits.Put(n, name))
		}
	}
}

func (h *habits) saved() (n savedUsual) {
	for i := range h.of {
		u := &h.of[i]
		s := savedHours{Key: u.author, First: u.first, Last: u.last}
		for d := range uint16(month) {
			s.Busiest = append(s.Busiest, u.busiest[(u.last-d)%month])
		}
		for len(s.Busiest) > 0 && s.Busiest[len(s.Busiest)-1] == 0 {
			s.Busiest = s.Busiest[:len(s.Busiest)-1]
		}
		n.Authors = append(n.Authors, s)
	}
	return n
}

// loadUsual goes on from the notes.
func (a *Attribution) loadUsual() {
	x := &a.usual
	a.habits.Load(func(name []string, n savedUsual) error {
		h := &habits{domain: name[0]}
		for _, s := range n.Authors {
			u := usual{author: s.Key, first: s.First, last: s.Last}
			for d, b := range s.Busiest[:min(len(s.Busiest), month, int(s.Last))] {
				u.busiest[(u.last-uint16(d))%month] = b
			}
			h.of = append(h.of, u)
		}
		slices.SortFunc(h.of, func(a, b usual) int { return cmp.Compare(a.author, b.author) })
		x.domains[h.domain] = h
		x.resize(h, len(h.of))
		return nil
	})
}
