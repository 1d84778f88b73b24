package attribution

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
	"net/netip"
	"slices"

	"sluice/sidecar"
)

const (
	// maxSheets bounds the sheets of evidence. While half of them and of the memory are free an author gets
	// one with its first send, else only one that has tried enough to matter.
	maxSheets = 20_000
	enough    = 20

	sheetSize   = 768 // bytes, about
	maxNetworks = 16
	maxPlaces   = 8
	maxText     = 200 // bytes of a subject or name
)

// evidence is what is known of an author's sends beside their number. A sheet covers at most
// a window: together the two cover at least the last one.
type evidence struct{ now, before *sheet }

type sheet struct {
	began      int64      // pane
	recipients [32]uint64 // a bit for each, by its hash
	senders    [2]uint64
	networks   top
	places     top // domains of recipients
	header     text
	subject    text
}

// A top counts what is most frequent, by Space-Saving as in a pane.
type top struct {
	rows []row
	more bool // there were others
}

type row struct {
	key  uint64
	n    uint32
	name []byte // empty: the key says all
}

// add counts n of a key. It allocates nothing once it is full.
func (t *top) add(key uint64, name string, n uint32, most int) {
	least := 0
	for i := range t.rows {
		if t.rows[i].key == key {
			t.rows[i].n += n
			return
		}
		if t.rows[i].n < t.rows[least].n {
			least = i
		}
	}
	if len(t.rows) < most {
		t.rows = append(t.rows, row{key, n, []byte(name)})
		return
	}
	t.more = true
	r := &t.rows[least]
	r.key, r.n, r.name = key, r.n+n, append(r.name[:0], name...)
}

// A text is the most frequent one, if there is one that most have (Boyer and Moore's vote).
type text struct {
	is          []byte
	votes, seen int64
}

func (t *text) add(s string, n int64) {
	s = s[:min(len(s), maxText)]
	switch {
	case s == "":
	case string(t.is) == s:
		t.votes, t.seen = t.votes+n, t.seen+n
	case t.votes <= n:
		t.is, t.votes, t.seen = append(t.is[:0], s...), n, n
	default:
		t.votes -= n
	}
}

// local is the network of a client on this host, or of none.
const local = 1

// networkOf packs a client's network, of IPv4 its /24, of IPv6 its /48, into a number.
func networkOf(client string) uint64 {
	ip, err := netip.ParseAddr(client)
	ip = ip.Unmap()
	switch {
	case err != nil || ip.IsLoopback():
		return local
	case ip.Is4():
		b := ip.As4()
		return 4<<48 | uint64(b[0])<<16 | uint64(b[1])<<8 | uint64(b[2])
	}
	b := ip.As16()
	return 6<<48 | binary.BigEndian.Uint64(b[:8])>>16
}

// networkName is the name of a packed network.
func networkName(n uint64) string {
	switch n >> 48 {
	case 4:
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 16), byte(n >> 8), byte(n)}), 24).String()
	case 6:
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], n<<16)
		return netip.PrefixFrom(netip.AddrFrom16(b), 48).String()
	}
	return "this host"
}

// observe adds a message to the evidence of an author, of which e is the entry in a pane.
func (a *Attribution) observe(e *entry, pane int64, m *Message) {
	v := a.evidence[e.author]
	if v == nil {
		some := e.tried-e.err >= enough || e.err == 0 && a.sheets < maxSheets/2 && a.memory() < a.Memory/2
		if !some || a.sheets >= maxSheets || a.memory()+sheetSize > a.Memory {
			return
		}
		v = &evidence{now: a.newSheet(pane)}
		a.evidence[e.author] = v
	}
	if pane >= v.now.began+parts && a.length > 0 {
		a.forgetSheet(v.before)
		if v.before = v.now; pane >= v.now.began+2*parts {
			a.forgetSheet(v.before)
			v.before = nil
		}
		v.now = a.newSheet(pane)
	}
	v.now.add(a.seed, m)
}

func (a *Attribution) newSheet(pane int64) *sheet {
	a.sheets++
	return &sheet{began: pane}
}

func (a *Attribution) forgetSheet(s *sheet) {
	if s != nil {
		a.sheets--
	}
}

// forgetEvidence forgets that of an author.
func (a *Attribution) forgetEvidence(author uint32) {
	if v := a.evidence[author]; v != nil {
		a.forgetSheet(v.now)
		a.forgetSheet(v.before)
		delete(a.evidence, author)
	}
}

func (s *sheet) add(seed maphash.Seed, m *Message) {
	for i := range m.To {
		to := &m.To[i]
		place := maphash.String(seed, to.Domain)
		setBit(s.recipients[:], maphash.String(seed, to.Local)^bits.RotateLeft64(place, 17))
		s.places.add(place, to.Domain, 1, maxPlaces)
	}
	if r := m.Request; r != nil {
		setBit(s.senders[:], maphash.String(seed, r.Sender))
		s.networks.add(networkOf(r.ClientAddress), "", uint32(len(m.To)), maxNetworks)
		s.header.add(r.Script, 1)
		s.subject.add(r.Subject, int64(len(m.To)))
	}
}

// setBit sets the bit of a hash.
func setBit(set []uint64, hash uint64) {
	hash %= uint64(len(set)) * 64
	set[hash/64] |= 1 << (hash % 64)
}

// distinct estimates how many different hashes have set the bits, by linear counting (Whang,
// Vander-Zanden, Taylor 1990).
func distinct(sets ...[]uint64) int64 {
	size, zero := 0, 0
	for i := range sets[0] {
		var word uint64
		for _, set := range sets {
			word |= set[i]
		}
		size, zero = size+64, zero+64-bits.OnesCount64(word)
	}
	return int64(math.Round(-float64(size) * math.Log(max(float64(zero), 0.5)/float64(size))))
}

// A Share is how many of an author's sends have something in common, about.
type Share struct {
	Name string `json:"name"`
	Sent int64  `json:"sent"`
}

// show adds to an Author what its evidence says.
func (v *evidence) show(to *Author) {
	sheets := []*sheet{v.now}
	if v.before != nil {
		sheets = append(sheets, v.before)
	}
	var recipients, senders [][]uint64
	networks, places := map[string]int64{}, map[string]int64{}
	for _, s := range sheets {
		recipients, senders = append(recipients, s.recipients[:]), append(senders, s.senders[:])
		for _, r := range s.networks.rows {
			networks[networkName(r.key)] += int64(r.n)
		}
		for _, r := range s.places.rows {
			places[string(r.name)] += int64(r.n)
		}
		to.MoreNetworks = to.MoreNetworks || s.networks.more
		if to.Header == "" {
			to.Header = sidecar.Printable(string(s.header.is))
		}
		if to.Subject == "" && len(s.subject.is) > 0 {
			to.Subject, to.SubjectCount = sidecar.Printable(string(s.subject.is)), s.subject.seen
		}
	}
	to.Recipients, to.Senders = min(distinct(recipients...), to.Tried), min(distinct(senders...), to.Tried)
	to.Networks, to.Destinations = shares(networks, to.Tried), shares(places, to.Tried)
}

// shares lists counts, the largest first, of which none is more than all.
func shares(counts map[string]int64, all int64) []Share {
	list := make([]Share, 0, len(counts))
	for name, n := range counts {
		list = append(list, Share{sidecar.Printable(name), min(n, all)})
	}
	slices.SortFunc(list, func(a, b Share) int { return cmp.Or(cmp.Compare(b.Sent, a.Sent), cmp.Compare(a.Name, b.Name)) })
	return list
}
