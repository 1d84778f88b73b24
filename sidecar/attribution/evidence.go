package attribution

import (
	"hash/maphash"
	"math/bits"

	"sluice/sidecar/printable"
	"sluice/sidecar/senders"
	"sluice/sidecar/sketch"
)

const (
	// maxSheets bounds the sheets of evidence. While half of them and of the memory are free an author gets
	// one with its first send, else only one that has tried enough to matter.
	maxSheets = 20_000
	enough    = 20

	sheetSize       = 768 // bytes, about
	maxNetworks     = 16
	maxDestinations = 8
)

// evidence is what is known of an author's sends beside their number. A sheet covers at most
// a window: together the two cover at least the last one.
type evidence struct{ now, before *sheet }

type sheet struct {
	began        int64      // pane
	recipients   [32]uint64 // a bit for each, by its hash
	senders      [2]uint64
	networks     sketch.Top
	destinations sketch.Top // domains of recipients
	header       sketch.Text
	subject      sketch.Text
}

// observe adds a message to the evidence of an author, of which e is the entry in a pane. tried are
// those of its sends that were not counted before, when they were refused.
func (t *table) observe(e *sketch.Entry, pane int64, m *Message, tried uint32) {
	v := t.authors.all[e.Author].evidence
	if v == nil {
		some := e.Tried-e.Err >= enough || e.Err == 0 && t.sheets < maxSheets/2 && t.memory() < t.Memory/2
		if !some || t.sheets >= maxSheets || t.memory()+sheetSize > t.Memory {
			return
		}
		v = &evidence{now: t.newSheet(pane)}
		t.authors.all[e.Author].evidence = v
	}
	if pane >= v.now.began+parts && t.length > 0 {
		t.forgetSheet(v.before)
		if v.before = v.now; pane >= v.now.began+2*parts {
			t.forgetSheet(v.before)
			v.before = nil
		}
		v.now = t.newSheet(pane)
	}
	v.now.add(t.seed, m, tried)
}

func (t *table) newSheet(pane int64) *sheet {
	t.sheets++
	return &sheet{began: pane}
}

func (t *table) forgetSheet(s *sheet) {
	if s != nil {
		t.sheets--
	}
}

// forgetEvidence forgets that of an author.
func (t *table) forgetEvidence(author uint32) {
	if a := &t.authors.all[author]; a.evidence != nil {
		t.forgetSheet(a.evidence.now)
		t.forgetSheet(a.evidence.before)
		a.evidence = nil
	}
}

func (s *sheet) add(seed maphash.Seed, m *Message, tried uint32) {
	for i := range m.To {
		to := &m.To[i]
		domain := maphash.String(seed, to.Domain)
		sketch.SetBit(s.recipients[:], maphash.String(seed, to.Local)^bits.RotateLeft64(domain, 17))
		if uint32(i) < tried { // which ones were counted before is not known
			s.destinations.Add(domain, to.Domain, 1, maxDestinations)
		}
	}
	if r := m.Request; r != nil {
		sketch.SetBit(s.senders[:], maphash.String(seed, r.Sender))
		if tried > 0 {
			s.networks.Add(sketch.Network(r.ClientAddress), "", tried, maxNetworks)
		}
		s.header.Add(r.Script, 1)
		s.subject.Add(r.Subject, int64(len(m.To)))
	}
}

// show adds to an Author what its evidence says.
func (v *evidence) show(to *senders.Author) {
	sheets := []*sheet{v.now}
	if v.before != nil {
		sheets = append(sheets, v.before)
	}
	var recipients, names [][]uint64
	networks, destinations := map[string]int64{}, map[string]int64{}
	for _, s := range sheets {
		recipients, names = append(recipients, s.recipients[:]), append(names, s.senders[:])
		for _, r := range s.networks.Rows {
			networks[sketch.NetworkName(r.Key)] += int64(r.N)
		}
		for _, r := range s.destinations.Rows {
			destinations[string(r.Name)] += int64(r.N)
		}
		to.MoreNetworks = to.MoreNetworks || s.networks.More
		if to.Header == "" {
			to.Header = printable.Of(string(s.header.Is))
		}
		if to.Subject == "" && len(s.subject.Is) > 0 {
			to.Subject, to.SubjectCount = printable.Of(string(s.subject.Is)), s.subject.Seen
		}
	}
	to.Recipients, to.Senders = min(sketch.Distinct(recipients...), to.Tried), min(sketch.Distinct(names...), to.Tried)
	to.Networks, to.Destinations = senders.Shares(networks, to.Tried), senders.Shares(destinations, to.Tried)
}
