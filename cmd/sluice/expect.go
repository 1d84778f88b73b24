package main

import (
	"fmt"
	"os"
	"strconv"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/incident"
	"sluice/sidecar/operator"
	"sluice/sidecar/senders"
	"sluice/sidecar/stop"
)

type expectCmd struct {
	Scope string `arg:"" predictor:"scope" help:"news@example.com, script:/home/bob/shop, login:bob; example.com for each of its authors; or mx1-42, an incident, for its culprit."`
	Sends *int64 `arg:"" optional:"" help:"So many an hour are fine. Default: three times what is sent in this one."`
	For   string `default:"40d" placeholder:"TIME" help:"For so long: 90m, 24h, 7d (default: 40d)."`
	Why   string `placeholder:"TEXT" help:"Kept in the history."`
	jsonFlag
}

// Help is the long help.
func (expectCmd) Help() string {
	return `It is fine that this author sends so much: up to that number an hour it has no spike, its
limit raises no warning when it is used up, and what it sends becomes usual. Limits, stops and what
it leaves to others stay as they are. It is the key expected of sluice set, on every node:
history, explain and who show it, and rollback takes it back. After 35 days the author's own
busiest hour says as much; for good, set limits.mailbox."news@example.com".expected in the
configuration file.

Examples:
  sluice expect mx1-42
  sluice expect news@example.com 5000 --for 24h --why "sale, ticket 4711"` + jsonHelp(operator.Result{}, "As of set.")
}

func (c expectCmd) Run(t *terminal) error {
	lasts, err := parseTime("--for", c.For)
	if err != nil {
		return fmt.Errorf("expect %s: %w", c.Scope, err)
	}
	scope, err := c.scope(t)
	if err != nil {
		return err
	}
	if kind := (sidecar.Author{Key: scope}).Kind(); kind == "forward" || kind == "client" || kind == "loopback" {
		return no{fmt.Errorf("expect %s: it has no spikes: strangers choose what it sends, or it is many", scope)}
	}
	sends, err := c.sends(t, scope)
	if err != nil {
		return err
	}
	r := admin.ChangeRequest{Scope: scope, Set: []string{"expected=" + strconv.FormatInt(sends, 10)}, For: lasts, Why: c.Why, Sudo: os.Getenv("SUDO_USER")}
	question := func(a *admin.Client) (operator.Result, error) { return a.Change(t.ctx, r) }
	return show(t, c.JSON, "expect "+scope, question, func(result operator.Result) {
		t.printChange(result.Change, false)
		t.warn(result.Warning)
	})
}

// scope is whose sends are expected: of an incident its culprit.
func (c expectCmd) scope(t *terminal) (string, error) {
	if !incident.IsName(c.Scope) {
		if author, err := stop.Canonical(c.Scope); err == nil {
			return author, nil
		}
		return c.Scope, nil
	}
	all, err := ask(t, "expect "+c.Scope, func(a *admin.Client) ([]incident.Incident, error) { return a.Incidents(t.ctx, c.Scope) })
	if err != nil {
		return "", err
	}
	if who := all[0].Culprit.Author; who != "" {
		return who, nil
	}
	return "", no{fmt.Errorf("expect %s: nobody is known who has sent most of it; name the author: sluice who", c.Scope)}
}

// timesExpected is how many times as much as in this hour is fine: as much more is a spike
// again.
const timesExpected = 3

// sends is how many an hour are fine.
func (c expectCmd) sends(t *terminal, scope string) (n int64, err error) {
	if c.Sends != nil {
		if n = *c.Sends; n < 1 {
			err = fmt.Errorf("expect %s: %d is no number of sends that could be expected; to take back what was: sluice unset AUTHOR expected", scope, n)
		}
		return n, err
	}
	who, err := ask(t, "expect "+scope, func(a *admin.Client) (senders.Who, error) { return a.WhoSends(t.ctx, scope, 1) })
	const unknown = "say how many an hour are fine, like sluice expect news@example.com 1000"
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, unknown)
	}
	for _, d := range who.Domains {
		for _, a := range d.Authors {
			if a.Key == scope || sidecar.IsDomain(scope) {
				n = max(n, timesExpected*a.Tried)
			}
		}
	}
	if n == 0 {
		return 0, no{fmt.Errorf("expect %s: it has sent nothing in this hour; %s", scope, unknown)}
	}
	return n, nil
}
