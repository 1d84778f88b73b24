package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/incident"
	"sluice/sidecar/stop"
)

type incidentCmd struct {
	Which *string `arg:"" name:"incident" optional:"" help:"Which: its number, like mx1-42, or 42 of this node; or example.com, and of it the last."`
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

Examples:
  sluice incident
  sluice incident mx1-42
  sluice incident example.com
  sluice incident --json | jq -r '.incidents[] | select(.closed == null) | .domain // .condition'` +
		jsonHelp(incidentList{}, "without closed it is open; of causes, without gone it is there. The proof of an author is proven, claimed or none.")
}

// incidentList is what incident prints with --json.
type incidentList struct {
	Incidents []incident.Incident `json:"incidents"`
}

func (c incidentCmd) Run(t *terminal) error {
	which := ""
	if c.Which != nil {
		if which = *c.Which; which == "" {
			return errors.New("incident: the number or domain is empty; leave it out for a list of all")
		}
	}
	question := func(a *admin.Client) (l incidentList, err error) {
		l.Incidents, err = a.Incidents(t.ctx, which)
		return l, err
	}
	return show(t, c.JSON, "incident", question, func(l incidentList) {
		if which == "" {
			listIncidents(t.stdout, l.Incidents)
			return
		}
		printIncident(t.stdout, &l.Incidents[0])
		for _, before := range l.Incidents[1:] {
			printf(t.stdout, "before it: incident %s, %s\n", before.ID, when(&before))
		}
	})
}

func listIncidents(w io.Writer, all []incident.Incident) {
	if len(all) == 0 {
		fmt.Fprintln(w, "there was no incident")
		return
	}
	rows := [][]sidecar.Text{cells("INCIDENT", "SEVERITY", "SINCE", "UNTIL", "ABOUT", "CAUSE", "CULPRIT")}
	for i := range all {
		one := &all[i]
		until := "open"
		if !one.Open() {
			until = sidecar.DateTime(one.Closed)
		}
		var causes []string
		for _, c := range one.Causes {
			causes = append(causes, c.Name)
		}
		rows = append(rows, cells(one.ID.String(), one.Severity.String(), sidecar.DateTime(one.Opened), until, aboutOf(one), strings.Join(causes, ", "), one.Culprit.Author))
	}
	printTable(w, "lllllll", rows)
}

// aboutOf is whom or what an incident is about.
func aboutOf(i *incident.Incident) string {
	return cmp.Or(i.Domain, i.Node+": "+string(i.Condition))
}

// when says since and until when there was an incident.
func when(i *incident.Incident) string {
	if i.Open() {
		return "open since " + sidecar.DateTime(i.Opened)
	}
	return fmt.Sprintf("from %s to %s", sidecar.DateTime(i.Opened), sidecar.DateTime(i.Closed))
}

// printIncident prints the card of an incident.
func printIncident(w io.Writer, i *incident.Incident) {
	printf(w, "%s   %s, %s   incident %s\n\n", aboutOf(i), i.Severity, when(i), i.ID)
	for _, c := range i.Causes {
		until := "still so"
		if !c.Gone.IsZero() {
			until = "until " + clock(c.Gone, i.Opened)
		}
		printf(w, "  CAUSE     %s, since %s, %s\n", strings.TrimSpace(c.Name+" "+c.Scope), clock(c.Since, i.Opened), until)
	}
	printCulprit(w, i)
	printEvidence(w, i)
	if len(i.Timeline) > 0 {
		fmt.Fprintln(w)
		rows := [][]sidecar.Text{cells("WHEN", "EVENT", "BY", "WHAT")}
		for _, e := range i.Timeline {
			times := ""
			if e.Count > 1 {
				times = fmt.Sprintf("%d times until %s: ", e.Count, clock(e.Last, i.Opened))
			}
			rows = append(rows, cells(clock(e.At, i.Opened), e.Event, e.By, times+e.Text))
		}
		printTable(w, "llll", rows)
	}
	printNext(w, i)
}

// clock is the time of the day or, on another day than the first, with the date.
func clock(at, first time.Time) string {
	at, first = at.Local(), first.Local()
	if at.YearDay() == first.YearDay() && at.Year() == first.Year() {
		return at.Format("15:04:05")
	}
	return at.Format("2006-01-02 15:04:05")
}

func printCulprit(w io.Writer, i *incident.Incident) {
	c := i.Culprit
	if c.Author == "" {
		return
	}
	text := fmt.Sprintf("%s, %d of %d", c.Author, c.Count, c.Of)
	if c.Usual > 0 {
		text += fmt.Sprintf(", usually %d in its busiest hours", c.Usual)
	}
	if c.Stopped {
		text += ", stopped alone"
	}
	printf(w, "  WHO       %s   [%s]\n", text, c.Proof)
}

// printEvidence prints who sent when it was worst, and the lines of the log.
func printEvidence(w io.Writer, i *incident.Incident) {
	e := i.Evidence
	if len(e.Who) > 0 {
		of := ""
		if e.Limit > 0 {
			of = fmt.Sprintf(" of %d", e.Limit)
		}
		printf(w, "  AT WORST  %s: %d%s sent, %d tried, %d refused\n", clock(e.At, i.Opened), e.Sent, of, e.Tried, e.Refused)
		if others, sent := others(i); others > 0 {
			printf(w, "  OTHERS    %s: %d sent\n", sidecar.Count(int64(others), "sender", "senders"), sent)
		}
		fmt.Fprintln(w)
		printTable(w, "rrrlllrl", senderRows(e))
	}
	if len(e.Lines) > 0 {
		fmt.Fprintln(w)
	}
	for _, l := range e.Lines {
		printf(w, "  last of %s: %s\n", l.Cause, l.Text)
	}
}

// others are those of the senders that are not the culprit, and what they have sent.
func others(i *incident.Incident) (n int, sent int64) {
	for _, s := range i.Evidence.Who {
		if i.Culprit.Author != "" && s.Author != i.Culprit.Author {
			n, sent = n+1, sent+s.Sent
		}
	}
	return n, sent
}

func senderRows(e incident.Evidence) [][]sidecar.Text {
	rows := [][]sidecar.Text{cells("TRIED", "SENT", "BAD", "SENDER", "PROOF", "FROM", "RECIPIENTS", "TO")}
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

// printNext prints what can be done.
func printNext(w io.Writer, i *incident.Incident) {
	var next [][]sidecar.Text
	add := func(what, command, name string) {
		if typed := sidecar.Command("sluice "+command, name); typed != "" {
			next = append(next, cells("", what+":", typed))
		}
	}
	_, notStopped := stop.Canonical(i.Culprit.Author)
	switch {
	case !i.Open() || notStopped != nil:
	case i.Culprit.Stopped:
		add("let it send again", "start", i.Culprit.Author)
	default:
		add("stop only this one", "stop", i.Culprit.Author)
	}
	if i.Domain == "" {
		next = append(next, cells("", "how the node is:", "sluice doctor"))
	} else {
		add("who sends now", "who", i.Domain)
		add("all that happened to it", "events", i.Domain)
		add("what Exim has logged", "log", cmp.Or(i.Culprit.Author, i.Domain))
	}
	if len(next) > 0 {
		fmt.Fprintln(w)
		printTable(w, "lll", next)
	}
}
