package script

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/event"
)

// A disabled script is checked every period within the first minutes, because whatever puts it back
// mostly does so at once, and later when its author tries to send.
const (
	Watched      = 7 * 24 * time.Hour
	firstMinutes = 2 * time.Minute
	period       = 10 * time.Second
)

// WatchVerb is the request of serve that sluice deliver check disabled scripts: serve cannot see
// into homes (ProtectHome). It names no script: the helper reads which to check from the record,
// which serve cannot write.
const WatchVerb = "scripts\n"

// A disabled is a script that was disabled, and not enabled again with undo.
type disabled struct {
	action int
	at     time.Time
	file   File
}

// readDisabled reads which scripts are to be watched from the record in a directory.
func readDisabled(dir string, now time.Time) (watched []disabled, err error) {
	record, err := action.Open(dir)
	if err != nil {
		return nil, err
	}
	all, err := record.Actions()
	for _, a := range all {
		s := disabled{action: a.Number, at: a.At}
		failed := a.Did != nil && a.Did.Failed != ""
		if a.Verb == Disabled && !failed && now.Sub(a.At) < Watched && action.UndoneBy(all, a.Number) == 0 && a.Read(&s.file) == nil {
			watched = append(watched, s)
		}
	}
	return watched, err
}

// A returned is a disabled script that can be run again.
type returned struct {
	Action int    `json:"action"`
	How    string `json:"how"`
}

// findReturned checks all scripts that are watched, and returns those that can be run again.
func findReturned(dir string, now time.Time) (back []returned, err error) {
	watched, err := readDisabled(dir, now)
	for _, s := range watched {
		if how := CameBack(s.file); how != "" {
			back = append(back, returned{s.action, how})
		}
	}
	return back, err
}

// askHelper is findReturned, done by sluice deliver if that listens on the socket helper.
func askHelper(ctx context.Context, helper, dir string, now time.Time) (back []returned, err error) {
	c, err := net.Dial("unix", helper)
	if err != nil {
		return findReturned(dir, now)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	c.SetDeadline(time.Now().Add(period))
	if _, err = io.WriteString(c, WatchVerb); err == nil {
		const most = 1 << 20 // bytes: that of some thousand scripts
		err = json.NewDecoder(io.LimitReader(c, most)).Decode(&back)
	}
	if err != nil {
		return nil, fmt.Errorf("have sluice deliver look at disabled scripts: %w", err)
	}
	return back, nil
}

// ServeWatch is the other end of askHelper, for sluice deliver: it writes as JSON what findReturned
// finds for the record in dir.
func ServeWatch(out io.Writer, dir string) error {
	back, err := findReturned(dir, time.Now())
	if err != nil {
		return fmt.Errorf("look at disabled scripts: %w", err)
	}
	return json.NewEncoder(out).Encode(back)
}

// A Watch emits an event when a disabled script is back.
type Watch struct {
	Record string // directory of the record of actions
	Events event.Sink

	helper  string                          // socket of sluice deliver
	authors atomic.Pointer[map[string]bool] // of the scripts that are watched; nil before the first step

	mu    sync.Mutex
	tried map[string]string // authors that have tried to send since the last step, and who would have paid

	emitted map[int]string // by action, how the script came back
	failed  bool           // the last check failed, and an event was emitted
}

// NewWatch watches by the socket of sluice deliver.
func NewWatch(helper string, events event.Sink) *Watch {
	return &Watch{Events: events, helper: helper, tried: map[string]string{}, emitted: map[int]string{}}
}

// Watches reports whether somebody is the author of a script that is watched.
func (w *Watch) Watches(author string) bool {
	authors := w.authors.Load()
	return authors != nil && (*authors)[author]
}

// Tried records that an author has tried to send, and who would have paid.
func (w *Watch) Tried(author, payer string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tried[strings.Clone(author)] = strings.Clone(payer)
}

// Run takes a step every ten seconds until ctx is done.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			w.Step(ctx, now)
		}
	}
}

// Step checks the scripts if that is due, and emits an event for each that is back.
func (w *Watch) Step(ctx context.Context, now time.Time) {
	watched, err := readDisabled(w.Record, now)
	due, tried := false, w.watch(watched)
	for _, s := range watched {
		_, tries := tried[s.file.Author]
		due = due || tries || now.Sub(s.at) < firstMinutes
	}
	if !due && err == nil {
		return
	}
	var back []returned
	if err == nil {
		back, err = askHelper(ctx, w.helper, w.Record, now)
	}
	if err != nil && !w.failed && ctx.Err() == nil {
		w.Events.Emit(event.Event{At: now, Kind: event.ScriptsUnwatched, Err: err})
	}
	if w.failed = err != nil; w.failed {
		return
	}
	told := map[int]string{}
	for _, b := range back {
		for _, s := range watched {
			if s.action == b.Action && w.emitted[b.Action] != b.How {
				w.emitBack(now, s, tried[s.file.Author], b.How)
			}
		}
		told[b.Action] = b.How
	}
	w.emitted = told
}

// watch makes Tried record the authors of these scripts from now on, and returns what it has
// recorded since the last call.
func (w *Watch) watch(scripts []disabled) (tried map[string]string) {
	authors := map[string]bool{}
	for _, s := range scripts {
		authors[s.file.Author] = true
	}
	w.authors.Store(&authors)
	w.mu.Lock()
	defer w.mu.Unlock()
	tried, w.tried = w.tried, map[string]string{}
	return tried
}

// emitBack emits that a script is back. domain is who pays for what its author sends; "" if it has
// not tried to send.
func (w *Watch) emitBack(now time.Time, s disabled, domain, how string) {
	w.Events.Emit(event.Event{
		At: now, Kind: event.CameBack, Domain: cmp.Or(domain, sidecar.AccountPrefix+s.file.Account), Err: errors.New(how),
		Attrs: event.Attrs("scope", s.file.Author, "file", s.file.Path.String(), "account", s.file.Account, "action", s.action),
	})
}
