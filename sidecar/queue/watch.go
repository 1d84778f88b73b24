package queue

import (
	"fmt"
	"sync/atomic"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/notes"
)

// A Watch tells by events when the queue grows, freezes or ages, beside what it was in the week
// before. That is noted every hour, so that it is known after a restart.
type Watch struct {
	events event.Sink
	notes  notes.Map[week]
	warn   int64
	week   week
	noted  int64                           // hour of the last note
	warned map[event.Kind]warning          // by what begins: what is told, and has not ended
	causes func(destination string) string // what the log has said last of mail for there
	states atomic.Pointer[map[State]Waiting]
	aside  atomic.Pointer[Aside]
}

// A State is that of a message in the queue. Each has one.
type State string

// The states, the one that counts first.
const (
	Frozen      State = "frozen"
	Held        State = "held"   // by Sluice
	Bounce      State = "bounce" // a null sender
	Quarantined State = "quarantined"
	Active      State = "active" // all others, and those of which nothing is known
)

// Waiting is how many messages there are in a State, and when the first of them arrived.
type Waiting struct {
	Messages int64
	Oldest   time.Time // zero: there are none
}

// States are the messages of the queue at the last sweep, by state; nil before the first, and
// without a Watch.
func (x *Index) States() map[State]Waiting {
	if w := x.options.Watch; w != nil && w.states.Load() != nil {
		return *w.states.Load()
	}
	return nil
}

// Quarantine is what was in the quarantine at the last sweep; nil before the first, and without a Watch.
func (x *Index) Quarantine() *Aside {
	if w := x.options.Watch; w != nil {
		return w.aside.Load()
	}
	return nil
}

// stateOf is the state of a message.
func stateOf(m *Message) State {
	switch {
	case m.Frozen != nil:
		return Frozen
	case m.Held > 0:
		return Held
	case m.bounce():
		return Bounce
	}
	return Active
}

// A week is what the queue was in each hour of the last 7 days, at most.
type week struct {
	Since time.Time `json:"since"` // when the first of all was counted
	Hours []hour    `json:"hours"` // the oldest first; without those in which it was warned
}

// An hour is the highest that was counted in it.
type hour struct {
	Hour     int64 `json:"hour"` // since 1970
	Messages int64 `json:"messages"`
	Frozen   int64 `json:"frozen"`
}

// A warning is one that was told.
type warning struct {
	at    time.Time
	below int64 // it ends when there are fewer
}

const (
	hoursOfWeek = 7 * 24
	leastGrown  = 500 // messages
	timesGrown  = 3   // as many as in the week before
	leastFrozen = 50
	timesFrozen = 2
	leastOld    = 100
	oldAfter    = 4 * time.Hour
	heldAfter   = 24 * time.Hour
	// holdEnds is when Exim bounces what the router holds: SLUICE_HOLD_RETRY of exim-config.
	holdEnds     = 30 * 24 * time.Hour
	endsSoon     = 5 * 24 * time.Hour
	heldOldEvery = 24 * time.Hour // of what is held
	noteOfWeek   = "week"
)

// NewWatch returns a Watch that goes on from its notes. warn is how many messages it tells of
// while it knows less than a day.
func NewWatch(events event.Sink, kept notes.Store, warn int64) *Watch {
	w := &Watch{events: events, warn: warn, warned: map[event.Kind]warning{}, causes: func(string) string { return "" },
		notes: notes.New[week](kept, "queue", 1, event.Unread(events, event.NoteUnread))}
	w.notes.Load(func(name []string, v week) error {
		if len(v.Hours) > hoursOfWeek || name[0] != noteOfWeek {
			return fmt.Errorf("%d hours of %s", len(v.Hours), name[0])
		}
		w.week = v
		return nil
	})
	return w
}

// swept is told of a sweep. err is why it could not read all of the spool: then what is missing
// has not left.
func (w *Watch) swept(now time.Time, x *Index, err error) {
	if err != nil {
		w.events.Emit(event.Event{Kind: event.QueueUnread, At: now, Err: err})
		return
	}
	x.mu.Lock()
	more := x.swept.more
	x.mu.Unlock()
	f := x.figures(now)
	active := f.states[Active]
	active.Messages += more
	f.states[Active] = active
	w.states.Store(&f.states)
	w.aside.Store(&f.aside)
	w.compareFigures(now, f, more)
}

// figures are what a sweep has found, of all messages and of those that are warned of.
type figures struct {
	all, frozen, old, held *counted
	states                 map[State]Waiting
	aside                  Aside
}

// figures counts the queue. mu is not held.
func (x *Index) figures(now time.Time) (f figures) {
	for _, c := range [...]**counted{&f.all, &f.frozen, &f.old, &f.held} {
		*c = &counted{authors: map[string]int64{}, to: map[string]int64{}}
	}
	f.states = map[State]Waiting{Frozen: {}, Held: {}, Bounce: {}, Active: {}}
	x.each(&filter{Selection: Selection{Quarantined: true}}, f.aside.add)
	f.states[Quarantined] = Waiting{f.aside.Messages, f.aside.Oldest}
	x.each(&filter{now: now}, func(m *Message) {
		age := now.Sub(m.Arrived)
		if m.Author == "" {
			m.Author = m.Payer
		}
		f.all.add(m)
		in := f.states[stateOf(m)]
		if in.Messages++; in.Oldest.IsZero() || m.Arrived.Before(in.Oldest) {
			in.Oldest = m.Arrived
		}
		f.states[stateOf(m)] = in
		switch {
		case m.Frozen != nil:
			f.frozen.add(m)
		case m.Held > 0 && age > heldAfter:
			f.held.add(m)
		case m.Held == 0 && age > oldAfter:
			f.old.add(m)
		}
	})
	return f
}

// compareFigures emits what has begun or ended. more are messages above Options.Max.
func (w *Watch) compareFigures(now time.Time, f figures, more int64) {
	all := f.all.Messages + more
	known := !w.week.Since.IsZero() && now.Sub(w.week.Since) >= 24*time.Hour
	high := w.highest(now)
	grown, frozen := w.warn, int64(0)
	if known {
		grown, frozen = max(leastGrown, timesGrown*high.Messages), max(leastFrozen, timesFrozen*high.Frozen)
	}
	w.compare(now, event.QueueGrowth, event.QueueGrowthEnded, all, grown, f.all, "messages", all, "week", high.Messages)
	w.compare(now, event.QueueFrozen, event.QueueFrozenEnded, f.frozen.Messages, frozen, f.frozen, "frozen", f.frozen.Messages, "week", high.Frozen)
	w.compare(now, event.QueueOld, event.QueueOldEnded, f.old.Messages, leastOld, f.old, "old", f.old.Messages)
	w.heldOld(now, f.held)
	w.remember(now, all, f.frozen.Messages)
}

// compare emits begins when n reaches the limit, and ends when it is well below it again. A limit
// of 0 is none. of says whose messages they are, for the attributes.
func (w *Watch) compare(now time.Time, begins, ends event.Kind, n, limit int64, of *counted, attrs ...any) {
	told, is := w.warned[begins]
	switch {
	case is && n < told.below:
		delete(w.warned, begins)
		w.events.Emit(event.Event{Kind: ends, At: now, Attrs: event.Attrs(attrs[:2]...)})
	case !is && limit > 0 && n >= limit:
		w.warned[begins] = warning{now, limit - limit/3}
		w.events.Emit(event.Event{Kind: begins, At: now, Attrs: event.Attrs(append(attrs, w.mostly(of)...)...)})
	}
}

// heldOld emits, once a day, how many messages are held for more than a day.
func (w *Watch) heldOld(now time.Time, held *counted) {
	told, is := w.warned[event.HeldOld]
	switch {
	case held.Messages == 0 && is:
		delete(w.warned, event.HeldOld)
		w.events.Emit(event.Event{Kind: event.HeldOldEnded, At: now, Attrs: event.Attrs("messages", held.Messages)})
	case held.Messages > 0 && (!is || now.Sub(told.at) >= heldOldEvery):
		w.warned[event.HeldOld] = warning{at: now}
		bounces, kind := held.Oldest.Add(holdEnds), event.HeldOld
		if bounces.Sub(now) < endsSoon {
			kind = event.HeldExpires
		}
		attrs := []any{"messages", held.Messages, "bounces", bounces.Format(time.DateOnly)}
		w.events.Emit(event.Event{Kind: kind, At: now, Attrs: event.Attrs(append(attrs, w.mostly(held)...)...)})
	}
}

// mostly returns the attributes that say who has sent most of some messages, and where most are going.
func (w *Watch) mostly(of *counted) (attrs []any) {
	share := func(m Most) string { return fmt.Sprintf("%d%%", m.Messages*100/max(1, of.Messages)) }
	if author := most(of.authors); author.Name != "" {
		attrs = append(attrs, "author", author.Name, "author_share", share(author))
	}
	if to := most(of.to); to.Name != "" {
		attrs = append(attrs, "destination", to.Name, "destination_share", share(to))
		if why := w.causes(to.Name); why != "" {
			attrs = append(attrs, "reason", why)
		}
	}
	return attrs
}

// highest returns the largest numbers of the last week, each of any hour before this one.
func (w *Watch) highest(now time.Time) (h hour) {
	for _, one := range w.week.Hours {
		if n := hourOf(now); one.Hour < n && one.Hour >= n-hoursOfWeek {
			h.Messages, h.Frozen = max(h.Messages, one.Messages), max(h.Frozen, one.Frozen)
		}
	}
	return h
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// remember records this hour for highest, and saves that once an hour. Numbers that were warned of
// are left out: else the next flood would have to be three times as large to be noticed.
func (w *Watch) remember(now time.Time, messages, frozen int64) {
	n := hourOf(now)
	if w.week.Since.IsZero() || w.week.Since.After(now) {
		w.week.Since = now
	}
	if _, is := w.warned[event.QueueGrowth]; is {
		messages = 0
	}
	if _, is := w.warned[event.QueueFrozen]; is {
		frozen = 0
	}
	hours := w.week.Hours
	if len(hours) == 0 || hours[len(hours)-1].Hour != n {
		if len(hours) >= hoursOfWeek {
			hours = append(hours[:0], hours[1:]...)
		}
		hours = append(hours, hour{Hour: n})
	}
	last := &hours[len(hours)-1]
	last.Messages, last.Frozen = max(last.Messages, messages), max(last.Frozen, frozen)
	if w.week.Hours = hours; w.noted != n {
		w.save()
		w.noted = n
	}
}

// save notes the week.
func (w *Watch) save() {
	if err := w.notes.Put(w.week, noteOfWeek); err != nil {
		w.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
}
