package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/attribution"
	"sluice/sidecar/simulate"
)

type whoCmd struct {
	Scope string   `arg:"" optional:"" help:"Only who sends of example.com, or news@example.com, account:bob or another that it shows."`
	Log   logFiles `placeholder:"FILE..." help:"Main logs of Exim, also rotated ones and .gz, in any order."`
	By    string   `enum:"author,network,subject,destination" default:"author" help:"What to list: author, network, subject or destination."`
	Top   int      `default:"20" placeholder:"N" help:"List the N largest."`
	foreignFlag
	jsonFlag
}

// Help is the long help.
func (whoCmd) Help() string {
	return `Shows who sends: of all who send at the expense of a domain, the mailbox, script, login,
client or forwarder, by the rules by which limits find who pays. A sender's address and the
From header, which anybody can choose, are no part of it.

With --log it needs no running sluice, no configuration, and nothing installed: copy the
program to the host that is under attack, and name its main logs. Mailboxes are known by
the password with which they have logged in, scripts by the directory in which Exim says
that they ran sendmail (log_selector = +arguments, and better +pid too), which a script
can choose: cwd= lines are what a script said. Where the logs are this host's, and Exim's
queue can be read, a header of a queued message names the script too; PHP writes it, or
whoever sends. Without an owner map the sender's domain is taken for that of a login
without a domain.

TRIED counts recipients of accepted messages, and those refused for a limit; BAD is what
was deferred for more than an hour or has failed.
The exit code is 1 where there is nothing.

Examples:
  sluice who --log /var/log/exim4/mainlog
  sluice who example.com --log /var/log/exim_mainlog*
  sluice who news@example.com --by network --log mainlog mainlog.1 mainlog.2.gz
  sluice who --log mainlog --json | jq -r '.domains[].authors[0].key'` +
		jsonHelp(whoFound{}, "")
}

// A whoFound is who sends, for --json.
type whoFound struct {
	From    time.Time            `json:"from"` // of the first and last line of the logs
	To      time.Time            `json:"to"`
	Domains []attribution.Report `json:"domains"` // or what else pays
}

func (c whoCmd) Run(t *terminal) error {
	if err := c.run(t); err != nil {
		return fmt.Errorf("who: %w", err)
	}
	return nil
}

func (c whoCmd) run(t *terminal) error {
	switch {
	case c.Top < 1:
		return fmt.Errorf("--top is %d, it must be a number of authors, at least 1", c.Top)
	case len(c.Log) == 0:
		return errors.New("name the main logs with --log")
	}
	scope := ""
	if c.Scope != "" {
		var err error
		if scope, err = simulate.CanonicalScope(c.Scope); err != nil {
			return err
		}
	}
	who, found, err := whoFromLogs(t, c.Log, c.foreignFlag)
	if err != nil {
		return err
	}
	if scope == "" {
		found.Domains = who.Largest(found.To, c.Top)
	} else {
		found.Domains = reportsOf(who, found.To, scope)
	}
	switch {
	case len(found.Domains) == 0:
		return no{fmt.Errorf("nobody who is known here has sent anything in the logs%s", ofScope(scope))}
	case c.JSON:
		return printJSON(t.stdout, found)
	case c.By == "author":
		c.printAuthors(t.stdout, found)
	default:
		c.printShares(t.stdout, found)
	}
	return nil
}

func ofScope(scope string) string {
	if scope == "" {
		return ""
	}
	return ", of " + sidecar.Printable(scope)
}

// reportsOf are the reports of a domain or of what else pays; or of all whose mail an author
// or account has sent, with what is theirs.
func reportsOf(who *attribution.Attribution, now time.Time, scope string) (reports []attribution.Report) {
	if r, known := who.Of(now, scope); known {
		return []attribution.Report{r}
	}
	for _, subject := range slices.Sorted(slices.Values(who.Subjects())) {
		r, _ := who.Of(now, subject)
		r.Authors = slices.DeleteFunc(r.Authors, func(a attribution.Author) bool {
			return a.Key != scope && sidecar.AccountPrefix+a.Parent != scope
		})
		if len(r.Authors) > 0 {
			reports = append(reports, r)
		}
	}
	return reports
}

// printAuthors prints the authors of each domain.
func (c whoCmd) printAuthors(w io.Writer, found whoFound) {
	fmt.Fprintf(w, "%s to %s\n", sidecar.DateTime(found.From), sidecar.DateTime(found.To))
	script := false
	for _, r := range found.Domains {
		fmt.Fprintf(w, "\n%s: %d sent", r.Domain, r.Sent)
		if r.Refused > 0 {
			fmt.Fprintf(w, ", %d refused", r.Refused)
		}
		fmt.Fprint(w, "\n\n")
		rows := [][]string{{"TRIED", "SENT", "%", "SENDER", "FROM", "RECIPIENTS", "BAD", "SINCE"}}
		for _, a := range r.Authors[:min(len(r.Authors), c.Top)] {
			script = script || a.Kind == "script"
			rows = append(rows, []string{fmt.Sprint(a.Tried), fmt.Sprint(a.Sent), fmt.Sprint(a.Share), senderOf(a), fromOf(a), fmt.Sprint(a.Recipients), percentOf(a.Bad, a.Sent), a.FirstSeen.Local().Format("01-02 15:04")})
		}
		printTable(w, "rrrllrrl", rows)
		if more := len(r.Authors) - c.Top; more > 0 {
			fmt.Fprintf(w, "and %s.\n", sidecar.Count(int64(more), "other", "others"))
		}
		printEvidence(w, r)
	}
	if script {
		fmt.Fprintln(w, "\nDirectories of scripts are from cwd= lines, which are what a script said.")
	}
	if lines := c.linesOf(found.Domains[0].Authors); lines != "" {
		fmt.Fprintf(w, "\nWhat Exim has logged about the first: %s\n", lines)
	}
}

// senderOf is an author, with what its script says of itself.
func senderOf(a attribution.Author) string {
	if a.Header == "" {
		return a.Key
	}
	return fmt.Sprintf("%s (header: %s)", a.Key, a.Header)
}

// fromOf says from how many networks an author sends, and from which most.
func fromOf(a attribution.Author) string {
	switch n := len(a.Networks); {
	case n == 0:
		return "-"
	case n == 1:
		return a.Networks[0].Name
	case a.MoreNetworks:
		return fmt.Sprintf("over %d networks, most %s (%s)", n, a.Networks[0].Name, percentOf(a.Networks[0].Sent, a.Tried))
	default:
		return fmt.Sprintf("%d networks, most %s (%s)", n, a.Networks[0].Name, percentOf(a.Networks[0].Sent, a.Tried))
	}
}

func percentOf(n, of int64) string { return fmt.Sprintf("%d%%", n*100/max(1, of)) }

// maxPrinted is how many destinations and servers are printed.
const maxPrinted = 4

// printEvidence prints what the author that sends most sends, and where.
func printEvidence(w io.Writer, r attribution.Report) {
	a := r.Authors[0]
	if a.Subject != "" {
		fmt.Fprintf(w, "  the first's subject most used: %q\n", a.Subject)
	}
	var to []string
	for _, d := range a.Destinations[:min(len(a.Destinations), maxPrinted)] {
		to = append(to, fmt.Sprintf("%s %d", d.Name, d.Sent))
	}
	if len(to) > 0 {
		fmt.Fprintf(w, "  its destinations: %s\n", strings.Join(to, ", "))
	}
	if c := r.CalledSpam; c != nil {
		fmt.Fprintf(w, "  called spam by %s: %s\n", strings.Join(c.Servers[:min(len(c.Servers), maxPrinted)], ", "), c.Text)
	}
}

// plain are the texts that a shell takes as they are.
var plain = regexp.MustCompile(`^[A-Za-z0-9@%+=:,./_-]+$`)

// linesOf is the command for the lines of the first author; "" where a name has characters
// that a shell may take for something else.
func (c whoCmd) linesOf(authors []attribution.Author) string {
	command := []string{"sluice", "log", authors[0].Key, "--last", "100", "--log"}
	command = append(command, c.Log...)
	if slices.ContainsFunc(command, func(word string) bool { return !plain.MatchString(word) }) {
		return ""
	}
	return strings.Join(command, " ")
}

// printShares prints from which networks, to which destinations or with which subjects most
// is sent, and who of all sends most of that.
func (c whoCmd) printShares(w io.Writer, found whoFound) {
	type share struct {
		name, mostly string
		sent, most   int64
	}
	shares := map[string]*share{}
	for _, r := range found.Domains {
		for _, a := range r.Authors {
			for _, one := range sharesOf(a, c.By) {
				s := shares[one.Name]
				if s == nil {
					s = &share{name: one.Name}
					shares[one.Name] = s
				}
				if s.sent += one.Sent; one.Sent > s.most {
					s.mostly, s.most = a.Key, one.Sent
				}
			}
		}
	}
	sorted := slices.SortedFunc(maps.Values(shares), func(a, b *share) int { return cmp.Or(cmp.Compare(b.sent, a.sent), cmp.Compare(a.name, b.name)) })
	rows := [][]string{{"ABOUT", strings.ToUpper(c.By), "MOSTLY"}}
	for _, s := range sorted[:min(len(sorted), c.Top)] {
		rows = append(rows, []string{fmt.Sprint(s.sent), s.name, fmt.Sprintf("%s (%d)", s.mostly, s.most)})
	}
	printTable(w, "rll", rows)
}

// sharesOf are an author's sends by something.
func sharesOf(a attribution.Author, by string) []attribution.Share {
	switch by {
	case "network":
		return a.Networks
	case "destination":
		return a.Destinations
	}
	if a.Subject == "" {
		return nil
	}
	return []attribution.Share{{Name: a.Subject, Sent: a.SubjectCount}}
}
