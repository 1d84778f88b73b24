package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/attribution"
	"sluice/sidecar/exim"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/printable"
	"sluice/sidecar/senders"
	"sluice/sidecar/simulate"
)

// fromLogs prints who sends by main logs alone.
func (c whoCmd) fromLogs(t *terminal, scope string) error {
	if scope != "" {
		var err error
		if scope, err = simulate.CanonicalScope(scope); err != nil {
			return fmt.Errorf("who: %w", err)
		}
	}
	who, to, err := whoFromLogs(t, c.Log, c.foreignFlag)
	if err != nil {
		return fmt.Errorf("who: %w", err)
	}
	found := senders.Who{Now: to, Missing: []string{}, Domains: who.Scope(to, scope, c.Top), Uncounted: []senders.Unpaid{}}
	switch {
	case len(found.Domains) == 0:
		return no{fmt.Errorf("who %s: nobody who is known here has sent anything of it in the logs", printable.Of(scope))}
	case c.JSON:
		return printJSON(t.stdout, found)
	}
	printWho(t.stdout, found, c.By, c.Top, scope == "")
	if hasScript(found) {
		fmt.Fprintln(t.stdout, "\nDirectories of scripts are from cwd= lines, which are what a script said.")
	}
	return nil
}

func hasScript(found senders.Who) bool {
	return slices.ContainsFunc(found.Domains, func(r senders.Report) bool {
		return slices.ContainsFunc(r.Authors, func(a senders.Author) bool { return strings.HasPrefix(a.Key, sidecar.ScriptPrefix) })
	})
}

// whoFromLogs finds who sends from logs alone, by the rules by which serve does, and returns
// the time of the last line.
func whoFromLogs(t *terminal, names []string, from foreignFlag) (who *attribution.Attribution, to time.Time, err error) {
	options, foreign, err := from.settingsFor(t, names)
	if err != nil {
		return nil, to, err
	}
	options.Who = true
	if directory := spoolOf(t.ctx, options.Config, exim.Find(t.ctx, options.Config.Exim.Binary)); directory != "" && !foreign {
		options.Script = exim.OpenSpool(directory).Script
	}
	simulation := simulate.New(options)
	if err := simulation.Unread(); err != nil {
		return nil, to, err
	}
	if err := replayLogs(t, names, simulate.NewReplay(simulation)); err != nil {
		return nil, to, err
	}
	if who = simulation.Who(); who == nil {
		return nil, to, no{errors.New("there is no mail in the logs")}
	}
	return who, simulation.Report().To, nil
}

// replayLogs has simulations read logs.
func replayLogs(t *terminal, names []string, replay *simulate.Replay) error {
	logs, err := mainlog.OpenHistory(names, time.Local)
	if err != nil {
		return err
	}
	defer logs.Close()
	if err := readLogs(t, logs, replay); err != nil {
		return err
	}
	replay.End(t.ctx)
	return nil
}
