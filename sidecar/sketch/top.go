package sketch

// MaxText is how many bytes of a text are kept.
const MaxText = 200

// A Top counts what is most frequent, by Space-Saving as in a Pane.
type Top struct {
	Rows []Row
	More bool // there were others
}

// A Row is one key of a Top, and how often it was there.
type Row struct {
	Key  uint64
	N    uint32
	Name []byte // empty: the key says all
}

// Add counts n of a key, of which at most so many are told apart. It allocates nothing once it is full.
func (t *Top) Add(key uint64, name string, n uint32, most int) {
	least := 0
	for i := range t.Rows {
		if t.Rows[i].Key == key {
			t.Rows[i].N += n
			return
		}
		if t.Rows[i].N < t.Rows[least].N {
			least = i
		}
	}
	if len(t.Rows) < most {
		t.Rows = append(t.Rows, Row{key, n, []byte(name)})
		return
	}
	t.More = true
	r := &t.Rows[least]
	r.Key, r.N, r.Name = key, r.N+n, append(r.Name[:0], name...)
}

// A Text is the most frequent one, if there is one that most have (Boyer and Moore's vote).
type Text struct {
	Is    []byte
	Seen  int64 // how often Is was there since it won the vote
	votes int64
}

// Add counts n of a text, of which the first MaxText bytes matter.
func (t *Text) Add(s string, n int64) {
	s = s[:min(len(s), MaxText)]
	switch {
	case s == "":
	case string(t.Is) == s:
		t.votes, t.Seen = t.votes+n, t.Seen+n
	case t.votes <= n:
		t.Is, t.votes, t.Seen = append(t.Is[:0], s...), n, n
	default:
		t.votes -= n
	}
}
