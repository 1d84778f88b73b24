package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/eventlog"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
)

type eventsCmd struct {
	Scope *string `arg:"" predictor:"scope" optional:"" help:"Of whom: example.com, news@example.com, account:bob or another sender that sluice who shows."`
	Since string  `default:"24h" placeholder:"TIME" help:"Only what has happened within this time: 90m, 24h, 7d (default: 24h)."`
	jsonFlag
}

// Help is the long help.
func (eventsCmd) Help() string {
	return `What was locked, refused, held and released, what operators have done, and what
was wrong with this node, the first first. Nodes that share their counts tell each other
what has happened to domains within seconds, and show on which one. Of a domain that is what happened to its mailboxes
too; of a mailbox also what happened to its whole domain; of an account that of its domains.
BY is who did it; where it is empty, Sluice did.

What is the same within an hour is one line, with how often. The last 20,000 lines are
kept, over restarts, and at most 500 of one domain. Of a domain, 32 senders are told apart
within an hour whose mail was refused; the others have one line together. What Exim has logged
of single messages: sluice log.

Examples:
  sluice events
  sluice events example.com --since 2d
  sluice events news@example.com --json | jq -r '.events[] | select(.event == "refused").at'` +
		jsonHelp(operator.Past{}, "at and last are the first and the last time; without by, Sluice did it; without node, it was on this one.")
}

func (c eventsCmd) Run(t *terminal) error {
	scope, err := orAll(c.Scope, "events: the name is empty; leave it out to see what has happened to all")
	if err != nil {
		return err
	}
	within, err := parseTime("--since", c.Since)
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	question := func(a *admin.Client) (operator.Past, error) { return a.Happened(t.ctx, scope, within) }
	return show(t, c.JSON, "events", question, func(p operator.Past) { printEvents(t.stdout, p, scope, printable.Brief(within)) })
}

func printEvents(w io.Writer, p operator.Past, scope, within string) {
	if len(p.Events) == 0 {
		of := ""
		if scope != "" {
			of = " to " + printable.Of(scope)
		}
		printf(w, "%s: nothing has happened%s in the last %s\n", p.Node, of, within)
		return
	}
	shared := slices.ContainsFunc(p.Events, func(r eventlog.Record) bool { return r.Node != "" })
	row := func(at, node, event, whom, by, what any) []printable.Text {
		if !shared {
			return cells(at, event, whom, by, what)
		}
		return cells(at, node, event, whom, by, what)
	}
	rows := [][]printable.Text{row("WHEN", "NODE", "EVENT", "WHOM", "BY", "WHAT")}
	for _, r := range p.Events {
		rows = append(rows, row(printable.DateTime(r.At), cmp.Or(r.Node, p.Node), r.Event, whom(r), r.By, often(r)+r.Text))
	}
	printTable(w, "llllll"[:len(rows[0])], rows)
}

// whom is whom a record is about.
func whom(r eventlog.Record) string {
	switch {
	case r.Scope == "":
		return r.Domain
	case r.Domain == "" || sidecar.IsMailbox(r.Scope):
		return r.Scope
	}
	return r.Scope + " of " + r.Domain
}

// often says how often something has happened; empty if once.
func often(r eventlog.Record) string {
	if r.Count < 2 {
		return ""
	}
	return fmt.Sprintf("%s until %s: ", printable.Count(r.Count, "time", "times"), r.Last.Local().Format("15:04:05"))
}
