package main

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
	"sluice/sidecar/policy"
	"sluice/sidecar/script"
)

// These are when serve has a disabled script looked at again: each time within the first minutes,
// for what puts it back mostly does so at once, and then when its author tries to send.
const (
	watchScripts = 7 * 24 * time.Hour
	firstMinutes = 2 * time.Minute
	scriptPeriod = 10 * time.Second
)

// scriptsVerb is what serve says to sluice deliver to have disabled scripts looked at: serve cannot
// see into homes (ProtectHome). It says no more than that: which they are, the helper reads from
// the record, which serve cannot write.
const scriptsVerb = "scripts\n"

// A disabledScript is one that was disabled and not taken back.
type disabledScript struct {
	action int
	at     time.Time
	file   script.File
}

// disabledScripts reads which scripts are to be watched from the record in a directory.
func disabledScripts(dir string, now time.Time) (watched []disabledScript, err error) {
	record, err := action.Open(dir)
	if err != nil {
		return nil, err
	}
	all, err := record.Actions()
	for _, a := range all {
		s := disabledScript{action: a.Number, at: a.At}
		failed := a.Did != nil && a.Did.Failed != ""
		if a.Verb == script.Disabled && !failed && now.Sub(a.At) < watchScripts && action.UndoneBy(all, a.Number) == 0 && a.Read(&s.file) == nil {
			watched = append(watched, s)
		}
	}
	return watched, err
}

// A scriptBack is a disabled script that can be run again.
type scriptBack struct {
	Action int    `json:"action"`
	How    string `json:"how"`
}

// scriptsBack looks at all scripts that are to be watched.
func scriptsBack(dir string, now time.Time) (back []scriptBack, err error) {
	watched, err := disabledScripts(dir, now)
	for _, s := range watched {
		if how := script.CameBack(s.file); how != "" {
			back = append(back, scriptBack{s.action, how})
		}
	}
	return back, err
}

// askScriptsBack has sluice deliver look, if it listens on a socket, and looks itself if not.
func askScriptsBack(ctx context.Context, helper, dir string, now time.Time) (back []scriptBack, err error) {
	c, err := net.Dial("unix", helper)
	if err != nil {
		return scriptsBack(dir, now)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	c.SetDeadline(time.Now().Add(scriptPeriod))
	if _, err = io.WriteString(c, scriptsVerb); err == nil {
		const most = 1 << 20 // bytes: that of some thousand scripts
		err = json.NewDecoder(io.LimitReader(c, most)).Decode(&back)
	}
	if err != nil {
		return nil, fmt.Errorf("have sluice deliver look at disabled scripts: %w", err)
	}
	return back, nil
}

// deliverScripts is the other end of askScriptsBack.
func deliverScripts(t *terminal) error {
	back, err := scriptsBack(t.actions, time.Now())
	if err != nil {
		return fmt.Errorf("look at disabled scripts: %w", err)
	}
	return json.NewEncoder(t.stdout).Encode(back)
}

// A scriptWatch tells when a disabled script is back.
type scriptWatch struct {
	dir    string // of the record of actions
	look   func(context.Context, time.Time) ([]scriptBack, error)
	events event.Sink

	authors atomic.Pointer[map[string]bool] // of the scripts that are watched; nil before the first step

	mu    sync.Mutex
	tried map[string]string // who of them has tried to send since the last step, at whose expense

	told   map[int]string // by action, how it is back
	failed bool           // the last look, which was told
}

// newScriptWatch watches by the socket of sluice deliver.
func newScriptWatch(helper string, events event.Sink) *scriptWatch {
	w := &scriptWatch{events: events, tried: map[string]string{}, told: map[int]string{}}
	w.look = func(ctx context.Context, now time.Time) ([]scriptBack, error) {
		return askScriptsBack(ctx, helper, w.dir, now)
	}
	return w
}

// Decided implements policy.Observer.
func (w *scriptWatch) Decided(_ time.Time, d *policy.Decision) {
	authors := w.authors.Load()
	if authors == nil || !(*authors)[d.Author.Key] {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tried[strings.Clone(d.Author.Key)] = strings.Clone(d.Payer.Subject())
}

// Run takes a step each scriptPeriod until ctx is done.
func (w *scriptWatch) Run(ctx context.Context) error {
	tick := time.NewTicker(scriptPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			w.step(ctx, now)
		}
	}
}

// step has the scripts looked at if that is due, and tells which are back.
func (w *scriptWatch) step(ctx context.Context, now time.Time) {
	watched, err := disabledScripts(w.dir, now)
	due, tried := false, w.watch(watched)
	for _, s := range watched {
		_, tries := tried[s.file.Author]
		due = due || tries || now.Sub(s.at) < firstMinutes
	}
	if !due && err == nil {
		return
	}
	var back []scriptBack
	if err == nil {
		back, err = w.look(ctx, now)
	}
	if err != nil && !w.failed && ctx.Err() == nil {
		w.events.Emit(event.Event{At: now, Kind: event.ScriptsUnwatched, Err: err})
	}
	if w.failed = err != nil; w.failed {
		return
	}
	told := map[int]string{}
	for _, b := range back {
		for _, s := range watched {
			if s.action == b.Action && w.told[b.Action] != b.How {
				w.tell(now, s, tried[s.file.Author], b.How)
			}
		}
		told[b.Action] = b.How
	}
	w.told = told
}

// watch has the attempts of the authors of scripts noticed from now on, and returns those since
// the last time.
func (w *scriptWatch) watch(scripts []disabledScript) (tried map[string]string) {
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

// tell tells that a script is back, at whose expense its author sends, if it does.
func (w *scriptWatch) tell(now time.Time, s disabledScript, domain, how string) {
	w.events.Emit(event.Event{
		At: now, Kind: event.CameBack, Domain: cmp.Or(domain, sidecar.AccountPrefix+s.file.Account), Err: errors.New(how),
		Attrs: event.Attrs("scope", s.file.Author, "file", s.file.Path.String(), "account", s.file.Account, "action", s.action),
	})
}
