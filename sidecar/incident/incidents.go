package incident

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/notes"
)

// These bound what is kept, and how long an incident is open.
const (
	maxIncidents = 1000
	maxTimeline  = 64
	firstEntries = 16 // of a timeline, that are never left out
	maxCauses    = 16
	maxText      = 400              // bytes of a text that senders, or operators, have a part in
	joinFor      = 10 * time.Minute // what is the same within it is one entry
	closeAfter   = 10 * time.Minute // that all causes are gone
	reopenWithin = time.Hour        // a new one within it is the same incident
	saveEvery    = time.Minute      // that a timeline or the evidence has grown
)

// Options are what Incidents are made with; all are needed but Board and Alive.
type Options struct {
	Node   string // whose number new incidents get
	Notes  notes.Store
	Events event.Sink
	Now    time.Time
	// Present reports whether a cause of a domain is still there.
	Present func(now time.Time, domain string, c Cause) bool
	// Look copies what is known of a domain now.
	Look func(now time.Time, domain string) View

	Board notes.Board // nil: this node shares its counts with nobody
	// Alive returns a func that reports whether a node has given a sign of life within a minute.
	// It is needed with a Board.
	Alive func() func(node string) bool
}

// A View is what is known of a domain at a time.
type View struct {
	Evidence
	Most    Culprit // who has tried most; without an author nobody is known
	MostBad Culprit // of whose mail most has gone wrong in a way that speaks against the sender
	Unusual bool    // Most has sent more than it usually does, in a domain that is known

	Since  time.Time // all sends since this minute are in Minute; zero: none
	Minute []Minute
}

// Incidents are the incidents of a node.
type Incidents struct {
	Options
	notes  notes.Map[Incident] // by the node that has numbered them, and number
	number notes.Map[int64]    // the last number of this node

	mu       sync.Mutex
	last     int64
	all      []*state         // the oldest first
	of       map[about]*state // the last one of each
	watchers []func(Incident)

	shared     map[string]*shared // what the board has, by domain
	unreadable []event.Event      // of the board, that were not emitted yet
}

// about is whom or what an incident is about.
type about struct {
	domain    string
	condition Condition
}

// state is an incident as it is kept. Its slices are cloned where it is handed out.
type state struct {
	Incident
	looked  time.Time // at the domain, and whether causes are there
	saved   time.Time
	changed bool // since it was saved
	news    bool // that watchers are to be told

	alone bool // the board was away when it was opened: others may have another one
	led   bool // this node has led it at the last Tick
	added added
}

// New returns Incidents that go on from their notes.
func New(o Options) *Incidents {
	unread := event.Unread(o.Events, event.NoteUnread)
	s := &Incidents{Options: o, notes: notes.New[Incident](o.Notes, "incident", 2, unread), number: notes.New[int64](o.Notes, "incident-number", 1, unread),
		of: map[about]*state{}, shared: map[string]*shared{}}
	s.load()
	if s.Board != nil {
		s.Board.Watch(boardKeys, s.receive)
	}
	s.mu.Lock() // the board may call receive from now on
	defer s.mu.Unlock()
	for _, i := range s.all {
		i.led = s.leads(i)
	}
	return s
}

// Watch calls f with every incident that is kept, open or closed, the oldest first, and from
// then on with each that is opened (again), becomes worse, has another culprit, or is closed.
// Its Revision has grown then. The timeline and the evidence grow without a call.
//
// What f was called with before a restart it gets once more after it, as it is now: who must
// not tell of it twice keeps the ID and Revision told last. Incidents are written before f is
// called. f is called by one goroutine at a time, and must neither wait nor call Incidents.
//
// Of nodes that share their counts, one calls its watchers: the one that has numbered the
// incident, or that has taken it over from a node that is silent.
func (s *Incidents) Watch(f func(Incident)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.all {
		if s.leads(i) {
			f(i.snapshot())
		}
	}
	s.watchers = append(s.watchers, f)
}

// snapshot is the incident as it is now.
func (i *state) snapshot() Incident {
	now := i.Incident
	now.Causes, now.Timeline, now.Minutes = slices.Clone(now.Causes), slices.Clone(now.Timeline), now.Minutes.clone()
	return now
}

// List returns the incidents for which want is true, the last first.
func (s *Incidents) List(want func(*Incident) bool) []Incident {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := []Incident{}
	for _, i := range slices.Backward(s.all) {
		if want(&i.Incident) {
			found = append(found, i.snapshot())
		}
	}
	return found
}

// Tick closes incidents whose causes are gone, checks the causes of the others, saves what has
// changed, and notifies watchers.
func (s *Incidents) Tick(ctx context.Context, now time.Time) {
	s.checkCauses(now)
	s.share(ctx, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.all {
		if i.Open() && i.goneFor(now) >= closeAfter {
			i.Closed, i.news = now, true
		}
		leads := s.leads(i)
		if leads && !i.led && i.Revision > 0 {
			s.takeOver(now, i)
		}
		if i.led = leads; i.news && (leads || s.joined(i)) {
			s.notifyWatchers(now, i)
		}
	}
	s.save(now, now.Add(-saveEvery))
}

// Stop saves all.
func (s *Incidents) Stop(_ context.Context, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.save(now, now)
}

// notifyWatchers saves an incident, and then notifies watchers if this node leads it. s.mu is held.
func (s *Incidents) notifyWatchers(now time.Time, i *state) {
	i.Revision++
	i.news = false
	s.put(now, i)
	if !s.leads(i) {
		return
	}
	for _, f := range s.watchers {
		f(i.snapshot())
	}
}

// goneFor returns for how long all causes have been gone; negative if one is still there.
func (i *state) goneFor(now time.Time) time.Duration {
	var last time.Time
	for _, c := range i.Causes {
		if c.Gone.IsZero() {
			return -1
		}
		if c.Gone.After(last) {
			last = c.Gone
		}
	}
	return now.Sub(last)
}

// current returns the incident that something new about a domain or condition belongs to: one
// that is open, or was within the hour; nil if there is none. s.mu is held.
func (s *Incidents) current(a about, at time.Time) *state {
	i := s.of[a]
	if i == nil || !i.Open() && at.Sub(i.Closed) > reopenWithin {
		return nil
	}
	return i
}

// open opens an incident; nil if there is no room, for all are open and worse. s.mu is held.
func (s *Incidents) open(a about, at time.Time, severity Severity) *state {
	i := s.add(ID{Node: s.Node, Number: s.last + 1}, a, at, severity)
	if i != nil {
		s.last++
		event.EmitError(s.Events, event.StoreFailed, s.number.Put(s.last, "last"))
	}
	return i
}

// add adds an incident with this number; nil if there is no room. s.mu is held.
func (s *Incidents) add(id ID, a about, at time.Time, severity Severity) *state {
	if len(s.all) >= maxIncidents && !s.makeRoom(at, severity) {
		return nil
	}
	i := &state{Incident: Incident{ID: id, Domain: a.domain, Condition: a.condition, Severity: severity, Opened: at,
		Causes: []Cause{}, Timeline: []Entry{}, Evidence: Evidence{Who: []Sender{}, Lines: []Line{}}}, news: true}
	s.all = append(s.all, i)
	s.of[a] = i
	return i
}

// makeRoom drops the oldest incident that is closed or, if there is none, of the least severe
// ones, if these are less severe than the new one. s.mu is held.
func (s *Incidents) makeRoom(now time.Time, severity Severity) bool {
	victim := slices.MinFunc(s.all, func(a, b *state) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Opened.Compare(b.Opened), cmp.Compare(a.Number, b.Number))
	})
	if victim.Open() {
		if victim.Severity >= severity {
			return false
		}
		victim.Closed = now
		s.notifyWatchers(now, victim)
	}
	s.drop(victim)
	return true
}

// rank is 0 for a closed incident, and the higher the worse for an open one.
func rank(i *state) Severity {
	if i.Open() {
		return i.Severity
	}
	return 0
}

// drop forgets an incident. s.mu is held.
func (s *Incidents) drop(i *state) {
	s.all = slices.DeleteFunc(s.all, func(one *state) bool { return one == i })
	if a := i.about(); s.of[a] == i {
		delete(s.of, a)
	}
	event.EmitError(s.Events, event.StoreFailed, s.notes.Drop(i.name()...))
}

func (i *state) about() about { return about{i.Domain, i.Condition} }
