package main

import (
	"errors"
	"time"

	"sluice/sidecar/attribution"
	"sluice/sidecar/exim"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/simulate"
)

// whoFromLogs finds who sends from logs alone, by the rules by which serve does, and from
// when to when the logs are.
func whoFromLogs(t *terminal, names []string, from foreignFlag) (who *attribution.Attribution, found whoFound, err error) {
	options, foreign, err := from.settingsFor(t, names)
	if err != nil {
		return nil, found, err
	}
	options.Who = true
	if directory := exim.Find(t.ctx, options.Config.Exim.Binary).Option(t.ctx, "spool_directory"); directory != "" && !foreign {
		options.Script = exim.OpenSpool(directory).Script
	}
	simulation := simulate.New(options)
	if err := simulation.Unread(); err != nil {
		return nil, found, err
	}
	if err := replayLogs(t, names, simulate.NewReplay(simulation)); err != nil {
		return nil, found, err
	}
	if who = simulation.Who(); who == nil {
		return nil, found, no{errors.New("there is no mail in the logs")}
	}
	report := simulation.Report()
	found.From, found.To = report.From, report.To
	return who, found, nil
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
