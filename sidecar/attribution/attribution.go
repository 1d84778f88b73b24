package attribution

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/cluster"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
	"sluice/sidecar/notes"
	"sluice/sidecar/usual"
)

// Attribution knows which authors have sent what of the sends of each subject.
type Attribution struct {
	notes  kept
	broken atomic.Pointer[error]
	mu     sync.Mutex
	table
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
	Clock  ratelimit.Clock
	// Counts are what the store counts of a subject; nil: there is no store. It may wait for other
	// nodes, and is not called with questions.
	Counts func(now time.Time, subject string) Counts
	// Epoch is when the counts of a subject were last reset, as in sidecar.Reset, as far as it is
	// known here; nil: they never were. It must not wait: a question does, and all others behind it.
	Epoch func(subject string) int64
	// Others are what other nodes tell of a subject; nil: there are none.
	Others func(now time.Time, subject string) []cluster.Report
	Notes  notes.Store // nil: nothing is kept over a restart
	Events event.Sink

	// Stopped says who has stopped an author at the expense of a subject, at any time from one
	// to another; empty: nobody has. nil: nobody ever does.
	Stopped func(from, to time.Time, who sidecar.Author, subject string) string

	// Spike says that an author sends much more than ever; empty: it does not.
	Spike func(subject, author string) string
	Rule  func(subject, author string) usual.Rule // how much more that is

	Memory     int64 // bytes; 0: no bound
	MaxAuthors int   // 0: no bound
}

// Counts are what is counted of a subject in the window, by all nodes.
type Counts struct {
	Sent, Refused, Limit int64
}

// New returns an Attribution that goes on from its notes.
func New(o Options) *Attribution {
	a := &Attribution{table: newTable(o)}
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

// look calls f with what is known of a subject and the number of the oldest pane in the window,
// with mu held; false: nothing is known.
func (a *Attribution) look(now time.Time, name string, f func(s *subject, from int64)) (known bool) {
	a.locked(func() {
		var s *subject
		if s, known = a.subjects.byName[name]; known {
			f(s, a.number(now, now)-parts)
		}
	})
	return known
}

// Charged takes in that n sends of a message were charged, its first n recipients or others
// of it.
func (a *Attribution) Charged(now time.Time, m *Message, n int) {
	if n <= 0 || m.Author.Key == "" {
		return
	}
	a.locked(func() {
		s, _ := a.subject(now, m.Subject)
		a.count(s, now, now, m, uint32(max(0, n-s.accept(m))), uint32(n))
	})
}

// Refused takes in that all recipients of a message were refused. Each counts once, however
// often its client asks, and if it is sent in the end, no more then.
func (a *Attribution) Refused(now time.Time, m *Message) {
	if m.Author.Key == "" || m.Request == nil {
		return
	}
	a.locked(func() {
		s, _ := a.subject(now, m.Subject)
		if n := s.refuse(m); n > 0 {
			a.count(s, now, now, m, uint32(n), 0)
		}
	})
}

// Recorded implements delivery.Observer: sends that were charged from the log, and what became
// of all.
func (a *Attribution) Recorded(now time.Time, news []logline.Outcome) {
	a.locked(func() {
		for i := range news {
			if news[i].Author.Key != "" {
				a.record(now, &news[i])
			}
		}
	})
}

// Reset forgets what a subject has sent before it was reset.
func (a *Attribution) Reset(_ context.Context, now time.Time, r sidecar.Reset) error {
	a.locked(func() {
		if s := a.subjects.byName[r.Subject]; s != nil && s.epoch < r.Epoch {
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
