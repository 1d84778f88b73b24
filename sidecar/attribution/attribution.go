package attribution

import (
	"context"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/cluster"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/notes"
	"sluice/sidecar/sketch"
	"sluice/sidecar/usual"
)

// Attribution knows which authors have sent what of the sends of each subject.
type Attribution struct {
	Options
	length int64 // of a pane in milliseconds; 0: there is one that never ends
	notes  kept
	seed   maphash.Seed
	broken atomic.Pointer[error]

	mu       sync.Mutex
	authors  authors
	subjects subjects
	evidence map[uint32]*evidence // by author
	sheets   int                  // in evidence
	scratch  map[uint32]sketch.Sum
	usual    *usual.Hours
}

// kept is what goes on after a restart.
type kept struct {
	who   notes.Map[note]        // by subject
	usual notes.Map[usual.Saved] // by domain
}

// Options are what an Attribution is made with.
type Options struct {
	// Window is that of hourly limits. 0: nothing is ever forgotten, as of a log.
	Window time.Duration
	Clock  sidecar.Clock
	// Counts are what the store counts of a subject; nil: there is no store.
	Counts func(now time.Time, subject string) Counts
	// Others are what other nodes tell of a subject; nil: there are none.
	Others func(now time.Time, subject string) []cluster.Report
	Notes  sidecar.Notes // nil: nothing is kept over a restart
	Events event.Sink

	// Stopped says who has stopped an author at the expense of a subject, at any time from one
	// to another; empty: nobody has. nil: nobody ever does.
	Stopped func(from, to time.Time, who sidecar.Author, subject string) string

	// Spike says that an author sends much more than ever; empty: it does not. nil: none does.
	Spike func(subject, author string) string

	Memory     int64 // bytes; 0: no bound
	MaxAuthors int   // 0: no bound
}

// Counts are what is counted of a subject in the window, by all nodes.
type Counts struct {
	Sent, Refused, Limit int64
	Epoch                int64 // as in sidecar.Reset
}

// The parts of a window that have a pane each; one more is kept, as in ratelimit, for the
// oldest counts until all of it has left the window.
const parts = 6

// New returns an Attribution that goes on from its notes.
func New(o Options) *Attribution {
	a := &Attribution{Options: o, length: (o.Window / parts).Milliseconds(), seed: maphash.MakeSeed(),
		authors: newAuthors(int(orUnbounded(int64(o.MaxAuthors)))), subjects: newSubjects(),
		evidence: map[uint32]*evidence{}, scratch: map[uint32]sketch.Sum{}}
	a.Memory = orUnbounded(o.Memory)
	a.usual = usual.New(a.mostUsual())
	if o.Counts == nil {
		a.Counts = func(time.Time, string) Counts { return Counts{} }
	}
	if o.Stopped == nil {
		a.Stopped = func(time.Time, time.Time, sidecar.Author, string) string { return "" }
	}
	if o.Spike == nil {
		a.Spike = func(string, string) string { return "" }
	}
	if o.Notes != nil {
		a.notes.who = notes.New[note](o.Notes, "who", 1, event.Unread(o.Events, event.NoteUnread))
		a.notes.usual = notes.New[usual.Saved](o.Notes, "usual", 1, event.Unread(o.Events, event.NoteUnread))
		a.load()
		a.notes.usual.Load(func(name []string, n usual.Saved) error {
			a.usual.Restore(name[0], n)
			return nil
		})
	}
	return a
}

func orUnbounded(most int64) int64 {
	if most == 0 {
		return 1 << 40
	}
	return most
}

// A Message is one about whose sends something was decided. Nothing of it is kept.
type Message struct {
	Subject string // that pays
	Author  sidecar.Author
	Request *sidecar.Request // nil: not known
	To      []envelope.Address
}

// locked calls f with mu held. If that panics, no name is ever given again, and all else goes
// on as before.
func (a *Attribution) locked(f func()) {
	if a.broken.Load() != nil {
		return
	}
	defer func() {
		if trouble := recover(); trouble != nil {
			err := fmt.Errorf("%v\n%s", trouble, debug.Stack())
			a.broken.Store(&err)
			a.Events.Emit(event.Event{Kind: event.WhoBroken, Attrs: event.Attrs("panic", err)})
		}
	}()
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// Charged takes in that n sends of a message were charged, its first n recipients or others
// of it.
func (a *Attribution) Charged(now time.Time, m *Message, n int) {
	if n <= 0 || m.Author.Key == "" {
		return
	}
	a.locked(func() {
		s, number := a.subject(now, m.Subject)
		a.count(s, number, now, m, uint32(max(0, n-s.accept(m))), uint32(n))
	})
}

// Refused takes in that all recipients of a message were refused. Each counts once, however
// often its client asks, and if it is sent in the end, no more then.
func (a *Attribution) Refused(now time.Time, m *Message) {
	if m.Author.Key == "" || m.Request == nil {
		return
	}
	a.locked(func() {
		s, number := a.subject(now, m.Subject)
		if n := s.refuse(m); n > 0 {
			a.count(s, number, now, m, uint32(n), 0)
		}
	})
}

// Recorded implements delivery.Observer: sends that were charged from the log, and what became
// of all.
func (a *Attribution) Recorded(now time.Time, news []sidecar.Outcome) {
	a.locked(func() {
		for i := range news {
			if news[i].Author.Key != "" {
				a.record(now, &news[i])
			}
		}
	})
}

func (a *Attribution) record(now time.Time, o *sidecar.Outcome) {
	s := a.subjects.byName[o.Payer.Subject()]
	if o.Result == ratelimit.Delivered && !o.Charged { // as most
		if s != nil {
			a.forgive(s, o.Token)
		}
		return
	}
	s, _ = a.subject(now, o.Payer.Subject())
	if o.Charged {
		m := Message{Subject: s.name, Author: *o.Author, To: []envelope.Address{envelope.FoldRouted(o.Entry.Recipient)}}
		a.count(s, a.number(now, o.When), now, &m, 1, 1)
	}
	if o.Result != ratelimit.Delivered {
		a.noteBad(s, now, o)
	}
	a.resize(s)
}

// number is that of the pane of a time.
func (a *Attribution) number(now, at time.Time) int64 {
	if a.length == 0 {
		return 0
	}
	ms := a.Clock.Store(now).UnixMilli()
	if at != now {
		ms -= max(0, now.Sub(at).Milliseconds())
	}
	return ms / a.length
}

// count adds sends of a message to a pane.
func (a *Attribution) count(s *subject, number int64, now time.Time, m *Message, tried, sent uint32) {
	if number < s.last-parts {
		return // it has left the window
	}
	p := s.pane(number)
	id := a.authors.numbers[m.Author.Key]
	e := p.Find(id)
	if e == nil {
		if id = a.admit(s, now, &m.Author); id == 0 {
			return
		}
		if e = p.Find(id); e == nil {
			e = a.enter(s, p, id)
		}
	}
	e.Tried, e.Sent = e.Tried+tried, e.Sent+sent
	p.Tried, p.Sent = p.Tried+int64(tried), p.Sent+int64(sent)
	a.changed(s, now)
	a.observe(e, number, m)
}

// admit returns the number of an author that has no entry in a pane; 0 if there is no room.
func (a *Attribution) admit(s *subject, now time.Time, who *sidecar.Author) uint32 {
	if !chosen(who) {
		return a.authors.number(who, now)
	}
	id, same := a.authors.numbers[who.Key], 0
	for _, n := range s.chosen {
		other := &a.authors.all[n]
		if n == id {
			return id
		}
		if other.Account == who.Account && other.Key[:6] == who.Key[:6] {
			same++
		}
	}
	if same >= maxChosen {
		rest := others(who)
		return a.authors.number(&rest, now)
	}
	if id = a.authors.number(who, now); id != 0 {
		s.chosen = append(s.chosen, id)
	}
	return id
}

// enter makes an entry for an author that has none.
func (a *Attribution) enter(s *subject, p *sketch.Pane, id uint32) *sketch.Entry {
	a.authors.use(id)
	e, gone := p.Enter(id)
	if gone != 0 {
		a.release(gone)
	}
	a.resize(s)
	return e
}

// release ends one use of an author.
func (a *Attribution) release(id uint32) {
	if a.authors.release(id) {
		a.forgetEvidence(id)
	}
}

// Reset forgets what a subject has sent before it was reset.
func (a *Attribution) Reset(_ context.Context, now time.Time, r sidecar.Reset) error {
	a.locked(func() {
		if s := a.subjects.byName[r.Domain]; s != nil && s.epoch < r.Epoch {
			a.learn(s, now)
			a.drop(s)
		}
	})
	return nil
}

// Failure returns why no names are given any more, or nil.
func (a *Attribution) Failure() error {
	if err := a.broken.Load(); err != nil {
		return *err
	}
	return nil
}
