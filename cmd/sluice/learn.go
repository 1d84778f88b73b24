package main

import (
	"errors"
	"fmt"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/attribution"
	"sluice/sidecar/limit"
	"sluice/sidecar/printable"
	"sluice/sidecar/simulate"
)

type learnCmd struct {
	Logs []string `arg:"" name:"log" help:"Main logs of Exim, also rotated ones and .gz, in any order."`
	jsonFlag
}

// Help is the long help.
func (learnCmd) Help() string {
	return `Tells the running sluice how much each mailbox, script and login has sent in the busiest
hour of each day of the logs. So who sends more than it usually does need not be waited for:
what is usual is known from the first day on, and the others of its domain keep their share.
At most the last 35 days count. Counts, limits and locks stay as they are; a day that is
known already is not lowered, and the same logs again change nothing. Days on which an
author was stopped are left out. Directories of scripts are in the logs only with
log_selector = +arguments.

In a cluster each node knows what it was asked itself: learn on each, from its own logs.

Examples:
  sluice learn /var/log/exim4/mainlog*
  sluice learn /var/log/exim_mainlog-202611*.gz` + jsonHelp(learned{}, "domains, authors and days are those of which something was not known before.")
}

// A learned is the result of the command.
type learned struct {
	From time.Time `json:"from"` // of the logs
	To   time.Time `json:"to"`
	attribution.Learned
}

// learnAtOnce is of how many domains the running sluice is told at once.
const learnAtOnce = 500

func (c learnCmd) Run(t *terminal) error {
	l, err := c.learn(t)
	switch {
	case err != nil:
		return fmt.Errorf("learn: %w", err)
	case c.JSON:
		return printJSON(t.stdout, l)
	}
	printf(t.stdout, "%s to %s: learned what %s of %s usually send, of %s not known before\n", printable.DateTime(l.From), printable.DateTime(l.To),
		printable.Count(int64(l.Authors), "author", "authors"), printable.Count(int64(l.Domains), "domain", "domains"), printable.Count(int64(l.Days), "day", "days"))
	return nil
}

// learn reads the logs by the rules by which serve finds who sends, with nobody limited, and
// tells the running sluice what is usual.
func (c learnCmd) learn(t *terminal) (l learned, err error) {
	own := false
	options, _, err := foreignFlag{Foreign: &own}.settingsFor(t, c.Logs)
	if err != nil {
		return l, err
	}
	for _, key := range []string{"hourly", "daily", "deferfail_percent"} {
		options.Set = append(options.Set, limit.Setting{Scope: sidecar.DefaultScope, Key: key, Value: int64(0)})
	}
	simulation := simulate.New(options)
	if err := simulation.Unread(); err != nil {
		return l, err
	}
	if err := replayLogs(t, c.Logs, simulate.NewReplay(simulation)); err != nil {
		return l, err
	}
	who := simulation.Who()
	if who == nil {
		return l, no{errors.New("there is no mail in the logs")}
	}
	l.From, l.To = simulation.Report().From, simulation.Report().To
	some := map[string]attribution.Hours{}
	tell := func() error {
		more, err := ask(t, "tell what is usual", func(a *admin.Client) (attribution.Learned, error) { return a.Learn(t.ctx, some) })
		l.Domains, l.Authors, l.Days = l.Domains+more.Domains, l.Authors+more.Authors, l.Days+more.Days
		clear(some)
		return err
	}
	for domain, hours := range who.Usual(l.To) {
		if some[domain] = hours; len(some) == learnAtOnce {
			if err := tell(); err != nil {
				return l, err
			}
		}
	}
	return l, tell()
}
