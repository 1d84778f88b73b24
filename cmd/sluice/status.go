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
	"sluice/sidecar/limit"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/logline"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
	"sluice/sidecar/queue"
	"sluice/sidecar/refusal"
	"sluice/sidecar/senders"
)

type statusCmd struct {
	Scope *string `arg:"" predictor:"scope" optional:"" help:"Only example.com, account:bob, news@example.com or another that it shows, in detail."`
	jsonFlag
}

// Help is the long help.
func (statusCmd) Help() string {
	return `Domains that are locked, held or near their limit come first. SENT/LIMIT is in an
hour or in a day, whichever limit is nearer. Mailboxes and accounts are counted from
when a limit in the configuration names them. DELIVERED, DEFERRED and FAILED are what
became of the mail in the last hour, as Exim's main log tells. The detail of a domain
shows why, and what is not held against it.
WOULD REFUSE is of limits with mode = "watch": sends that passed only because of that,
each once, on this node, since the limits are watched or were reset. It survives
restarts, so that after a week of watching it shows who would have been refused what.
Who would be locked for defers and failures now has "would be max_deferfail" under LOCKS;
the detail of a domain says how often that was.

Examples:
  sluice status
  sluice status example.com
  sluice status account:bob
  sluice status --json | jq -r '.domains[] | select(.locks != []) | .domain'` +
		jsonHelp(operator.Status{}, "frees_at is when the next send is accepted, null if now; limit 0 is unlimited.")
}

func (c statusCmd) Run(t *terminal) error {
	scope, err := orAll(c.Scope, "status: the name is empty; leave it out to see all")
	if err != nil {
		return err
	}
	question := func(a *admin.Client) (operator.Status, error) { return a.Status(t.ctx, scope) }
	return show(t, c.JSON, "status", question, func(s operator.Status) {
		if scope == "" {
			printStatus(t.stdout, s)
			return
		}
		for _, d := range s.Domains {
			printDomain(t.stdout, s, d)
		}
		for _, sc := range s.Scopes {
			printScope(t.stdout, s, sc)
		}
		printStops(t.stdout, s.Stops)
	})
}

// printStatus prints the tables of all domains and of other scopes, the totals, and what
// is wrong.
func printStatus(w io.Writer, s operator.Status) {
	if len(s.Domains) == 0 {
		printf(w, "%s: no domain has sent in the last hour, nothing is locked.\n", s.Node)
	} else {
		printWatched(w, s, "lrrrrrrrrll", wouldColumn, domainRows(s))
	}
	if len(s.Scopes) > 0 {
		fmt.Fprintln(w)
		printWatched(w, s, "lrrrrrl", wouldColumnOfScopes, scopeRows(s))
	}
	if len(s.Stops) > 0 {
		fmt.Fprintln(w)
		printStops(w, s.Stops)
	}
	printf(w, "\n%s: %s; since the start %d sends accepted",
		s.Node, printable.Count(int64(len(s.Domains)), "domain", "domains"), s.Totals.Accepted)
	if s.Totals.Watched > 0 {
		printf(w, ", %d of them over a limit that is only watched", s.Totals.Watched)
	}
	printf(w, ", %d refused or held, repeats included", s.Totals.Refused)
	if s.Totals.Exempt > 0 {
		printf(w, ", %d exempt", s.Totals.Exempt)
	}
	if s.Totals.Late > 0 {
		printf(w, ", %d charged from the log", s.Totals.Late)
	}
	printf(w, ".\n")
	if q := s.Quarantine; q != nil && q.Messages > 0 {
		printf(w, "%s\n", quarantineText(s.Now, queue.Aside(*q)))
	}
	for _, l := range s.Totals.Logs {
		printCatchingUp(w, l)
	}
	if s.Totals.Shared != nil {
		printShared(w, *s.Totals.Shared)
	}
	for _, warning := range s.Warnings() {
		if !strings.HasPrefix(warning, "ERROR: ") {
			warning = "WARNING: " + warning
		}
		fmt.Fprintln(w, printable.Of(warning))
	}
}

// printCatchingUp says how far a log is read that is not read to its end.
func printCatchingUp(w io.Writer, l logline.Progress) {
	if l.Size <= l.Read {
		return
	}
	printf(w, "Catching up with %s: %d%% read", l.File, l.Read*100/l.Size)
	if !l.Last.IsZero() {
		printf(w, ", up to what was logged at %s", printable.DateTime(l.Last))
	}
	fmt.Fprintln(w, "; outcomes since are not counted yet.")
}

// printShared prints the nodes that share the counts.
func printShared(w io.Writer, s operator.SharedStatus) {
	if len(s.Nodes) == 0 {
		fmt.Fprintln(w, "\nWhich nodes share the counts is not known until Redis answers.")
		return
	}
	rows := [][]printable.Text{cells("NODE", "LAST SIGN", "MODE", "STORE")}
	for _, n := range s.Nodes {
		age := time.Duration(n.SignAge * float64(time.Second))
		rows = append(rows, cells(n.Node, printable.Brief(age)+" ago", n.Mode, fmt.Sprintf("%.1f ms", n.Milliseconds)))
	}
	fmt.Fprintln(w)
	printTable(w, "lrlr", rows)
	printf(w, "%s of store.nodes = %d; the mode here changed %s since the start.\n",
		printable.Count(int64(len(s.Nodes)), "node", "nodes"), s.Of, printable.Count(s.Changes, "time", "times"))
}

// These are the columns of what watched limits would have refused.
const (
	wouldColumn         = 7
	wouldColumnOfScopes = 4
)

// printWatched prints a table, without the column of what watched limits would have refused
// unless some are watched.
func printWatched(w io.Writer, s operator.Status, align string, column int, rows [][]printable.Text) {
	watched := slices.ContainsFunc(s.Domains, func(d operator.DomainStatus) bool { return d.Mode == limit.Watch }) ||
		slices.ContainsFunc(s.Scopes, func(sc operator.ScopeStatus) bool { return sc.Mode == limit.Watch })
	if !watched {
		align = align[:column] + align[column+1:]
		for i := range rows {
			rows[i] = slices.Delete(rows[i], column, column+1)
		}
	}
	printTable(w, align, rows)
}

func domainRows(s operator.Status) [][]printable.Text {
	rows := [][]printable.Text{cells("DOMAIN", "SENT/LIMIT", "%", "DELIVERED", "DEFERRED", "FAILED", "REFUSED", "WOULD REFUSE", "HELD", "LOCKS", "FREES")}
	for _, d := range operator.ByUrgency(s.Domains) {
		used, percent := fullest(d.Windows, d.Partial)
		rows = append(rows, cells(
			d.Domain, used, percent, d.Delivered, d.Deferred, d.Failed,
			d.Refused, d.Watch.Sends, d.Held, lockNames(d), frees(s.Now, d),
		))
	}
	return rows
}

func scopeRows(s operator.Status) [][]printable.Text {
	rows := [][]printable.Text{cells("SUBJECT", "SENT/LIMIT", "%", "REFUSED", "WOULD REFUSE", "HELD", "FREES")}
	for _, sc := range s.Scopes {
		used, percent := fullest(sc.Windows, sc.Partial)
		free := "-"
		switch {
		case sc.StoppedBy == "panel":
			free = "by the panel"
		case sc.StoppedBy == "operator", sc.StoppedBy == "stop":
			free = "by hand"
		case sc.FreesAt != nil:
			free = "in " + printable.Brief(sc.FreesAt.Sub(s.Now))
		case sc.Trip != nil:
			free = "within " + printable.Brief(sc.Trip.Ends.Sub(s.Now))
		case sc.WouldTrip != nil:
			free = "(watch: would be tripped)"
		}
		rows = append(rows, cells(sc.Scope, used, percent, sc.Refused, sc.Watch.Sends, sc.Held, free))
	}
	return rows
}

// fullest words the window that is nearest to its limit. Counts of one node only are
// marked with a *.
func fullest(windows []operator.Window, partial bool) (used, percent string) {
	mark := ""
	if partial {
		mark = "*"
	}
	w := operator.Tightest(windows)
	if w.Limit == 0 {
		return fmt.Sprintf("%d/-%s", w.Sent, mark), "-"
	}
	return fmt.Sprintf("%d/%d%s", w.Sent, w.Limit, mark), fmt.Sprintf("%d%%", w.Percent)
}

// lockNames lists what blocks a domain, or why nothing ever does.
func lockNames(d operator.DomainStatus) string {
	var names []string
	for _, l := range d.Locks {
		name := string(l.Kind)
		if l.Owner == "operator" {
			name += " (by hand)"
		}
		names = append(names, name)
	}
	if d.StoppedBy == "panel" {
		names = append(names, "stopped by the panel")
	}
	switch {
	case d.WouldTrip != nil:
		names = append(names, "(watch: would be max_deferfail)")
	case d.Mode == limit.Watch || d.Mode == limit.Exempt:
		names = append(names, "("+string(d.Mode)+")")
	}
	return cmp.Or(strings.Join(names, ", "), "-")
}

// frees words when the domain may send again; "-" if it may now.
func frees(now time.Time, d operator.DomainStatus) string {
	if d.FreesAt != nil {
		return "in " + printable.Brief(d.FreesAt.Sub(now))
	}
	for _, l := range d.Locks {
		if l.Owner == "operator" {
			return "by hand"
		}
	}
	if d.StoppedBy == "panel" {
		return "by the panel"
	}
	if d.Trip != nil {
		return "within " + printable.Brief(d.Trip.Ends.Sub(now))
	}
	return "-"
}

// A detail prints lines that begin with a name.
type detail struct{ w io.Writer }

func (d detail) line(name, format string, args ...any) {
	printf(d.w, "  %-15s %s\n", name, fmt.Sprintf(format, args...))
}

// counts prints how much of each limit is used.
func (d detail) counts(windows []operator.Window) {
	for _, w := range windows {
		length := printable.WindowName(time.Duration(w.Seconds * float64(time.Second)))
		if w.Limit > 0 {
			d.line("sent", "%d of %d in the last %s (%d%%)", w.Sent, w.Limit, length, w.Percent)
		} else {
			d.line("sent", "%d in the last %s, no limit", w.Sent, length)
		}
	}
}

// refused prints how much was refused, or would have been by limits that are only watched.
func (d detail) refused(n int64, blocked bool, mode limit.Mode, would refusal.Watch) {
	since := "the limit was reached"
	if blocked {
		since = "its mail is blocked"
	}
	if n > 0 || mode != limit.Watch {
		d.line("refused", "%s since %s", printable.Count(n, "recipient", "recipients"), since)
	}
	switch {
	case would.Sends > 0:
		d.line("would refuse", "%s, the first at %s, the last at %s; all of them passed",
			printable.Count(would.Sends, "recipient", "recipients"), printable.DateTime(*would.First), printable.DateTime(*would.Last))
	case mode == limit.Watch:
		d.line("would refuse", "nothing so far")
	}
}

// mode prints the mode if limits do not refuse.
func (d detail) mode(m limit.Mode) {
	switch m {
	case limit.Watch:
		d.line("mode", "watch: what is over the limit is counted, and passes")
	case limit.Exempt:
		d.line("mode", "exempt: nothing is charged")
	}
}

// stopped prints what is answered while the scope is blocked.
func (d detail) stopped(text string) {
	if text != "" {
		d.line("stopped", "%s", text)
	}
}

// partial prints that these are the counts of one node only, if so.
func (d detail) partial(is bool) {
	if is {
		d.line("incomplete", "Redis cannot be asked: these counts are %s", operator.PartialCounts)
	}
}

// outcomes prints what became of what was sent, why it was bad, and what of that does not
// count.
func (d detail) outcomes(n operator.Counts, st operator.DeferfailStatus) {
	if n.Delivered+n.Deferred+n.Failed > 0 {
		d.line("outcomes", "%d delivered, %d deferred, %d failed", n.Delivered, n.Deferred, n.Failed)
		if st.DeferfailPercent > 0 {
			d.line("bad", "%d%% of what was sent; %d%%, and %d at least, stop it", st.DeferfailNow, st.DeferfailPercent, st.DeferfailMin)
		}
	}
	for _, c := range st.Causes {
		d.line(string(c.Cause), "%d, the last: %s", c.Count, c.LastLine)
	}
	for _, l := range st.LeftOut {
		d.line("left out", "%s to %s (%s): not held against it", printable.Count(l.Count, "send", "sends"), l.Destination, l.Cause)
	}
}

// authors prints who sends most.
func (d detail) authors(all []senders.Author) {
	for _, a := range all {
		d.line("sender", "%s: %d tried, %d sent, %d of that deferred or failed (%d%% of all)", a.Key, a.Tried, a.Sent, a.Bad, a.Share)
	}
}

// trip prints what ends a trip.
func (d detail) trip(now time.Time, st operator.DeferfailStatus) {
	t := st.Trip
	if t == nil {
		return
	}
	retried := ""
	if t.By == "deferrals" {
		retried = fmt.Sprintf(": %d a minute are tried again, the oldest first", st.DeferfailMin)
	}
	d.line("tripped", "since %s, mostly by %s%s", printable.DateTime(t.Since), t.By, retried)
	d.line("ends", "when fewer than %d or less than %g%% are bad, at %s at the latest, in %s",
		st.DeferfailMin, float64(st.DeferfailPercent)*8/10, printable.DateTime(t.Ends), printable.Brief(t.Ends.Sub(now)))
}

// wouldTrip prints what a trip would be if limits were not only watched.
func (d detail) wouldTrip(st operator.DeferfailStatus, w refusal.Watch) {
	if t := st.WouldTrip; t != nil {
		d.line("would trip", "it would be tripped since %s, mostly by %s; its mail passes", printable.DateTime(t.Since), t.By)
	}
	if w.Trips > 0 {
		d.line("would trip", "%s so far, the last at %s", printable.Count(w.Trips, "time", "times"), printable.DateTime(*w.LastTrip))
	}
}

// held prints how much waits in Exim's queue.
func (d detail) held(n int) {
	d.line("held", "%s in Exim's queue", printable.Count(int64(n), "recipient", "recipients"))
}

func (d detail) frees(now time.Time, at *time.Time) {
	if at != nil {
		d.line("frees", "at %s, in %s", printable.DateTime(*at), printable.Brief(at.Sub(now)))
	}
}

// printScope prints the status of a mailbox or an account.
func printScope(w io.Writer, s operator.Status, sc operator.ScopeStatus) {
	printf(w, "%s on %s\n", sc.Scope, s.Node)
	d := detail{w}
	d.mode(sc.Mode)
	d.stopped(sc.Stopped)
	d.partial(sc.Partial)
	d.counts(sc.Windows)
	d.refused(sc.Refused, sc.Stopped != "", sc.Mode, sc.Watch)
	if sidecar.IsSpecial(sc.Scope) {
		d.outcomes(sc.Counts, sc.DeferfailStatus)
		d.held(sc.Held)
		d.trip(s.Now, sc.DeferfailStatus)
		d.wouldTrip(sc.DeferfailStatus, sc.Watch)
	}
	d.frees(s.Now, sc.FreesAt)
}

// printDomain prints the status of one domain.
func printDomain(w io.Writer, s operator.Status, d operator.DomainStatus) {
	printf(w, "%s on %s\n", d.Domain, s.Node)
	p := detail{w}
	line := p.line
	if d.Account != "" {
		line("account", "%s", d.Account)
	}
	p.mode(d.Mode)
	p.stopped(d.Stopped)
	p.partial(d.Partial)
	p.counts(d.Windows)
	tripped := slices.ContainsFunc(d.Locks, func(l operator.LockStatus) bool { return l.Kind == lockfile.DeferFail })
	p.refused(d.Refused, d.Stopped != "" || tripped, d.Mode, d.Watch)
	p.outcomes(d.Counts, d.DeferfailStatus)
	p.authors(d.Authors)
	p.held(d.Held)
	for _, l := range d.Locks {
		until := "until it is removed: sluice unlock " + d.Domain
		if l.Until != nil {
			until = fmt.Sprintf("until %s, in %s", printable.DateTime(*l.Until), printable.Brief(l.Until.Sub(s.Now)))
		}
		if l.Kind == lockfile.DeferFail && l.Until != nil {
			until += " at the latest"
		}
		line("lock", "%s by %s since %s, %s", l.Kind, l.Owner, printable.DateTime(l.Since), until)
	}
	p.trip(s.Now, d.DeferfailStatus)
	p.wouldTrip(d.DeferfailStatus, d.Watch)
	p.frees(s.Now, d.FreesAt)
}
