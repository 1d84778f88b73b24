package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sluice/sidecar/admin"
	"sluice/sidecar/card"
	"sluice/sidecar/incident"
	"sluice/sidecar/limit"
	"sluice/sidecar/printable"
)

type incidentCmd struct {
	Which *string `arg:"" predictor:"scope" name:"incident" optional:"" help:"Which: its number, like mx1-42, or 42 of this node; or example.com, and of it the last."`
	HTML  bool    `name:"html" help:"Print one file for a browser, for operators."`
	For   string  `enum:"operator,customer" default:"operator" placeholder:"WHOM" help:"customer: what its customer may read, without recipients and other tenants."`
	Month bool    `help:"Only what was within the last 30 days, by domain."`
	jsonFlag
}

// Help is the long help.
func (incidentCmd) Help() string {
	return `An incident is all that happens to one domain, or to one part of this node, from the first
cause until ten minutes after the last is gone. If it begins again within an hour, it is the
same. Its evidence was copied when it was there to be seen: who sent when most was tried, and
the last line of the log for each cause of defers and failures. The newest 1,000 are kept, over
restarts. Without a number or domain they are listed, the last first. Nodes that share their
counts have one incident of a domain: the node that numbered it knows what all have seen.

Severity is the worst it was. Of a domain: info where a limit was nearly or quite used up,
warning where the sender had sent more than it usually does or was stopped alone, critical
where the whole domain was refused for its defers and failures.

The picture shows what its culprit and the others have sent in each minute, from an hour before
it was opened, as this node has seen it: # was sent, . was refused, and where there is nothing
below, nothing is known. DONE and the timeline have what operators did on this node, with the
command that takes it back. What is not known is not shown.

Examples:
  sluice incident
  sluice incident mx1-42
  sluice incident mx1-42 --html >mx1-42.html
  sluice incident mx1-42 --for customer
  sluice incident --month
  sluice incident example.com
  sluice incident --json | jq -r '.incidents[] | select(.closed == null) | .domain // .condition'` +
		jsonHelp(incidentList{}, "without closed it is open; of causes, without gone it is there. The proof of an author is proven, claimed or none.")
}

// incidentList is what incident prints with --json.
type incidentList struct {
	Incidents []incident.Incident `json:"incidents"`
	Actions   []shownAction       `json:"actions,omitempty"` // of one incident: what was done on this node
}

func (c incidentCmd) Run(t *terminal) error {
	which, err := orAll(c.Which, "incident: the number or domain is empty; leave it out for a list of all")
	if err != nil {
		return err
	}
	if which == "" && (c.HTML || c.For == "customer") {
		return errors.New("incident: --html and --for customer are of one incident: say which")
	}
	l, err := ask(t, "incident", func(a *admin.Client) (l incidentList, err error) {
		l.Incidents, err = a.Incidents(t.ctx, which)
		return l, err
	})
	switch {
	case err != nil:
		return err
	case c.Month:
		l.Incidents = openSince(l.Incidents, time.Now().Add(-30*limit.Day))
	}
	if which != "" {
		return c.one(t, l)
	}
	switch {
	case c.JSON:
		return printJSON(t.stdout, l)
	case c.Month:
		printMonth(t.stdout, l.Incidents)
	default:
		listIncidents(t.stdout, l.Incidents)
	}
	return nil
}

func listIncidents(w io.Writer, all []incident.Incident) {
	if len(all) == 0 {
		fmt.Fprintln(w, "there was no incident")
		return
	}
	rows := [][]printable.Text{cells("INCIDENT", "SEVERITY", "SINCE", "UNTIL", "ABOUT", "CAUSE", "CULPRIT")}
	for i := range all {
		one := &all[i]
		until := "open"
		if !one.Open() {
			until = printable.DateTime(one.Closed)
		}
		var causes []string
		for _, c := range one.Causes {
			causes = append(causes, c.Name)
		}
		rows = append(rows, cells(one.ID.String(), one.Severity.String(), printable.DateTime(one.Opened), until, (&card.Card{Incident: *one}).About(), strings.Join(causes, ", "), one.Culprit.Author))
	}
	printTable(w, "lllllll", rows)
}

// printEvidence prints who sent when it was worst, and the lines of the log.
func printEvidence(w io.Writer, i *incident.Incident) {
	e := i.Evidence
	if len(e.Who) > 0 {
		of := ""
		if e.Limit > 0 {
			of = fmt.Sprintf(" of %d", e.Limit)
		}
		printf(w, "  %-9s %s: %d%s sent, %d tried, %d refused\n\n", "AT WORST", card.Clock(e.At, i.Opened), e.Sent, of, e.Tried, e.Refused)
		printTable(w, "rrrlllrl", senderRows(e))
	}
	if len(e.Lines) > 0 {
		fmt.Fprintln(w)
	}
	for _, l := range e.Lines {
		printf(w, "  last of %s: %s\n", l.Cause, l.Text)
	}
}

func senderRows(e incident.Evidence) [][]printable.Text {
	rows := [][]printable.Text{cells("TRIED", "SENT", "BAD", "SENDER", "PROOF", "FROM", "RECIPIENTS", "TO")}
	for _, s := range e.Who {
		from, to, recipients := "-", "-", "-"
		if len(s.Networks) > 0 {
			from = s.Networks[0]
		}
		if more := len(s.Networks); more > 1 {
			from = fmt.Sprintf("%d networks, most %s", more, from)
			if s.MoreNetworks {
				from = "more than " + from
			}
		}
		if len(s.Destinations) > 0 {
			to = strings.Join(s.Destinations[:min(3, len(s.Destinations))], ", ")
		}
		if s.Recipients > 0 {
			recipients = fmt.Sprint(s.Recipients)
		}
		rows = append(rows, cells(s.Tried, s.Sent, s.Bad, s.Author, s.Proof, from, recipients, to))
	}
	return rows
}
