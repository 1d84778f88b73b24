package settings

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/history"
	"sluice/sidecar/limit"
	"sluice/sidecar/notes"
)

// Live is what is in force: the configuration, what a panel's files say, and what
// operators have changed with `sluice set`, compiled to Settings. All of it is one
// immutable value that is swapped whole, and there is no lock: nobody waits for one
// who reads a file or writes to Redis. Who was overtaken compiles theirs anew.
type Live struct {
	node, eximUser string
	board          sidecar.Board // has the changes, for all nodes
	left           sidecar.LeftBoard
	events         event.Sink
	notes          notes.Map[int64] // when counts began, by key and scope, in Unix milliseconds
	onSwap         []func(now time.Time, before, after *Settings)

	now atomic.Pointer[liveValue]

	noting sync.Mutex // held while the notes are brought up to date
	noted  map[countedLimit]time.Time
}

// liveValue is what is in force at one time. Nothing of it is ever changed.
type liveValue struct {
	settings *Settings
	from     Sources
	changes  history.Log                // as they were read last
	expires  time.Time                  // when the next of them ends; zero: none does
	began    map[countedLimit]time.Time // when the counts of each limit did
	status   ConfigStatus
}

// liveOptions are what Live is made with.
type LiveOptions struct {
	Config         *config.Config
	Panel          Panel
	Node, EximUser string
	Board          sidecar.Board
	Left           sidecar.LeftBoard // where changes may have stayed behind; nil: nowhere
	Notes          sidecar.Notes
	Events         event.Sink
	Now            time.Time
}

// newLive puts in force what there is at the start.
func NewLive(o LiveOptions) *Live {
	l := &Live{node: o.Node, eximUser: o.EximUser, board: o.Board, left: o.Left, events: o.Events,
		notes: notes.New[int64](o.Notes, "since", 2, event.Unread(o.Events, event.NoteUnread)), noted: map[countedLimit]time.Time{}}
	l.notes.Load(func(name []string, ms int64) error {
		l.noted[countedLimit{name[0], name[1]}] = time.UnixMilli(ms)
		return nil
	})
	start := &liveValue{from: Sources{Config: o.Config, Panel: o.Panel}, status: ConfigStatus{
		File: o.Config.File(), Hash: o.Config.Hash(), Read: o.Now, Restart: []string{}, Panel: append([]string{}, o.Panel.Trouble...),
	}}
	l.compile(start, o.Now)
	start.began = start.settings.countsBegan(l.noted, o.Now, true)
	l.now.Store(start)
	l.noteBegan()
	if n := len(l.stayedBehind(o.Now)); n > 0 {
		l.events.Emit(event.Event{Kind: event.StayedBehind, Attrs: event.Attrs("changes", n)})
	}
	return l
}

// Load returns the settings in force.
func (l *Live) Load() *Settings { return l.now.Load().settings }

// fix puts settings in force by themselves: those of a Simulation, which nothing changes.
func (l *Live) Fix(s *Settings) {
	fixed := *l.now.Load()
	fixed.settings = s
	l.now.Store(&fixed)
}

// Status tells how the configuration file stands.
func (l *Live) Status() ConfigStatus { return l.now.Load().status }

// OnSwap has f called after other settings have come into force. It is called before
// anything can change.
func (l *Live) OnSwap(f func(now time.Time, before, after *Settings)) {
	l.onSwap = append(l.onSwap, f)
}

// swap puts in force what edit makes of what is, with the changes as they stand. If
// it is overtaken it begins again: edit may be called several times.
func (l *Live) swap(now time.Time, edit func(*liveValue)) {
	for {
		before := l.now.Load()
		after := *before
		edit(&after)
		l.compile(&after, now)
		after.began = after.settings.countsBegan(before.began, now, false)
		if l.now.CompareAndSwap(before, &after) {
			l.noteBegan()
			for _, f := range l.onSwap {
				f(now, before.settings, after.settings)
			}
			return
		}
	}
}

// compile makes settings of the sources, and of the changes as they stand.
func (l *Live) compile(f *liveValue, now time.Time) {
	f.changes = history.Read(l.board, l.events)
	f.settings, f.expires = l.settingsWith(f, f.changes, now)
}

// settingsWith makes settings in which changes are in force, and tells when the next
// of them ends.
func (l *Live) settingsWith(f *liveValue, changes history.Log, now time.Time) (*Settings, time.Time) {
	j := changes.Effective(now)
	from := f.from
	from.Live = j.Settings
	s, err := New(from, l.node, l.eximUser, f.settings)
	if err != nil {
		l.events.Emit(event.Event{Kind: event.FileUnread, Err: err})
	}
	return s, j.Next
}

// SetConfig puts a configuration in force that was read anew: all of it at
// once, but for what needs a restart.
func (l *Live) SetConfig(now time.Time, c *config.Config) {
	hash := c.Hash()
	restart := c.KeepRunning(l.Load().Config)
	l.swap(now, func(f *liveValue) {
		f.from.Config = c
		f.status = ConfigStatus{File: c.File(), Hash: hash, Read: now, Restart: restart, Panel: f.status.Panel}
	})
	l.emitConfigRead(c.File(), restart)
}

// RefuseConfig notes why the file as it is now is not in force.
func (l *Live) RefuseConfig(err error) {
	for {
		before := l.now.Load()
		after := *before
		after.status.Trouble = err.Error()
		if !l.now.CompareAndSwap(before, &after) {
			continue
		}
		if before.status.Trouble != err.Error() {
			l.events.Emit(event.Event{Kind: event.ConfigRefused, Err: err})
		}
		return
	}
}

// SetPanel puts in force what the panel's files say now.
func (l *Live) SetPanel(now time.Time, panel Panel) {
	if !slices.Equal(l.Status().Panel, panel.Trouble) {
		l.EmitPanelSkipped(panel.Trouble)
	}
	l.swap(now, func(f *liveValue) {
		f.from.Panel = panel
		f.status.Panel = append([]string{}, panel.Trouble...)
	})
	l.events.Emit(event.Event{Kind: event.PanelRead, Attrs: event.Attrs("settings", len(panel.Settings), "held_or_suspended", len(panel.Blocks))})
}

// Reload puts in force what other nodes have changed. Most of what is new on the
// board is something else.
func (l *Live) Reload(now time.Time) {
	if history.Read(l.board, l.events).Last() != l.now.Load().changes.Last() {
		l.swap(now, func(*liveValue) {})
	}
}

// Expire ends what was set for a time.
func (l *Live) Expire(now time.Time) {
	if at := l.now.Load().expires; !at.IsZero() && !now.Before(at) {
		l.events.Emit(event.Event{Kind: event.Expired})
		l.swap(now, func(*liveValue) {})
	}
}

// History lists the changes, the last first: of one scope, or all for "".
func (l *Live) History(now time.Time, scope string) ([]history.Change, error) {
	if scope != "" {
		var err error
		if scope, err = limit.CanonicalScope(scope); err != nil {
			return nil, err
		}
	}
	t := history.Read(l.board, l.events)
	states := t.Effective(now).States
	all := []history.Change{}
	for _, c := range slices.Backward(t) {
		if scope == "" || c.Scope == scope {
			c.State = states[c.Number]
			all = append(all, c)
		}
	}
	return all, nil
}
