package attribution

import (
	"hash/maphash"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/logline"
	"sluice/sidecar/sketch"
	"sluice/sidecar/usual"
)

// A table is all that is known of who sends, within its memory. An Attribution locks and
// saves it.
type table struct {
	Options
	length   int64 // of a pane in milliseconds; 0: there is one that never ends
	seed     maphash.Seed
	authors  authors
	subjects subjects
	sheets   int // of evidence, of all authors
	scratch  map[uint32]sketch.Sum
	usual    *usual.Hours
	dated    dated // what day has last returned
}

// The parts of a window that have a pane each; one more is kept, as in ratelimit, for the
// oldest counts until all of it has left the window.
const parts = 6

func newTable(o Options) table {
	t := table{Options: o, length: (o.Window / parts).Milliseconds(), seed: maphash.MakeSeed(),
		authors: newAuthors(int(orUnbounded(int64(o.MaxAuthors)))), subjects: newSubjects(),
		scratch: map[uint32]sketch.Sum{}}
	t.Memory = orUnbounded(o.Memory)
	t.usual = usual.New(t.mostUsual())
	if o.Counts == nil {
		t.Counts = func(time.Time, string) Counts { return Counts{} }
	}
	if o.Epoch == nil {
		t.Epoch = func(string) int64 { return 0 }
	}
	if o.Stopped == nil {
		t.Stopped = func(time.Time, time.Time, sidecar.Author, string) string { return "" }
	}
	return t
}

func orUnbounded(most int64) int64 {
	if most == 0 {
		return 1 << 40
	}
	return most
}

// record takes in what became of a send.
func (t *table) record(now time.Time, o *logline.Outcome) {
	if o.Result == ratelimit.Delivered && !o.Charged { // as most
		if s := t.subjects.byName[o.Payer.Subject()]; s != nil {
			t.forgive(s, o.Token)
		}
		return
	}
	s, _ := t.subject(now, o.Payer.Subject())
	if o.Charged {
		m := Message{Subject: s.name, Author: *o.Author, To: []envelope.Address{envelope.FoldRouted(o.Entry.Recipient)}}
		t.count(s, now, o.When, &m, 1, 1)
	}
	if o.Result != ratelimit.Delivered {
		t.noteBad(s, now, o)
	}
	t.resize(s)
}

// number is that of the pane of a time.
func (t *table) number(now, at time.Time) int64 {
	if t.length == 0 {
		return 0
	}
	ms := t.Clock.Store(now).UnixMilli()
	if at != now {
		ms -= max(0, now.Sub(at).Milliseconds())
	}
	return ms / t.length
}

// count adds sends of a message at a time to the pane and the minute of that.
func (t *table) count(s *subject, now, at time.Time, m *Message, tried, sent uint32) {
	number := t.number(now, at)
	if number < s.last-parts {
		return // it has left the window
	}
	p := s.pane(number)
	id := t.authors.numbers[m.Author.Key]
	e := p.Find(id)
	if e == nil {
		if id = t.admit(s, now, &m.Author); id == 0 {
			return
		}
		if e = p.Find(id); e == nil {
			e = t.enter(s, p, id)
		}
	}
	e.Tried, e.Sent = e.Tried+tried, e.Sent+sent
	p.Tried, p.Sent = p.Tried+int64(tried), p.Sent+int64(sent)
	t.changed(s, now)
	t.observe(e, number, m, tried)
	t.minute(s, at, id, tried, sent)
}

// admit returns the number of an author that has no entry in a pane; 0 if there is no room.
func (t *table) admit(s *subject, now time.Time, who *sidecar.Author) uint32 {
	if !chosen(who) {
		return t.authors.number(who, now)
	}
	id, same := t.authors.numbers[who.Key], 0
	for _, n := range s.chosen {
		other := &t.authors.all[n]
		if n == id {
			return id
		}
		if other.Account == who.Account && other.Key[:6] == who.Key[:6] {
			same++
		}
	}
	if same >= maxChosen {
		rest := others(who)
		return t.authors.number(&rest, now)
	}
	if id = t.authors.number(who, now); id != 0 {
		s.chosen = append(s.chosen, id)
	}
	return id
}

// enter makes an entry for an author that has none.
func (t *table) enter(s *subject, p *sketch.Pane, id uint32) *sketch.Entry {
	t.authors.use(id)
	e, gone := p.Enter(id)
	if gone != 0 {
		t.release(gone)
	}
	t.resize(s)
	return e
}

// release ends one use of an author.
func (t *table) release(id uint32) {
	if t.authors.release(id) {
		t.forgetEvidence(id)
	}
}
