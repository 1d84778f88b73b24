package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/admin"
)

type statusCmd struct {
	Domain string `arg:"" optional:"" help:"Only this domain, in detail."`
	jsonFlag
}

// Help is the long help.
func (statusCmd) Help() string {
	return `Domains that are locked, held or near their limit come first.

Examples:
  sluice status
  sluice status example.com
  sluice status --json | jq -r '.domains[] | select(.locks != []) | .domain'`
}

func (c statusCmd) Run(t *terminal) error {
	var status sidecar.Status
	err := t.askAdmin("status", func(a *admin.Client) (err error) {
		status, err = a.Status(t.ctx, c.Domain)
		return err
	})
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printJSON(t.stdout, status)
	case c.Domain != "":
		for _, d := range status.Domains {
			printDomain(t.stdout, status, d)
		}
	default:
		printStatus(t.stdout, status)
	}
	return nil
}

// printStatus prints the table of all domains, the totals and what is wrong.
func printStatus(w io.Writer, s sidecar.Status) {
	if len(s.Domains) == 0 {
		fmt.Fprintf(w, "%s: no domain has sent in the last hour, nothing is locked.\n", s.Node)
	} else {
		printTable(w, "lrrrrll", domainRows(s))
	}
	fmt.Fprintf(w, "\n%s: %s; since the start %d sends accepted, %d refused or held, repeats included",
		s.Node, count(int64(len(s.Domains)), "domain", "domains"), s.Totals.Accepted, s.Totals.Refused)
	if s.Totals.Exempt > 0 {
		fmt.Fprintf(w, ", %d exempt", s.Totals.Exempt)
	}
	fmt.Fprintf(w, ".\n")
	for _, warning := range warnings(s.Totals) {
		fmt.Fprintf(w, "WARNING: %s\n", warning)
	}
}

func domainRows(s sidecar.Status) [][]string {
	rows := [][]string{{"DOMAIN", "SENT/LIMIT", "%", "REFUSED", "HELD", "LOCKS", "FREES"}}
	for _, d := range byUrgency(s.Domains) {
		limit, percent := "-", "-"
		if d.Hourly > 0 {
			limit, percent = fmt.Sprint(d.Hourly), fmt.Sprintf("%d%%", d.HourlyPercent)
		}
		rows = append(rows, []string{
			d.Domain, fmt.Sprintf("%d/%s", d.Sent, limit), percent,
			fmt.Sprint(d.Refused), fmt.Sprint(d.Held), lockNames(d.Locks), frees(s.Now, d),
		})
	}
	return rows
}

// byUrgency puts first what an operator looks for: locks, then what is held,
// then what is nearest to its limit.
func byUrgency(domains []sidecar.DomainStatus) []sidecar.DomainStatus {
	return slices.SortedFunc(slices.Values(domains), func(a, b sidecar.DomainStatus) int {
		return cmp.Or(
			cmp.Compare(min(len(b.Locks), 1), min(len(a.Locks), 1)),
			cmp.Compare(min(b.Held, 1), min(a.Held, 1)),
			cmp.Compare(b.HourlyPercent, a.HourlyPercent),
			cmp.Compare(b.Sent, a.Sent),
			cmp.Compare(a.Domain, b.Domain),
		)
	})
}

func lockNames(locks []sidecar.LockStatus) string {
	if len(locks) == 0 {
		return "-"
	}
	var names []string
	for _, l := range locks {
		name := string(l.Kind)
		if l.Owner == "operator" {
			name += " (by hand)"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// frees tells when the domain may send again; "-" where it may now.
func frees(now time.Time, d sidecar.DomainStatus) string {
	if d.FreesAt != nil {
		return "in " + span(d.FreesAt.Sub(now))
	}
	for _, l := range d.Locks {
		if l.Owner == "operator" {
			return "by hand"
		}
	}
	return "-"
}

// warnings tell of states of the whole node that need somebody.
func warnings(t sidecar.Totals) []string {
	var w []string
	if t.Journal != "" && t.Journal != "ok" {
		w = append(w, fmt.Sprintf("what is answered now would not survive a crash: %s. "+
			"Look at the file system of store.dir; mail goes on meanwhile.", t.Journal))
	}
	if t.Locks != "" && t.Locks != "ok" {
		w = append(w, fmt.Sprintf("lock files do not hold while sluice is stopped: %s. "+
			"Mail is counted and refused all the same.", t.Locks))
	}
	if t.Uncounted > 0 {
		w = append(w, fmt.Sprintf("%d sends of new subjects passed uncounted, because %s are counted, "+
			"which is store.max_subjects. Raise it.", t.Uncounted, count(t.Subjects, "subject", "subjects")))
	}
	if t.Unidentified > 0 {
		w = append(w, fmt.Sprintf("%s passed uncounted, because nobody could be found to charge. "+
			"The log names them.", count(t.Unidentified, "question", "questions")))
	}
	return w
}

// printDomain prints all that is known of one domain.
func printDomain(w io.Writer, s sidecar.Status, d sidecar.DomainStatus) {
	fmt.Fprintf(w, "%s on %s\n", d.Domain, s.Node)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	if d.Account != "" {
		line("account", "%s", d.Account)
	}
	if d.Hourly > 0 {
		line("sent", "%d of %d in the last hour (%d%%)", d.Sent, d.Hourly, d.HourlyPercent)
	} else {
		line("sent", "%d in the last hour, no limit", d.Sent)
	}
	line("refused", "%s since the limit was reached", count(d.Refused, "recipient", "recipients"))
	known := d.Delivered+d.Deferred+d.Failed > 0
	if known {
		line("outcomes", "%d delivered, %d deferred, %d failed", d.Delivered, d.Deferred, d.Failed)
	}
	if known && d.DeferfailPercent > 0 {
		line("bad", "%d%% of what was sent; %d%%, and %d at least, lock the domain",
			d.DeferfailNow, d.DeferfailPercent, d.DeferfailMin)
	}
	line("held", "%s in Exim's queue", count(int64(d.Held), "recipient", "recipients"))
	for _, l := range d.Locks {
		until := "until it is removed: sluice unlock " + d.Domain
		if l.Until != nil {
			until = fmt.Sprintf("until %s, in %s", clock(*l.Until), span(l.Until.Sub(s.Now)))
		}
		line("lock", "%s by %s since %s, %s", l.Kind, l.Owner, clock(l.Since), until)
	}
	if d.FreesAt != nil {
		line("frees", "at %s, in %s", clock(*d.FreesAt), span(d.FreesAt.Sub(s.Now)))
	}
}

func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
