package attribution

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/senders"
	"sluice/sidecar/sketch"
)

const (
	// saveEvery is how often at most a subject is saved. A crash loses what its authors have
	// sent since: not how much was sent, which the store keeps.
	saveEvery = time.Minute
	// maxNoted bounds the subjects that are saved: beyond it those that have sent enough,
	// and beyond twice as many none.
	maxNoted = 20_000
	// maxSaved is how many authors of a pane are saved, those that sent most.
	maxSaved = 32
)

// A note is a subject as it is saved.
type note struct {
	Length   int64               `json:"pane"` // milliseconds
	Epoch    int64               `json:"epoch,omitempty"`
	Authors  []savedAuthor       `json:"authors"`
	Panes    []savedPane         `json:"panes"`
	BadSends []savedBadSend      `json:"bads,omitempty"`
	Marks    []ratelimit.Token   `json:"marks,omitempty"`
	Spam     *senders.CalledSpam `json:"spam,omitempty"`
}

type savedAuthor struct {
	Key     string        `json:"key"`
	Proof   sidecar.Proof `json:"proof,omitempty"`
	Account string        `json:"account,omitempty"`
	First   int64         `json:"first"` // Unix seconds
}

type savedPane struct {
	Number  int64    `json:"n"`
	Tried   int64    `json:"tried"`
	Sent    int64    `json:"sent"`
	Floor   uint32   `json:"floor,omitempty"`
	Entries []uint32 `json:"of"` // an author's place in Authors, tried, sent and err, and so on
}

type savedBadSend struct {
	Token  ratelimit.Token `json:"t"`
	Author int             `json:"a"`
	Pane   int64           `json:"n"`
	Cause  sidecar.Cause   `json:"c"`
}

// changed has a subject saved within saveEvery.
func (t *table) changed(s *subject, now time.Time) {
	if s.changed.IsZero() && t.Notes != nil {
		s.changed = now
		t.subjects.changed = append(t.subjects.changed, s)
	}
}

// Tick forgets what has left the window, and saves what changed a while ago.
func (a *Attribution) Tick(_ context.Context, now time.Time) {
	a.locked(func() {
		number := a.number(now, now)
		for range 1000 { // at most: mail waits meanwhile
			quiet := a.subjects.quietest()
			if quiet == nil || quiet.last >= number-parts {
				break
			}
			a.learn(quiet, now)
			a.drop(quiet)
		}
	})
	a.save(now.Add(-saveEvery))
	a.saveUsual(now.Add(-usualEvery))
}

// Stop saves what is not saved.
func (a *Attribution) Stop(_ context.Context, now time.Time) {
	a.save(now)
	a.saveUsual(now)
}

// save notes what has changed until a time. mu is not held while it writes.
func (a *Attribution) save(until time.Time) {
	if a.Notes == nil {
		return
	}
	var gone []string
	a.locked(func() { gone, a.subjects.gone = a.subjects.gone, nil })
	for _, name := range gone {
		event.EmitError(a.Events, event.StoreFailed, a.notes.who.Drop(name))
	}
	for {
		name, n := "", note{}
		a.locked(func() { name, n = a.next(until) })
		if name == "" {
			return
		}
		event.EmitError(a.Events, event.StoreFailed, a.notes.who.Put(n, name))
	}
}

// next returns the next subject to save that has changed until a time; "" if there is none.
func (t *table) next(until time.Time) (string, note) {
	x := &t.subjects
	for len(x.changed) > 0 && !x.changed[0].changed.After(until) {
		s := x.changed[0]
		x.changed[0] = nil
		x.changed = x.changed[1:]
		if s.changed.IsZero() { // dropped meanwhile
			continue
		}
		s.changed = time.Time{}
		if s.noted == 0 {
			if x.noted >= 2*maxNoted || x.noted >= maxNoted && s.tried() < enough {
				continue
			}
			x.noted++
		}
		n := t.noteOf(s)
		s.noted = n.size()
		t.resize(s)
		return s.name, n
	}
	return "", note{}
}

func (s *subject) tried() (all int64) {
	for i := range s.panes {
		all += s.panes[i].Tried
	}
	return all
}

// size is how many bytes a note has, about.
func (n *note) size() int64 {
	size := 200 + 40*len(n.BadSends) + 20*len(n.Marks)
	for i := range n.Authors {
		size += 60 + len(n.Authors[i].Key)
	}
	for i := range n.Panes {
		size += 60 + 4*len(n.Panes[i].Entries)
	}
	return int64(size)
}

// noteOf is a subject as it is saved.
func (t *table) noteOf(s *subject) note {
	n := note{Length: t.length, Epoch: s.epoch, Spam: s.spam}
	places := map[uint32]int{}
	place := func(id uint32) int {
		i, known := places[id]
		if !known {
			i, places[id] = len(n.Authors), len(n.Authors)
			x := &t.authors.all[id]
			n.Authors = append(n.Authors, savedAuthor{x.Key, x.Proof, x.Account, x.first})
		}
		return i
	}
	for i := range s.panes {
		p := &s.panes[i]
		entries := slices.SortedFunc(slices.Values(p.Entries), func(a, b sketch.Entry) int { return cmp.Compare(b.Tried, a.Tried) })
		saved := savedPane{Number: p.Number, Tried: p.Tried, Sent: p.Sent, Floor: p.Floor}
		if len(entries) > maxSaved {
			saved.Floor = max(p.Floor, entries[maxSaved].Tried)
			entries = entries[:maxSaved]
		}
		for _, e := range entries {
			saved.Entries = append(saved.Entries, uint32(place(e.Author)), e.Tried, e.Sent, e.Err)
		}
		n.Panes = append(n.Panes, saved)
	}
	for token, b := range s.badSends {
		n.BadSends = append(n.BadSends, savedBadSend{token, place(b.author), b.pane, b.cause})
	}
	for mark := range s.marks {
		n.Marks = append(n.Marks, mark)
	}
	return n
}

// load goes on from the notes. What cannot be right in one is left out.
func (a *Attribution) load() {
	var all []*subject
	a.notes.who.Load(func(name []string, n note) error {
		if s := a.restored(name[0], &n); s != nil {
			all = append(all, s)
		} else {
			a.subjects.gone = append(a.subjects.gone, name[0])
		}
		return nil
	})
	slices.SortFunc(all, func(x, y *subject) int { return cmp.Or(cmp.Compare(x.last, y.last), strings.Compare(x.name, y.name)) })
	for _, s := range all {
		a.subjects.byName[s.name] = s
		s.place = a.subjects.byQuiet.PushBack(s)
		a.subjects.noted++
		a.resize(s)
	}
}

// restored is the subject of a note; nil if the window has changed since.
func (t *table) restored(name string, n *note) *subject {
	if n.Length != t.length {
		return nil
	}
	s := &subject{name: name, epoch: n.Epoch, wrong: wrong{spam: n.Spam}, saved: saved{noted: n.size()}}
	ids := make([]uint32, len(n.Authors))
	for i, x := range n.Authors {
		ids[i] = t.authors.number(&sidecar.Author{Key: x.Key, Proof: x.Proof, Account: x.Account}, time.Unix(x.First, 0))
	}
	known := func(i int) bool { return i >= 0 && i < len(ids) && ids[i] != 0 }
	for _, saved := range n.Panes {
		p := s.pane(saved.Number)
		p.Tried, p.Sent, p.Floor = saved.Tried, saved.Sent, saved.Floor
		for e := range slices.Chunk(saved.Entries, 4) {
			if len(e) == 4 && known(int(e[0])) && len(p.Entries) < sketch.MaxEntries {
				t.authors.use(ids[e[0]])
				p.Entries = append(p.Entries, sketch.Entry{Author: ids[e[0]], Tried: e[1], Sent: e[2], Err: e[3]})
			}
		}
		s.last = max(s.last, saved.Number)
	}
	if len(n.BadSends) > 0 {
		s.badSends = map[ratelimit.Token]badSend{}
	}
	for _, b := range n.BadSends {
		if known(b.Author) {
			t.authors.use(ids[b.Author])
			s.badSends[b.Token] = badSend{ids[b.Author], b.Pane, b.Cause}
		}
	}
	if len(n.Marks) > 0 {
		s.marks = map[ratelimit.Token]int64{}
	}
	for _, mark := range n.Marks {
		s.marks[mark] = s.last
	}
	for _, id := range ids {
		if id == 0 {
			continue
		}
		if who := &t.authors.all[id].Author; chosen(who) && who.Key != others(who).Key {
			s.chosen = append(s.chosen, id)
		}
	}
	return s
}
