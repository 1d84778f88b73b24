package ratelimit

// A subject is what the ledger keeps of one name.
type subject struct {
	name    string             // empty marks a free place
	rings   []byte             // packed, see ring.pack; behind those that are open, see openSubject
	epoch   int64              // Unix milliseconds of the last reset; sends dated up to it count nothing
	touched int64              // Unix milliseconds of the last change
	marks   map[Token]struct{} // refused since a limit was reached; nil for nearly all
}

// maxMarks bounds the refused sends that are told apart for one subject.
const maxMarks = 4096

const pageSize = 1024

// A page is a run of places for subjects. Pages never move, so that growing
// copies nothing, and one is what a snapshot copies at a time.
type page struct {
	places [pageSize]subject
	used   int
	low    int    // no place before this one is free
	upTo   uint64 // the changes up to this one are in it already; see Ledger.Replay
}

// subjects holds the subjects, by number and by name.
type subjects struct {
	pages []*page
	first int // no page before this one has a free place
	index map[string]uint32
	peak  int // most subjects since index was made

	opened  [openPlaces]openSubject
	packing []byte // for close
}

func (t *subjects) page(id uint32) *page { return t.pages[id/pageSize] }

func (t *subjects) get(id uint32) *subject { return &t.page(id).places[id%pageSize] }

// named returns a subject, or nil.
func (t *subjects) named(name string) (uint32, *subject) {
	id, ok := t.index[name]
	if !ok {
		return 0, nil
	}
	return id, t.get(id)
}

// vacant is the number that the next new subject gets: the lowest, so that
// the last pages can be given back.
func (t *subjects) vacant() uint32 {
	for t.first < len(t.pages) && t.pages[t.first].used == pageSize {
		t.first++
	}
	t.reach(t.first)
	p := t.pages[t.first]
	for p.places[p.low].name != "" {
		p.low++
	}
	return uint32(t.first*pageSize + p.low)
}

// reach makes the pages up to number n.
func (t *subjects) reach(n int) {
	for n >= len(t.pages) {
		t.pages = append(t.pages, new(page))
	}
}

// place puts a new subject at a number. In a replay the number may still
// belong to a subject that had been dropped when it was given out again.
func (t *subjects) place(id uint32, s subject) {
	t.drop(id)
	t.page(id).used++
	*t.get(id) = s
	t.index[s.name] = id
	t.peak = max(t.peak, len(t.index))
}

// drop empties a place.
func (t *subjects) drop(id uint32) {
	s := t.get(id)
	if s.name == "" {
		return
	}
	if t.index[s.name] == id {
		delete(t.index, s.name)
	}
	t.forget(id)
	*s = subject{}
	p := t.page(id)
	p.used--
	p.low = min(p.low, int(id%pageSize))
	t.first = min(t.first, int(id/pageSize))
}

// trim gives back the memory of empty pages at the end, and of an index that
// has become far too large: a map never shrinks by itself.
func (t *subjects) trim() {
	for n := len(t.pages); n > 0 && t.pages[n-1].used == 0; n-- {
		t.pages = t.pages[:n-1]
	}
	t.pages = t.pages[:len(t.pages):len(t.pages)]
	t.first = min(t.first, len(t.pages))
	if t.peak < 4*len(t.index)+pageSize {
		return
	}
	index := make(map[string]uint32, len(t.index))
	for name, id := range t.index {
		index[name] = id
	}
	t.index, t.peak = index, len(index)
}
