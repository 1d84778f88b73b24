package stop

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/limit"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/notes"
	"sluice/sidecar/printable"
	"sluice/sidecar/settings"
)

// A Stop says that an author, or all who send for an account, may send nothing.
type Stop struct {
	Mark   string    `json:"mark"` // of the stop among all; they sort by time
	Scope  string    `json:"scope"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // when it expires; zero: not before it is ended
	Cause  Cause     `json:"cause"`
	Reject bool      `json:"reject,omitempty"` // clients get 550, not 450
	Who    string    `json:"who"`
	Node   string    `json:"node"` // on which it was made
	Why    string    `json:"why,omitempty"`
	Of     string    `json:"of,omitempty"`   // the subject at whose expense nothing may go; empty: whoever pays
	Text   string    `json:"text,omitempty"` // what those are told who get 450; empty: that they are stopped
	end
}

// An end is that of a Stop before it has expired, as an entry of the board.
type end struct {
	Ended    time.Time `json:"ended,omitzero"`     // by whom it was made, or another one
	EndedBy  string    `json:"ended_by,omitempty"` // who did
	EndedOn  string    `json:"ended_on,omitempty"` // on which node
	Released time.Time `json:"released,omitzero"`  // when what it held may go however old it is
}

// A Cause is what a stop was made for.
type Cause string

// The causes.
const (
	Operator  Cause = "operator"  // somebody has made it, by a command or by a file
	Deferfail Cause = "deferfail" // too much of what the author sent was deferred or failed
)

// active reports whether a stop holds at a time.
func (s *Stop) active(now time.Time) bool { return !s.over(now) }

func (s *Stop) over(now time.Time) bool {
	return !s.Ended.IsZero() || !s.Until.IsZero() && !now.Before(s.Until)
}

// ended returns when a stop that is over has ended.
func (s *Stop) ended() time.Time {
	if s.Ended.IsZero() || !s.Until.IsZero() && s.Until.Before(s.Ended) {
		return s.Until
	}
	return s.Ended
}

const (
	// oldMail is how old a message is that a stop has held, and that does not go when the
	// stop is over: who is waiting for it has given up by then, and what a thief has sent is
	// better looked at first.
	oldMail = time.Hour
	// heldLeast is how many recipients of an author sendmail accepts to be held in any case.
	heldLeast = 20
	// kept is how long a stop that is over is remembered: longer than Exim keeps what is held.
	kept = 35 * limit.Day
	// mostOver is how many stops that are over are remembered.
	mostOver = 1000
)

// Stops are all stops: those in force, and those that were in the last weeks.
type Stops struct {
	Options
	outbox  notes.Map[[]byte] // what the board has not taken yet, by key
	files   sync.Mutex        // held while the files are brought in line
	retries retries

	mu    sync.Mutex
	all   map[string]*Stop // by mark; each is replaced, and never changed
	ends  map[string]end   // of marks of which the stop is not known yet
	begun bool             // events are emitted of what comes
	view  atomic.Pointer[view]
}

// A view is the stops by scope, the last first, with those that are over.
type view map[string][]*Stop

// A Dir is the directory of the files by which Exim stops somebody while nobody answers.
type Dir interface {
	Make(l lockfile.Lock, content string, epoch int64) error
	Unmake(l lockfile.Lock) error
	Adopt(l lockfile.Lock) error
	Files(domain string) []lockfile.File
	Failure() error
}

// Options are what Stops are made with; all but Dir are needed.
type Options struct {
	Board    notes.Board
	Dir      Dir // nil: stops make no files
	Notes    notes.Store
	Events   event.Sink
	Settings func() *settings.Settings
	Held     func(scope string) int // how many recipients of an author's mail are held, or by a stop of an account or login
}

// New returns the Stops of a board, which follow it from then on.
func New(o Options) *Stops {
	s := &Stops{Options: o, all: map[string]*Stop{}, ends: map[string]end{},
		outbox: notes.New[[]byte](o.Notes, "unposted-stop", 1, event.Unread(o.Events, event.NoteUnread))}
	s.view.Store(&view{})
	s.Board.Watch(keys, s.receive)
	s.outbox.Load(func(key []string, value []byte) error {
		s.receive(key[0], value)
		return nil
	})
	s.mu.Lock()
	s.begun = true
	s.publish()
	s.mu.Unlock()
	return s
}

// Block implements policy.Blocker: it blocks authors that are stopped, and who pays from, or
// belongs to, an account that is. Mail of sendmail is accepted and held, up to what the author
// may send in an hour.
func (s *Stops) Block(now time.Time, a sidecar.Author, who sidecar.Payer) (sidecar.Block, bool) {
	v := *s.view.Load()
	if len(v) == 0 {
		return sidecar.Block{}, false
	}
	st := v.inForce(now, a.Key)
	if st == nil && a.Login != "" { // or it would send from another directory
		st = v.inForce(now, a.Login)
	}
	if st == nil && a.Account != "" {
		st = v.inForce(now, sidecar.AccountPrefix+a.Account)
	}
	if st == nil && who.Account != "" {
		st = v.inForce(now, sidecar.AccountPrefix+who.Account)
	}
	if st == nil {
		st = v.blamed(now, a.Key, who.Subject())
	}
	if st == nil {
		return sidecar.Block{}, false
	}
	b := sidecar.Block{SMTP: sidecar.Defer, Local: sidecar.Accept, By: sidecar.ByStop, Stop: st.Scope, Text: st.text(s.Settings().Node)}
	switch {
	case st.Reject:
		b.SMTP, b.Local = sidecar.Reject, sidecar.Reject
	case max(s.Held(a.Key), s.Held(st.Scope)) >= s.mayHold(who):
		b.Local = sidecar.Reject
	}
	if st.Cause == Deferfail { // only what becomes of earlier mail can end it
		b.Retries = &retry{&s.retries, st.Mark, now}
	}
	return b, true
}

// Between says who has last stopped an author, of those stops that were in force for sends at
// the expense of a subject at any time from one to another; empty if none was.
func (s *Stops) Between(from, to time.Time, a sidecar.Author, subject string) string {
	v := *s.view.Load()
	if len(v) == 0 {
		return ""
	}
	for _, scope := range [...]string{a.Key, a.Login, sidecar.AccountPrefix + a.Account} {
		for _, st := range v[scope] {
			if (st.Cause == Operator || st.Of == subject) && !st.Since.After(to) && (st.active(to) || st.ended().After(from)) {
				return st.Origin()
			}
		}
	}
	return ""
}

// inForce returns the last stop of a scope by an operator that is in force; nil if none is.
func (v view) inForce(now time.Time, scope string) *Stop {
	for _, st := range v[scope] {
		if st.Cause == Operator && st.active(now) {
			return st
		}
	}
	return nil
}

// mayHold returns how many recipients of an author's mail are accepted to be held.
func (s *Stops) mayHold(who sidecar.Payer) int {
	name := cmp.Or(who.Mailbox, who.Subject())
	limits := s.Settings().LimitsOf(name)
	if len(limits) == 0 {
		limits = s.Settings().LimitsOf(who.Subject())
	}
	if len(limits) == 0 {
		return heldLeast
	}
	return max(heldLeast, int(limits[0].Max))
}

// Operators grep for these texts, so they do not change.
const (
	textStopped  = "%s is stopped.  Message will be reattempted later"
	textRejected = "%s is stopped.  Message discarded."
	textKept     = "%s was stopped.  Message waits until somebody releases it"
)

// text words the refusals of a stop.
func (s *Stop) text(node string) func(sidecar.Action) sidecar.RefusalText {
	return func(a sidecar.Action) sidecar.RefusalText {
		text := cmp.Or(s.Text, fmt.Sprintf(textStopped, sidecar.TitleOfAuthor(s.Scope)))
		if a == sidecar.Reject {
			text = fmt.Sprintf(textRejected, sidecar.TitleOfAuthor(s.Scope))
		}
		return sidecar.RefusalText{Text: text, Where: "sluice on " + node, Log: s.Origin()}
	}
}

// Origin says who has made a stop, when, for how long and why.
func (s *Stop) Origin() string {
	text := fmt.Sprintf("stopped by %s at %s", s.Who, printable.DateTime(s.Since))
	if !s.Until.IsZero() {
		text += " until " + printable.DateTime(s.Until)
	}
	if s.Why != "" {
		text += ": " + s.Why
	}
	return text
}

// Ending says who has ended a stop, on which node and when; empty if nobody has.
func (s *Stop) Ending() string {
	if s.Ended.IsZero() {
		return ""
	}
	on := ""
	if s.EndedOn != "" { // an earlier version did not say
		on = " on " + s.EndedOn
	}
	return fmt.Sprintf("by %s%s at %s", s.EndedBy, on, printable.DateTime(s.Ended))
}

// Kept returns the Block of a message that a stop of a scope has held, and that stays held
// though the stop is over: it is old, and nobody has released it.
func (s *Stops) Kept(now time.Time, scope string, arrived time.Time) (sidecar.Block, bool) {
	for _, st := range (*s.view.Load())[scope] {
		if st.over(now) && st.Released.IsZero() && arrived.Before(st.ended().Add(-oldMail)) {
			return sidecar.Block{SMTP: sidecar.Defer, By: sidecar.ByStop, Stop: scope, Text: func(sidecar.Action) sidecar.RefusalText {
				return sidecar.RefusalText{Text: fmt.Sprintf(textKept, sidecar.TitleOfAuthor(scope)),
					Where: fmt.Sprintf("%s --release; sluice on %s", StartCommand(scope), s.Settings().Node)}
			}}, true
		}
	}
	return sidecar.Block{}, false
}

// KeptID is Kept for a message's id.
func (s *Stops) KeptID(now time.Time, scope, id string) bool {
	arrived, _ := envelope.IDTime(id)
	_, kept := s.Kept(now, scope, arrived)
	return kept
}

// Failure is why the files of the stopped cannot be made or removed now; nil if they can.
func (s *Stops) Failure() error {
	if s.Dir == nil {
		return nil
	}
	return s.Dir.Failure()
}

// A Request says what an operator wants to stop, and how.
type Request struct {
	Scope  string
	For    time.Duration // 0: until it is ended
	Reject bool
	Why    string
	Who    string
}

// Stop stops a scope on all nodes, at once or as soon as the board can be reached.
func (s *Stops) Stop(ctx context.Context, now time.Time, o Request) *Stop {
	at := now.Round(0).UTC().Truncate(time.Millisecond)
	st := &Stop{Mark: newMark(at), Scope: o.Scope, Since: at, Cause: Operator, Reject: o.Reject, Who: o.Who, Node: s.Settings().Node, Why: o.Why}
	if o.For > 0 {
		st.Until = at.Add(o.For)
	}
	s.post(ctx, keys+st.Mark, st)
	s.syncFiles(ctx, now)
	return st
}

// Start ends all stops of a scope on all nodes, and reports whether there were any. With
// release, what they have held goes however old it is, also of those that were over.
func (s *Stops) Start(ctx context.Context, now time.Time, scope, who string, release bool) bool {
	at := now.Round(0).UTC().Truncate(time.Millisecond)
	done := false
	for _, st := range (*s.view.Load())[scope] {
		if st.active(now) {
			done = true
			s.post(ctx, keys+st.Mark+endKey, end{Ended: at, EndedBy: who, EndedOn: s.Settings().Node})
		}
		if release && st.Released.IsZero() {
			done = true
			s.post(ctx, keys+st.Mark+releaseKey, end{EndedBy: who, EndedOn: s.Settings().Node, Released: at})
		}
	}
	s.syncFiles(ctx, now)
	return done
}

// End ends one stop of a scope on all nodes, and reports whether it was in force. Others of the
// scope go on.
func (s *Stops) End(ctx context.Context, now time.Time, scope, mark, who string) bool {
	for _, st := range (*s.view.Load())[scope] {
		if st.Mark == mark && st.active(now) {
			s.post(ctx, keys+st.Mark+endKey, end{Ended: now.Round(0).UTC().Truncate(time.Millisecond), EndedBy: who, EndedOn: s.Settings().Node})
			s.syncFiles(ctx, now)
			return true
		}
	}
	return false
}

// List returns the stops of a scope, or of all for "", the last first: with over also those
// of the last weeks that are over.
func (s *Stops) List(now time.Time, scope string, over bool) (all []Stop) {
	for name, stops := range *s.view.Load() {
		if scope != "" && name != scope {
			continue
		}
		for _, st := range stops {
			if over || st.active(now) {
				all = append(all, *st)
			}
			if !over && st.active(now) { // those before have no effect
				break
			}
		}
	}
	slices.SortFunc(all, func(a, b Stop) int { return strings.Compare(b.Mark, a.Mark) })
	return all
}

// Unposted reports whether the other nodes do not know all stops yet.
func (s *Stops) Unposted() (is bool) {
	s.outbox.Load(func([]string, []byte) error {
		is = true
		return nil
	})
	return is
}

// State is what a stop is at a time: "in force", "expired", or "ended" by somebody.
func (s *Stop) State(now time.Time) string {
	switch {
	case s.active(now):
		return "in force"
	case s.ended().Equal(s.Until):
		return "expired"
	}
	return "ended"
}
