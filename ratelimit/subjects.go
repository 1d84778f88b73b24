package ratelimit

// A subject is the state of one Subject.
type subject struct {
	name    string             // empty: a free place
	rings   []byte             // packed, see ring.pack; out of date while an openSubject is changed
	epoch   int64              // Unix milliseconds of the last reset; sends dated up to it count nothing
	touched int64              // Unix milliseconds of the last change
	marks   map[Token]struct{} // marks of sends refused since a limit was reached; nil for nearly all
}

// maxMarks is how many distinct refused sends are counted for one subject.
const maxMarks = 4096

const pageSize = 1024

// A page is an array of places for subjects. Pages never move, so that growing
// copies nothing. A snapshot copies one page at a time.
type page struct {
	places [pageSize]subject
	used   int
	low    int    // no place before this one is free
	upTo   uint64 // the restored page has the changes up to this one; see Ledger.Replay
}

// subjects holds all subjects, by number and by name.
type subjects struct {
	pages []*page
	first int // no page before this one has a free place
	index map[string]uint32
	peak  int // most entries that index has had

	opened  [openPlaces]openSubject
	packing []byte // memory for close
}

func (t *subjects) page(id uint32) *page { return t.pages[id/pageSize] }

func (t *subjects) get(id uint32) *subject { return &t.page(id).places[id%pageSize] }

// byName returns a subject and its number, or nil.
func (t *subjects) byName(name string) (uint32, *subject) {
	id, ok := t.index[name]
	if !ok {
		return 0, nil
	}
	return id, t.get(id)
}

// vacant is the lowest free number: so the last pages become empty and can be
// freed.
func (t *subjects) vacant() uint32 {
	for t.first < len(t.pages) && t.pages[t.first].used == pageSize {
		t.first++
	}
	t.growTo(t.first)
	p := t.pages[t.first]
	for p.places[p.low].name != "" {
		p.low++
	}
	return uint32(t.first*pageSize + p.low)
}

// growTo makes all pages up to page n.
func (t *subjects) growTo(n int) {
	for n >= len(t.pages) {
		t.pages = append(t.pages, new(page))
	}
}

// place puts a new subject at a number. In a replay the number may still belong to a
// subject that had been dropped by then, because drops are not recorded.
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
	t.discard(id)
	*s = subject{}
	p := t.page(id)
	p.used--
	p.low = min(p.low, int(id%pageSize))
	t.first = min(t.first, int(id/pageSize))
}

// trim frees empty pages at the end, and copies an index that was much larger
// once, for a map never shrinks.
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
