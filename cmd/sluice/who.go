package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/printable"
	"sluice/sidecar/senders"
	"sluice/sidecar/stop"
)

type whoCmd struct {
	Scope *string  `arg:"" predictor:"scope" optional:"" help:"Whose senders: example.com or what else status shows; or one sender: news@example.com, account:bob, login:bob, script:/home/bob, forward:info@example.com."`
	By    string   `enum:"author,network,destination,subject" default:"author" help:"Show senders, or what their mail has in common: ${enum}."`
	Top   int      `default:"20" placeholder:"N" help:"Show at most N (default: 20)."`
	Log   logFiles `placeholder:"FILE..." help:"Ask these main logs of Exim, .gz too, in any order, and not the running sluice."`
	foreignFlag
	jsonFlag
}

// Help is the long help.
func (whoCmd) Help() string {
	return `Of each domain, who has tried to send most in the last hour, and up to ten minutes before.
In a cluster that is by all nodes, of each domain those 16 of a node that have sent most.
TRIED has the distinct recipients that were refused too, SENT what was accepted, BAD is how
much of that was deferred or failed. With up to 128 senders within ten minutes the numbers
are exact, with more they may be too high, and are printed with a ~. Networks are /24 of
IPv4 and /48 of IPv6. RECIPIENTS, the different ones of TRIED, is estimated: within some
percent, and above 10,000 it is too low.

A mailbox and a login are proven: by a password, by the kernel. The directory of a script
is what the program says, and so is its header: a program can lie about both. Who sends
to a forwarder is a stranger.

With --log it is all of the logs, by the same rules, and needs no running sluice, no
configuration, and nothing installed: copy the program to the host that is under attack,
and name its main logs. What limits have refused at the time is in TRIED alone; BAD is what
has failed or was deferred for more than an hour. Directories are from Exim's cwd= lines
(log_selector = +arguments, and better +pid too), which are what a script said. Where the
logs are this host's and Exim's queue can be read, a header of a queued message names the
script too. Without an owner map the sender's domain is taken for that of a login without
a domain.

Examples:
  sluice who
  sluice who example.com
  sluice who example.com --by network
  sluice who account:bob
  sluice who --log /var/log/exim4/mainlog
  sluice who example.com --log /var/log/exim_mainlog*
  sluice who example.com --json | jq -r '.domains[].authors[0].key'` +
		jsonHelp(senders.Who{}, "tried and sent of an author may be too high, by error; recipients and senders are estimated; unattributed is of sent: nobody knows by whom. subject_count is of tried.")
}

func (c whoCmd) Run(t *terminal) error {
	scope, err := orAll(c.Scope, "who: the name is empty; leave it out to see the largest senders of all domains")
	if err != nil {
		return err
	}
	if c.Top < 1 {
		return fmt.Errorf("who: --top is %d, it must be 1 at least", c.Top)
	}
	if len(c.Log) > 0 {
		return c.fromLogs(t, scope)
	}
	question := func(a *admin.Client) (senders.Who, error) { return a.WhoSends(t.ctx, scope, c.Top) }
	return show(t, c.JSON, "who", question, func(w senders.Who) {
		printWho(t.stdout, w, c.By, c.Top, scope == "")
	})
}

// printWho prints who sends. all: these are the largest senders of all domains.
func printWho(w io.Writer, who senders.Who, by string, top int, all bool) {
	defer func() {
		for _, node := range who.Missing {
			printf(w, "  without what %s knows: nothing was heard of it for half a minute\n", node)
		}
	}()
	switch {
	case len(who.Domains) == 0:
		printf(w, "%s: nobody has sent in the last %s.\n", who.Node, windowOf(who))
		printUncounted(w, who.Uncounted)
		return
	case by != "author":
		printShares(w, who.Domains, by, top, who.Seconds > 0)
		return
	case all:
		printTable(w, "lrrrlllrrl", authorRows(who, true))
		printUncounted(w, who.Uncounted)
		return
	}
	for i, r := range who.Domains {
		if i > 0 {
			fmt.Fprintln(w)
		}
		printReport(w, who, r)
	}
}

func windowOf(who senders.Who) string {
	return printable.WindowName(time.Duration(who.Seconds * float64(time.Second)))
}

// printReport prints who sends of one domain.
func printReport(w io.Writer, who senders.Who, r senders.Report) {
	printf(w, "%s: %d", r.Domain, r.Sent)
	if r.Limit > 0 {
		printf(w, " of %d", r.Limit)
	}
	if who.Seconds > 0 {
		printf(w, " in the last %s", windowOf(who))
	} else {
		fmt.Fprint(w, " sent")
	}
	if r.Limit > 0 {
		printf(w, " (%d%%)", r.Sent*100/r.Limit)
	}
	if r.Refused > 0 {
		printf(w, ", %d refused", r.Refused)
	}
	if r.FullAt != nil {
		printf(w, "; at this rate full in %s", printable.Brief(r.FullAt.Sub(who.Now)))
	}
	fmt.Fprint(w, "\n\n")
	if one := (senders.Who{Now: who.Now, Domains: []senders.Report{r}}); len(r.Authors) > 0 {
		printTable(w, "rrrlllrrl", authorRows(one, false))
	}
	printMore(w, r, who.Seconds > 0)
}

// authorRows are the rows of a table, with the domain of each author where there are several.
func authorRows(who senders.Who, several bool) [][]printable.Text {
	type row struct {
		senders.Author
		domain string
	}
	var all []row
	for _, r := range who.Domains {
		for _, a := range r.Authors {
			all = append(all, row{a, r.Domain})
		}
	}
	slices.SortStableFunc(all, func(a, b row) int { return cmp.Compare(b.Tried, a.Tried) })
	rows := [][]printable.Text{cells("TRIED", "SENT", "%", "SENDER", "PROOF", "FROM", "RECIPIENTS", "BAD", "SINCE")}
	for _, a := range all {
		about := ""
		if a.Error > 0 {
			about = "~"
		}
		recipients, bad := "-", "-"
		if a.Recipients > 0 {
			recipients = fmt.Sprint(a.Recipients)
		}
		if a.Sent > 0 {
			bad = fmt.Sprintf("%d%%", min(100, a.Bad*100/a.Sent))
		}
		rows = append(rows, cells(about+fmt.Sprint(a.Tried), about+fmt.Sprint(a.Sent), a.Share, a.Key, a.Proof, from(a.Author), recipients, bad, since(who.Now, a.Author)))
	}
	if several {
		for i := range rows {
			domain := "DOMAIN"
			if i > 0 {
				domain = all[i-1].domain
			}
			rows[i] = append(cells(domain), rows[i]...)
		}
	}
	return rows
}

// from words from where an author has sent.
func from(a senders.Author) string {
	n := int64(0)
	for _, s := range a.Networks {
		n += s.Tried
	}
	switch {
	case len(a.Networks) == 0:
		return "-"
	case len(a.Networks) == 1 && !a.MoreNetworks:
		return a.Networks[0].Name
	}
	more := ""
	if a.MoreNetworks {
		more = "more than "
	}
	return fmt.Sprintf("%s%d networks, most %s (%d%%)", more, len(a.Networks), a.Networks[0].Name, a.Networks[0].Tried*100/max(1, n))
}

// since words when an author was first seen, with what else is to be said.
func since(now time.Time, a senders.Author) string {
	text, first := a.FirstSeen.Local().Format("15:04"), a.FirstSeen.Local()
	if now.Sub(first) > 20*time.Hour {
		text = first.Format("2006-01-02")
	}
	for _, more := range [...]string{a.Spike, a.Stopped} {
		if more != "" {
			text += "  " + more
		}
	}
	return text
}

// printMore prints what does not fit into a table, and what can be done.
func printMore(w io.Writer, r senders.Report, live bool) {
	for _, a := range r.Authors {
		if a.Header != "" {
			printf(w, "  %s says it is %s; a script can lie about both\n", a.Key, a.Header)
		}
	}
	if len(r.Authors) > 0 {
		a := r.Authors[0]
		if a.Subject != "" {
			printf(w, "  subject most used by %s: \"%s\", %d of %d\n", a.Key, a.Subject, a.SubjectCount, a.Tried)
		}
		if len(a.Destinations) > 0 {
			var to []string
			for _, s := range a.Destinations[:min(4, len(a.Destinations))] {
				to = append(to, fmt.Sprintf("%s %d", s.Name, s.Tried))
			}
			printf(w, "  destinations that %s has tried: %s\n", a.Key, strings.Join(to, ", "))
		}
	}
	if c := r.CalledSpam; c != nil {
		printf(w, "  called spam by %s (%s), the last at %s: %s\n", printable.Count(int64(len(c.Servers)), "server", "servers"),
			strings.Join(c.Servers, ", "), printable.DateTime(c.At), c.Text)
	}
	if r.Unattributed > 0 {
		printf(w, "  not attributed: %d\n", r.Unattributed)
	}
	printUncounted(w, r.Uncounted)
	if len(r.Authors) > 0 {
		printWhoNext(w, r.Authors[0].Key, live)
	}
}

// printWhoNext prints what can be done about an author.
func printWhoNext(w io.Writer, author string, live bool) {
	log, stopIt := printable.Command("sluice log", author), printable.Command("sluice stop", author)
	if log == "" {
		return
	}
	fmt.Fprintln(w)
	if _, err := stop.Canonical(author); live && err == nil {
		printf(w, "  stop only this one:          %s\n", stopIt)
	}
	clean := printable.Command("sluice clean", author)
	if !live {
		log += " --log FILE..."
		clean += " --dry-run --log FILE..."
	}
	if sidecar.CanBeCleaned((sidecar.Author{Key: author}).Kind()) {
		printf(w, "  clean up after it:           %s\n", clean)
	}
	printf(w, "  what Exim has logged of it:  %s\n", log)
}

// printUncounted prints what nobody pays for.
func printUncounted(w io.Writer, by []senders.Unpaid) {
	var parts []string
	for _, s := range by {
		parts = append(parts, fmt.Sprintf("%d %s", s.Sent, s.Name))
	}
	if len(parts) > 0 {
		printf(w, "  uncounted: %s\n", strings.Join(parts, ", "))
	}
}

// printShares prints what the mail of all authors has in common.
func printShares(w io.Writer, reports []senders.Report, by string, top int, live bool) {
	counts := map[string]int64{}
	for _, r := range reports {
		for _, a := range r.Authors {
			shares := a.Networks
			switch by {
			case "destination":
				shares = a.Destinations
			case "subject":
				if shares = nil; a.Subject != "" {
					shares = []senders.Share{{Name: a.Subject, Tried: a.SubjectCount}}
				}
			}
			for _, s := range shares {
				counts[s.Name] += s.Tried
			}
		}
	}
	if len(counts) == 0 && len(reports) > 0 {
		printf(w, "no %s is known of it", by)
		if live { // which survives no restart
			fmt.Fprint(w, "; of what came before the start of sluice the main log has it: sluice who --log FILE...")
		}
		fmt.Fprintln(w)
		return
	}
	rows := [][]printable.Text{cells("TRIED", strings.ToUpper(by))}
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b)) })
	for _, name := range names[:min(top, len(names))] {
		rows = append(rows, cells(counts[name], name))
	}
	printTable(w, "rl", rows)
}
