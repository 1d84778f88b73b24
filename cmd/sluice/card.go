package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"sluice/sidecar/action"
	"sluice/sidecar/admin"
	"sluice/sidecar/card"
	"sluice/sidecar/clean"
	"sluice/sidecar/incident"
	"sluice/sidecar/limit"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
	"sluice/sidecar/queue"
)

// one shows the first incident of a list, and names the others.
func (c incidentCmd) one(t *terminal, l incidentList) error {
	if len(l.Incidents) == 0 {
		return no{errors.New("incident: there was none within the last 30 days")}
	}
	shown := &card.Card{Incident: l.Incidents[0]}
	if c.For == "customer" {
		return c.letter(t, shown)
	}
	l.Actions = t.actionsOf(&shown.Incident)
	if c.JSON {
		return printJSON(t.stdout, l)
	}
	for _, a := range l.Actions {
		shown.Deeds = append(shown.Deeds, card.Deed{At: a.At, What: string(a.Verb), Whom: a.Whom, By: a.By, Undo: a.Undo, State: a.State})
	}
	shown.Queued = t.queuedOf(shown.Culprit.Author, shown.Domain)
	if c.HTML {
		return shown.WriteHTML(t.stdout)
	}
	printCard(t.stdout, shown)
	for _, before := range l.Incidents[1:] {
		printf(t.stdout, "before it: incident %s, %s\n", before.ID, (&card.Card{Incident: before}).When())
	}
	return nil
}

// letter prints what a customer may read.
func (c incidentCmd) letter(t *terminal, shown *card.Card) error {
	if c.JSON {
		return errors.New("incident: a letter to a customer is not JSON: leave out --json")
	}
	e, err := ask(t, "incident", func(a *admin.Client) (operator.Explanation, error) { return a.Explain(t.ctx, shown.Domain) })
	if err != nil {
		e.Account = "" // then only addresses of the domain are the customer's
	}
	letter, is := shown.Letter(e.Account)
	switch {
	case !is:
		return no{fmt.Errorf("incident %s is about no domain of a customer", shown.ID)}
	case c.HTML:
		return letter.WriteHTML(t.stdout)
	}
	fmt.Fprint(t.stdout, letter.Text())
	return nil
}

// actionsOf are the actions of this node that were about an incident, or about its culprit while it
// was open and a week longer, the first first.
func (t *terminal) actionsOf(i *incident.Incident) (found []shownAction) {
	node, err := t.node()
	var all []action.Action
	if err == nil {
		all, err = t.host().Actions()
	}
	if err != nil {
		t.warn("what was done about it is not shown: " + err.Error())
		return nil
	}
	var about []action.Action
	for _, a := range all {
		his := i.Culprit.Author != "" && a.Whom == i.Culprit.Author && a.At.After(i.Opened) && (i.Open() || a.At.Before(i.Closed.Add(7*limit.Day)))
		if a.Incident == i.ID.String() || a.Incident == "" && his {
			about = append(about, a)
		}
	}
	if found, err = showActions(all, about, node); err != nil {
		t.warn("what was done about it is not shown: " + err.Error())
	}
	return found
}

// queuedOf is what the queue of this node has of an author; nil if that is not known. Each node of a
// cluster has a queue of its own.
func (t *terminal) queuedOf(author, domain string) *card.Queued {
	if author == "" {
		return nil
	}
	r, err := ask(t, "incident", func(a *admin.Client) (queue.Report, error) {
		return a.Queue(t.ctx, queue.Selection{Scope: author, Top: 1})
	})
	if err != nil || r.Trouble != "" || r.Uncounted > 0 {
		return nil
	}
	sent, silent := clean.OtherNodes(t.ctx, t.host(), domain)
	return &card.Queued{Node: r.Node, Messages: r.Messages, Others: append(sent, silent...)}
}

// printCard prints what is known of an incident.
func printCard(w io.Writer, c *card.Card) {
	fmt.Fprint(w, c.Text())
	printEvidence(w, &c.Incident)
	if history := c.History(); len(history) > 0 {
		fmt.Fprintln(w)
		rows := [][]printable.Text{cells("WHEN", "EVENT", "BY", "WHAT")}
		for _, e := range history {
			rows = append(rows, cells(e.When, e.What, e.By, e.Text))
		}
		printTable(w, "llll", rows)
	}
	next := c.Next("/")
	if len(next) == 0 {
		return
	}
	fmt.Fprintln(w)
	var rows [][]printable.Text
	for _, n := range next {
		rows = append(rows, cells("", n.What+":", n.Command))
	}
	if c.Queued != nil {
		for _, node := range c.Queued.Others {
			if typed := clean.On(node, "sluice queue", c.Culprit.Author); typed != "" {
				rows = append(rows, cells("", "what is left on "+node+":", typed))
			}
		}
	}
	printTable(w, "lll", rows)
}

// openSince are those of a list that were open at some time since one.
func openSince(all []incident.Incident, at time.Time) []incident.Incident {
	return slices.DeleteFunc(all, func(i incident.Incident) bool { return !i.Open() && i.Closed.Before(at) })
}

// A monthRow is what there was of one domain or condition.
type monthRow struct {
	about         string
	n, stopped    int
	worst         incident.Severity
	tried, sent   int64
	culprit, last string
	latest        time.Time
}

// printMonth prints the incidents of a month by domain, the worst first.
func printMonth(w io.Writer, all []incident.Incident) {
	if len(all) == 0 {
		fmt.Fprintln(w, "there was no incident within the last 30 days")
		return
	}
	by := map[string]*monthRow{}
	var sums []*monthRow
	for _, i := range all {
		about := (&card.Card{Incident: i}).About()
		r := by[about]
		if r == nil {
			r = &monthRow{about: about, latest: i.Opened, last: i.ID.String(), culprit: cmp.Or(i.Culprit.Author, "-")} // the last comes first
			by[about], sums = r, append(sums, r)
		}
		r.n, r.worst = r.n+1, max(r.worst, i.Severity)
		if i.Culprit.Stopped {
			r.stopped++
		}
		r.tried, r.sent = r.tried+i.Evidence.Tried, r.sent+i.Evidence.Sent
	}
	slices.SortStableFunc(sums, func(a, b *monthRow) int {
		return cmp.Or(cmp.Compare(b.worst, a.worst), cmp.Compare(b.n, a.n))
	})
	rows := [][]printable.Text{cells("ABOUT", "INCIDENTS", "WORST", "STOPPED", "TRIED", "SENT", "LAST", "SINCE", "CULPRIT")}
	for _, r := range sums {
		rows = append(rows, cells(r.about, r.n, r.worst, r.stopped, r.tried, r.sent, r.last, printable.DateTime(r.latest), r.culprit))
	}
	printTable(w, "lrlrrrlll", rows)
	printf(w, "%s of %s in 30 days; TRIED and SENT are of the worst hour of each\n", printable.Count(int64(len(all)), "incident", "incidents"),
		printable.Count(int64(len(sums)), "domain or condition", "domains and conditions"))
}
