package attribution

import (
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/usual"
)

// A peak is what an author has sent in an hour, and in which pane of it most.
type peak struct{ sent, most, pane int64 }

// A dated is a pane with its day. Nearly all who ask for a day ask for that of the newest pane.
type dated struct {
	pane int64
	day  uint16
}

// day is that of a pane, by the time zone of this program.
func (t *table) day(pane int64) uint16 {
	if pane == 0 || t.dated.pane != pane {
		seconds := pane * t.length / 1000
		_, offset := time.Unix(seconds, 0).Zone()
		t.dated = dated{pane, uint16((seconds + int64(offset)) / 86400)}
	}
	return t.dated.day
}

// learn takes in the hour up to the newest pane of a subject, which is over. An hour belongs
// to the day on which most of it was sent: so what was sent at once shortly before midnight
// is of one day. What an author has sent on a day on which it was stopped is not usual.
func (t *table) learn(s *subject, now time.Time) {
	if t.length == 0 || !sidecar.IsDomain(s.name) {
		return
	}
	peaks := map[uint32]peak{}
	for i := range s.panes {
		p := &s.panes[i]
		if p.Number <= s.last-parts || p.Number > s.last {
			continue
		}
		for _, e := range p.Entries {
			sent, pk := int64(e.Sent)-int64(e.Err), peaks[e.Author]
			if sent > pk.most {
				pk.most, pk.pane = sent, p.Number
			}
			pk.sent += max(0, sent)
			peaks[e.Author] = pk
		}
	}
	for id, pk := range peaks {
		who := t.authors.all[id].Author
		switch {
		case pk.sent == 0 || !usual.Has(who.Key):
		case t.Stopped(now.Add(-t.Window), now, who, s.name) != "", t.dirty(s, id, t.day(pk.pane), pk.sent):
			t.usual.Forget(now, s.name, who.Key, t.day(pk.pane))
		default:
			t.usual.Note(now, s.name, who.Key, t.day(pk.pane), pk.sent)
		}
	}
}

// mostUsual is how many authors may have usual hours: they take at most a quarter of the
// memory.
func (t *table) mostUsual() int {
	return int(min(orUnbounded(int64(t.MaxAuthors)), t.Memory/4/usual.AuthorSize))
}

// usualEvery is how often at most the hours of a domain are saved. What a crash loses of
// them is mostly learned again from the panes.
const usualEvery = time.Hour

// saveUsual notes what has changed until a time. mu is not held while it writes.
func (a *Attribution) saveUsual(until time.Time) {
	for {
		name, n := "", usual.Saved{}
		a.locked(func() { name, n = a.usual.Next(until) })
		switch {
		case name == "":
			return
		case a.Notes == nil:
		case len(n.Authors) == 0:
			event.EmitError(a.Events, event.StoreFailed, a.notes.usual.Drop(name))
		default:
			event.EmitError(a.Events, event.StoreFailed, a.notes.usual.Put(n, name))
		}
	}
}
