package live

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/history"
	"sluice/sidecar/limit"
	"sluice/sidecar/notes"
	"sluice/sidecar/settings"
)

// Live has the settings in force: the configuration, what a panel's files say, and what
// operators have changed with `sluice set`. All of it is one immutable value, which is
// replaced as a whole and without a lock: nobody waits for someone who reads a file or
// writes to Redis. If two change it at once, the second compiles its value again.
type Live struct {
	host   settings.Host
	book   *history.Book // the changes, which the board has for all nodes
	former history.Log   // the changes made while store.url named another store
	events event.Sink
	notes  notes.Map[int64] // when counts began, by key and scope, in Unix milliseconds
	onSwap []func(now time.Time, before, after *settings.Settings)

	now atomic.Pointer[liveValue]

	noting sync.Mutex                 // guards noted, and writing the notes
	noted  map[countedLimit]time.Time // what the notes have
}

// liveValue is all that is in force at one time. It is never changed.
type liveValue struct {
	settings *settings.Settings
	from     settings.Sources
	version  int                        // of the book
	expiring map[string]time.Time       // scopes of which a change expires, and when the next one does
	began    map[countedLimit]time.Time // since when each limit counts
	status   ConfigStatus
}

// Options are what New needs.
type Options struct {
	Config *config.Config
	Panel  settings.Panel
	Host   settings.Host
	Board  notes.Board
	Former history.Log // the changes made while store.url named another store
	Notes  notes.Store
	Events event.Sink
	Now    time.Time
}

// New puts in force what there is at the start.
func New(o Options) *Live {
	l := &Live{host: o.Host, book: history.Open(o.Board, o.Events), former: o.Former, events: o.Events,
		notes: notes.New[int64](o.Notes, "since", 2, event.Unread(o.Events, event.NoteUnread)), noted: map[countedLimit]time.Time{}}
	l.notes.Load(func(name []string, ms int64) error {
		l.noted[countedLimit{name[0], name[1]}] = time.UnixMilli(ms)
		return nil
	})
	start := &liveValue{from: settings.Sources{Config: o.Config, Panel: o.Panel}, status: ConfigStatus{
		File: o.Config.File(), Hash: o.Config.Hash(), Read: o.Now, Restart: []string{}, Panel: append([]string{}, o.Panel.Trouble...),
	}}
	l.compile(start, o.Now)
	start.began = countsBegan(start.settings, l.noted, o.Now, true)
	l.now.Store(start)
	l.noteBegan()
	if n := len(l.stayedBehind(o.Now)); n > 0 {
		l.events.Emit(event.Event{Kind: event.StayedBehind, Attrs: event.Attrs("changes", n)})
	}
	return l
}

// Load returns the settings in force.
func (l *Live) Load() *settings.Settings { return l.now.Load().settings }

// Fix puts in force the settings of a simulation, which it has made itself and which do
// not change after that.
func (l *Live) Fix(s *settings.Settings) {
	fixed := *l.now.Load()
	fixed.settings = s
	l.now.Store(&fixed)
}

// Status is whether the configuration file is in force.
func (l *Live) Status() ConfigStatus { return l.now.Load().status }

// OnSwap has f called whenever other settings have come into force. It must be called
// before anything can change.
func (l *Live) OnSwap(f func(now time.Time, before, after *settings.Settings)) {
	l.onSwap = append(l.onSwap, f)
}

// swap puts in force what edit makes of the present value, and what was changed on the
// board. If the value was replaced meanwhile it starts over: edit may be called several
// times. With nil only scopes that were changed are compiled.
func (l *Live) swap(now time.Time, edit func(*liveValue)) {
	for {
		before := l.now.Load()
		after := *before
		if edit == nil {
			scopes := l.compileChanged(&after, now)
			after.began = countsBeganIn(after.settings, scopes, before.began, now)
		} else {
			edit(&after)
			l.compile(&after, now)
			after.began = countsBegan(after.settings, before.began, now, false)
		}
		if l.now.CompareAndSwap(before, &after) {
			l.noteBegan()
			for _, f := range l.onSwap {
				f(now, before.settings, after.settings)
			}
			return
		}
	}
}

// compile makes f.settings of f.from and of all that was changed.
func (l *Live) compile(f *liveValue, now time.Time) {
	scopes, version := l.book.Touched(0)
	f.version, f.expiring, f.from.Live = version, map[string]time.Time{}, nil
	for _, set := range l.liveIn(f, scopes, now) {
		f.from.Live = append(f.from.Live, set...)
	}
	compiled, err := settings.New(f.from, l.host, f.settings)
	event.EmitError(l.events, event.FileUnread, err)
	f.settings = compiled
}

// compileChanged makes f.settings anew in the scopes where something was changed or has
// expired.
func (l *Live) compileChanged(f *liveValue, now time.Time) []string {
	scopes, version := l.book.Touched(f.version)
	for scope, at := range f.expiring {
		if !now.Before(at) {
			scopes = append(scopes, scope)
		}
	}
	f.version, f.expiring = version, maps.Clone(f.expiring)
	f.settings = f.settings.With(l.liveIn(f, scopes, now))
	return scopes
}

// liveIn is what is set live in some scopes, and notes in f when the next of it expires.
func (l *Live) liveIn(f *liveValue, scopes []string, now time.Time) map[string][]limit.Setting {
	all := map[string][]limit.Setting{}
	for _, scope := range scopes {
		effective := l.book.Of(scope).Effective(now)
		all[scope] = effective.Settings
		f.expiring[scope] = effective.Next
		if effective.Next.IsZero() {
			delete(f.expiring, scope)
		}
	}
	return all
}

// expired reports whether the time of a change is over.
func (f *liveValue) expired(now time.Time) bool {
	for _, at := range f.expiring {
		if !now.Before(at) {
			return true
		}
	}
	return false
}

// SetConfig puts a new configuration in force, all at once, but for the keys that need a
// restart.
func (l *Live) SetConfig(now time.Time, c *config.Config) {
	hash := c.Hash()
	restart := c.KeepRunning(l.Load().Config)
	l.swap(now, func(f *liveValue) {
		f.from.Config = c
		f.status = ConfigStatus{File: c.File(), Hash: hash, Read: now, Restart: restart, Panel: f.status.Panel}
	})
	l.events.Emit(event.Event{Kind: event.ConfigRead, Attrs: event.Attrs("file", c.File())})
	if len(restart) > 0 {
		l.events.Emit(event.Event{Kind: event.RestartNeeded, Attrs: event.Attrs("file", c.File(), "keys", restart)})
	}
}

// RefuseConfig records why the file as it is now is not in force.
func (l *Live) RefuseConfig(err error) {
	for {
		before := l.now.Load()
		after := *before
		after.status.Trouble = err.Error()
		if l.now.CompareAndSwap(before, &after) {
			if before.status.Trouble != after.status.Trouble {
				l.events.Emit(event.Event{Kind: event.ConfigRefused, Err: err})
			}
			return
		}
	}
}

// SetPanel puts in force what the panel's files say now.
func (l *Live) SetPanel(now time.Time, panel settings.Panel) {
	if !slices.Equal(l.Status().Panel, panel.Trouble) {
		l.EmitPanelSkipped(panel.Trouble)
	}
	l.swap(now, func(f *liveValue) {
		f.from.Panel = panel
		f.status.Panel = append([]string{}, panel.Trouble...)
	})
	l.events.Emit(event.Event{Kind: event.PanelRead, Attrs: event.Attrs("settings", len(panel.Settings), "held_or_suspended", len(panel.Blocks))})
}

// maxSkipped is how many skipped lines have an event each; the rest have one together.
const maxSkipped = 20

// EmitPanelSkipped reports lines of the panel's files that were skipped.
func (l *Live) EmitPanelSkipped(lines []string) {
	for _, line := range lines[:min(len(lines), maxSkipped)] {
		l.events.Emit(event.Event{Kind: event.PanelLineSkipped, Attrs: event.Attrs("line", line)})
	}
	if n := len(lines) - maxSkipped; n > 0 {
		l.events.Emit(event.Event{Kind: event.PanelLinesSkipped, Attrs: event.Attrs("lines", n)})
	}
}

// Reload puts in force what other nodes have changed. It compiles nothing if there is no
// new change: mostly the board was changed for something else, such as a lock.
func (l *Live) Reload(now time.Time) {
	f := l.now.Load()
	if _, version := l.book.Touched(f.version); version != f.version {
		l.swap(now, nil)
	}
}

// Expire ends the changes whose time (sluice set --for) is over.
func (l *Live) Expire(now time.Time) {
	if l.now.Load().expired(now) {
		l.events.Emit(event.Event{Kind: event.Expired})
		l.swap(now, nil)
	}
}

// A ConfigStatus is whether the configuration file is in force.
type ConfigStatus struct {
	File    string    `json:"file"` // empty: there is none
	Hash    string    `json:"hash"` // as in Config.Hash, of the file as it was read
	Read    time.Time `json:"read"`
	Trouble string    `json:"trouble"` // why the file as it is now is not in force; empty if it is
	Restart []string  `json:"restart"` // keys whose values in the file come into force with a restart
	Panel   []string  `json:"panel"`   // lines of the panel's files that were skipped, as "FILE:LINE: why"
}
