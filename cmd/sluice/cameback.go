package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/event"
	"sluice/sidecar/script"
	"sluice/sidecar/senders"
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
	who    func(now time.Time, scope string, n int) (senders.Who, error)
	events event.Sink

	tried  map[string]int64 // by author, at the last look
	told   map[int]string   // by action, how it is back
	failed bool             // the last look, which was told
}

// watchScripts watches the scripts that were disabled on this node.
func (n *node) watchScripts(ctx context.Context, helper string) error {
	w := &scriptWatch{
		dir: n.actions, who: n.engine.WhoSends, events: n.events, tried: map[string]int64{}, told: map[int]string{},
		look: func(ctx context.Context, now time.Time) ([]scriptBack, error) {
			return askScriptsBack(ctx, helper, n.actions, now)
		},
	}
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
	due := false
	for _, s := range watched {
		due = w.tries(now, s.file.Author) || now.Sub(s.at) < firstMinutes || due
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
				w.tell(now, s, b.How)
			}
		}
		told[b.Action] = b.How
	}
	w.told = told
}

// tries reports whether an author has tried to send since the last time.
func (w *scriptWatch) tries(now time.Time, author string) bool {
	who, err := w.who(now, author, mostListed)
	if err != nil {
		return false // nothing is known of it
	}
	before := w.tried[author]
	w.tried[author] = triedBy(who, author)
	return w.tried[author] > before
}

// tell tells that a script is back, at whose expense its author sends, if it does.
func (w *scriptWatch) tell(now time.Time, s disabledScript, how string) {
	domain := sidecar.AccountPrefix + s.file.Account
	if who, err := w.who(now, s.file.Author, mostListed); err == nil && len(who.Domains) > 0 {
		domain = who.Domains[0].Domain
	}
	w.events.Emit(event.Event{At: now, Kind: event.CameBack, Domain: domain, Err: errors.New(how), Attrs: event.Attrs(
		"scope", s.file.Author, "file", s.file.Path.String(), "account", s.file.Account, "action", s.action)})
}
