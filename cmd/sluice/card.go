package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/admin"
	"sluice/sidecar/card"
	"sluice/sidecar/incident"
	"sluice/sidecar/operator"
	"sluice/sidecar/queue"
	"sluice/sidecar/stop"
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
	shown.Queued = t.queuedOf(shown.Culprit.Author)
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
		var record *action.Log
		if record, err = action.Open(t.actions); err == nil {
			all, err = record.Actions()
		}
	}
	if err != nil {
		t.warn("what was done about it is not shown: " + err.Error())
		return nil
	}
	for _, a := range all {
		about := i.Culprit.Author != "" && a.Whom == i.Culprit.Author && a.At.After(i.Opened) && (i.Open() || a.At.Before(i.Closed.Add(7*sidecar.Day)))
		if a.Incident == i.ID.String() || a.Incident == "" && about {
			found = append(found, showAction(all, a, node))
		}
	}
	return found
}

// queuedOf is what the queue of this node has of an author; nil if that is not known.
func (t *terminal) queuedOf(author string) *card.Queued {
	if author == "" {
		return nil
	}
	r, err := ask(t, "incident", func(a *admin.Client) (queue.Report, error) {
		return a.Queue(t.ctx, queue.Selection{Scope: author, Top: 1})
	})
	if err != nil || r.Trouble != "" || r.Uncounted > 0 {
		return nil
	}
	return &card.Queued{Node: r.Node, Messages: r.Messages}
}

// printCard prints what is known of an incident.
func printCard(w io.Writer, c *card.Card) {
	headline := ""
	if c.Headline() != "" {
		headline = "   " + c.Headline()
	}
	printf(w, "%s%s   incident %s, %s, %s\n\n", c.About(), headline, c.ID, c.Severity, c.When())
	if chart := c.Chart(); chart != nil {
		for _, line := range chart.Lines() {
			printf(w, "  %s\n", line)
		}
		fmt.Fprintln(w)
	}
	for _, f := range c.Facts() {
		printf(w, "  %-9s %s\n", f.Label, f.Text)
	}
	for _, cause := range c.Why() {
		printf(w, "  CAUSE     %s, %s\n", cause.Name, cause.When)
	}
	printEvidence(w, &c.Incident)
	if history := c.History(); len(history) > 0 {
		fmt.Fprintln(w)
		rows := [][]sidecar.Text{cells("WHEN", "EVENT", "BY", "WHAT")}
		for _, e := range history {
			rows = append(rows, cells(e.When, e.What, e.By, e.Text))
		}
		printTable(w, "llll", rows)
	}
	printNext(w, c)
}

// printNext prints what can be done.
func printNext(w io.Writer, c *card.Card) {
	var next [][]sidecar.Text
	add := func(what, command, name string) {
		if typed := sidecar.Command(command, name); typed != "" {
			next = append(next, cells("", what+":", typed))
		}
	}
	_, notStopped := stop.Canonical(c.Culprit.Author)
	switch {
	case !c.Open() || notStopped != nil:
	case c.IsStopped():
		add("let it send again", "sluice start", c.Culprit.Author)
	default:
		add("stop only this one", "sluice stop", c.Culprit.Author)
	}
	if sidecar.CanBeCleaned(c.Culprit.Kind) && c.Open() {
		add("clean up after it", "sluice clean", c.ID.String())
	}
	if c.Domain == "" {
		next = append(next, cells("", "how the node is:", "sluice doctor"))
	} else {
		add("who sends now", "sluice who", c.Domain)
		add("all that happened to it", "sluice events", c.Domain)
		add("what Exim has logged", "sluice log", cmp.Or(c.Culprit.Author, c.Domain))
	}
	if c.Culprit.Kind == "script" {
		add("who called the script", grepPosts(c.Began()), accessLog("/", c.Domain))
		add("what runs of its account", "ps -o pid,lstart,args -u", c.Culprit.Account)
	}
	if len(next) > 0 {
		fmt.Fprintln(w)
		printTable(w, "lll", next)
	}
}

// grepPosts finds what was posted to a site in the first three minutes of an incident: that is
// how a script is told to send.
func grepPosts(from time.Time) string {
	var minutes []string
	for n := range 3 {
		minutes = append(minutes, from.Add(time.Duration(n)*time.Minute).Local().Format("02/Jan/2006:15:04"))
	}
	return fmt.Sprintf(`grep -E '(%s).*"POST '`, strings.Join(minutes, "|"))
}

// accessLog is where the web server's log of a domain is on this host; empty: it is not known.
func accessLog(root, domain string) string {
	if !sidecar.IsDomain(domain) {
		return ""
	}
	for _, dir := range []string{
		"etc/apache2/logs/domlogs/DOMAIN", "usr/local/apache/domlogs/DOMAIN", // cPanel
		"var/log/httpd/domains/DOMAIN.log",                 // DirectAdmin
		"var/www/vhosts/system/DOMAIN/logs/access_ssl_log", // Plesk
		"var/log/virtualmin/DOMAIN_access_log",             // Virtualmin
		"var/log/apache2/DOMAIN.log", "var/log/nginx/DOMAIN.log",
	} {
		path := root + strings.ReplaceAll(dir, "DOMAIN", domain)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
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
	rows := [][]sidecar.Text{cells("ABOUT", "INCIDENTS", "WORST", "STOPPED", "TRIED", "SENT", "LAST", "SINCE", "CULPRIT")}
	for _, r := range sums {
		rows = append(rows, cells(r.about, r.n, r.worst, r.stopped, r.tried, r.sent, r.last, sidecar.DateTime(r.latest), r.culprit))
	}
	printTable(w, "lrlrrrlll", rows)
	printf(w, "%s of %s in 30 days; TRIED and SENT are of the worst hour of each\n", sidecar.Count(int64(len(all)), "incident", "incidents"),
		sidecar.Count(int64(len(sums)), "domain or condition", "domains and conditions"))
}
