package alert

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/incident"
	"sluice/sidecar/printable"
)

// notice words what a channel is told of one incident.
func (a *Alerts) notice(now time.Time, c *rule, i *incident.Incident, state State, number int64) Notice {
	n := Notice{
		ID: noticeID(i.ID.String(), number, state), At: now, Node: a.Node, State: state, Event: worst(i).Name, Severity: i.Severity,
		Title: clean(titleOf(i, state, now), maxTitle),
		Text:  cleanLines(textOf(i, state, c.Subjects || c.Kind == config.AlertMail)),
		About: About{Incident: i.ID.String(), Domain: clean(i.Domain, maxTitle), Culprit: clean(i.Culprit.Author, maxTitle), Opened: i.Opened, Closed: i.Closed},
	}
	if i.Domain != "" { // of a node there is nothing to be drawn
		n.Card = cleanLines(a.Card(*i))
	}
	return n
}

// importance orders causes of a domain's incident that are equally urgent: what says most first.
var importance = []string{incident.CauseNear, incident.CauseLimit, incident.CauseSpike, incident.CauseDeferfail, incident.CauseCulprit}

// worst is the most urgent cause.
func worst(i *incident.Incident) incident.Cause {
	if len(i.Causes) == 0 {
		return incident.Cause{Name: cmp.Or(string(i.Condition), "incident")}
	}
	return slices.MaxFunc(i.Causes, func(x, y incident.Cause) int {
		return cmp.Or(cmp.Compare(x.Severity, y.Severity), cmp.Compare(slices.Index(importance, x.Name), slices.Index(importance, y.Name)))
	})
}

// titleOf is the subject of a notice, without the node in front.
func titleOf(i *incident.Incident, state State, now time.Time) string {
	about := cmp.Or(i.Domain, string(i.Condition))
	what := headline(i)
	switch state {
	case StateClosed:
		what = fmt.Sprintf("over after %s: %s", printable.Brief(i.Closed.Sub(i.Opened)), what)
	case StateStill:
		what = fmt.Sprintf("still, for %s: %s", printable.Brief(now.Sub(i.Opened)), what)
	case StateChanged:
		what = fmt.Sprintf("now %s: %s", i.Severity, what)
	}
	return fmt.Sprintf("%s: %s (incident %s)", about, what, i.ID)
}

// headline says in a few words what has happened, and who it is.
func headline(i *incident.Incident) string {
	who := inWords(i.Culprit.Author)
	mostly := ""
	if who != "" {
		mostly = ", mostly by " + who
	}
	switch c := worst(i); {
	case i.Culprit.Stopped && spams(i):
		return who + " sends spam, only it is stopped"
	case c.Name == incident.CauseCulprit:
		return "too much of " + cmp.Or(who, inWords(c.Scope)) + " fails, only it is stopped"
	case c.Name == incident.CauseDeferfail:
		return "too much fails, the domain is stopped" + mostly
	case c.Name == incident.CauseSpike:
		return cmp.Or(inWords(c.Scope), who) + " sends much more than in any hour of the last 35 days"
	case c.Name == incident.CauseLimit:
		return "its limit is used up" + mostly
	case c.Name == incident.CauseNear:
		return "its limit is nearly used up" + mostly
	default:
		return happened(c.Name) + mostly
	}
}

// plainName are the names that no sentence can be made of.
var plainName = regexp.MustCompile(`^[\w@.:/+=~%-]*$`)

// inWords is the name of an author in a sentence. A tenant chooses the names of its directories, and a login may have
// any: what could pass for words of ours is in quotes.
func inWords(author string) string {
	if plainName.MatchString(author) {
		return author
	}
	return `"` + strings.ReplaceAll(author, `"`, "'") + `"`
}

// spams reports whether other servers have called mail of an incident spam.
func spams(i *incident.Incident) bool {
	return slices.ContainsFunc(i.Evidence.Lines, func(l incident.Line) bool { return l.Cause == string(sidecar.CalledSpam) })
}

// happened is what a cause is, which is named like its event; that in a few words.
func happened(name string) string {
	text, _, _ := strings.Cut(event.Kind(name).Text(), ";")
	return cmp.Or(text, name)
}

// textOf is what a notice says below its title: who, how many, what was done, what to do next,
// and how it came.
func textOf(i *incident.Incident, state State, subjects bool) string {
	var b strings.Builder
	if state == StateClosed {
		fmt.Fprintf(&b, "It is over since %s; it began %s.\n", printable.DateTime(i.Closed), printable.DateTime(i.Opened))
	}
	writeCulprit(&b, i, subjects)
	if e := i.Evidence; e.Limit > 0 {
		fmt.Fprintf(&b, "%s has sent %d of the %d that it may; %d refused.\n", i.Domain, e.Sent, e.Limit, e.Refused)
	}
	if c := worst(i).Name; !slices.Contains(importance, c) && event.Kind(c).Text() != "" {
		text := event.Kind(c).Text()
		fmt.Fprintf(&b, "%s.\n", text)
	}
	writeCommands(&b, i, state)
	for _, e := range i.Timeline[max(0, len(i.Timeline)-maxEntries):] {
		fmt.Fprintf(&b, "%s | %s: %s%s\n", printable.DateTime(e.At), e.Event, e.Text, times(e))
	}
	for _, l := range i.Evidence.Lines[max(0, len(i.Evidence.Lines)-maxLogLines):] {
		fmt.Fprintf(&b, "Last log line (%s): %s\n", l.Cause, logLine(l.Text, subjects))
	}
	return b.String()
}

// These bound what a notice repeats; sluice incident has all of it.
const (
	maxEntries  = 8
	maxLogLines = 3
)

// writeCulprit says who sends most, how unusual that is, and that the others go on.
func writeCulprit(b *strings.Builder, i *incident.Incident, subjects bool) {
	c := i.Culprit
	if c.Author == "" {
		return
	}
	s := senderOf(i, c.Author)
	if s == nil {
		s = &incident.Sender{Tried: c.Count, Sent: c.Count}
	}
	fmt.Fprintf(b, "%s has tried %d and sent %d", inWords(c.Author), s.Tried, s.Sent)
	if c.Usual > 0 {
		fmt.Fprintf(b, "; in its busiest hours it usually sends %d", c.Usual)
	}
	b.WriteString(".\n")
	if s.Bad > 0 {
		fmt.Fprintf(b, "%d of that went wrong (%d%%).\n", s.Bad, s.Bad*100/max(1, s.Sent))
	}
	if s.Recipients > 0 {
		fmt.Fprintf(b, "To %s%s%s.\n", printable.Count(s.Recipients, "recipient", "recipients"), some(" at ", s.Destinations), some(", from ", s.Networks))
	}
	if subjects && s.Subject != "" {
		fmt.Fprintf(b, "Subject most used: %q\n", s.Subject)
	}
	if c.Proof == "claimed" {
		b.WriteString("Whose script it is, only the script itself says.\n")
	}
	if c.Stopped && i.Open() {
		fmt.Fprintf(b, "It gets 450; who else sends for %s goes on.\n", i.Domain)
	}
}

// some are at most three of some words behind a text; nothing if there are none.
func some(text string, words []string) string {
	if len(words) == 0 {
		return ""
	}
	text += strings.Join(words[:min(3, len(words))], ", ")
	if more := len(words) - 3; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// senderOf is what is known of an author; nil for nothing.
func senderOf(i *incident.Incident, author string) *incident.Sender {
	for n := range i.Evidence.Who {
		if i.Evidence.Who[n].Author == author {
			return &i.Evidence.Who[n]
		}
	}
	return nil
}

// writeCommands writes what to type next.
func writeCommands(b *strings.Builder, i *incident.Incident, state State) {
	author := i.Culprit.Author
	typed := func(what, command, name string) {
		if typed := printable.Command("sluice "+command, name); typed != "" {
			fmt.Fprintf(b, "  %-12s %s\n", what+":", typed)
		}
	}
	switch {
	case state == StateClosed:
	case i.Culprit.Stopped:
		typed("it is fine", "start", author)
	case canBeStopped(i.Culprit):
		typed("stop it", "stop", author)
		if mayBeFine(i) {
			typed("it is fine", "expect", i.ID.String())
		}
	}
	if state != StateClosed && i.Culprit.Author != "" && sidecar.CanBeCleaned(i.Culprit.Kind) {
		typed("clean up", "clean", i.ID.String())
	}
	if sidecar.IsDomain(i.Domain) && i.Domain != "" {
		typed("who sends", "who", i.Domain)
	}
	typed("more", "incident", i.ID.String())
}

// mayBeFine reports whether an incident is only that an author sends much, which an operator may
// have expected.
func mayBeFine(i *incident.Incident) bool {
	cause := worst(i).Name
	volume := cause == incident.CauseSpike || cause == incident.CauseLimit && i.Severity > incident.Info
	return volume && i.Culprit.Kind != "forward" && i.Culprit.Kind != "client"
}

// canBeStopped reports whether sluice stop takes an author.
func canBeStopped(c incident.Culprit) bool {
	return c.Author != "" && c.Kind != "service" && c.Kind != "loopback"
}

// subject is how Exim logs a subject.
var subject = regexp.MustCompile(` T="(?:[^"\\]|\\.)*"`)

// logLine is a line of the log, without the subject if that is not to be told.
func logLine(line string, subjects bool) string {
	if subjects {
		return line
	}
	return subject.ReplaceAllString(line, "")
}

// times says how often an entry of a timeline has happened.
func times(e incident.Entry) string {
	if e.Count > 1 {
		return fmt.Sprintf(" (%d times)", e.Count)
	}
	return ""
}

// digest words several incidents in one notice, which has a line for each account or domain.
func (a *Alerts) digest(now time.Time, id string, items []item, kind sentKind) Notice {
	n := Notice{ID: id, At: now, Node: a.Node, State: StateDigest, Event: "digest", Severity: incident.Info}
	var lines []string
	of := map[string]int{}
	for _, x := range items {
		n.Severity = max(n.Severity, x.Severity)
		n.Incidents = append(n.Incidents, x.name)
		if kind == accounts {
			if of[x.account]++; of[x.account] == 1 {
				lines = append(lines, x.account)
			}
			continue
		}
		lines = append(lines, titleOf(x.Incident, x.state, now))
	}
	what := "more incidents than are told one by one in an hour"
	if kind == accounts {
		what = "more incidents of accounts of which enough was told in this hour"
		for n, account := range lines {
			lines[n] = fmt.Sprintf("%s: %d more", account, of[account])
		}
	}
	text := strings.Join(lines[:min(maxDigest, len(lines))], "\n") + "\n"
	if more := len(lines) - maxDigest; more > 0 {
		text += fmt.Sprintf("and %d more\n", more)
	}
	n.Title = clean(fmt.Sprintf("%d %s", len(items), what), maxTitle)
	n.Text = cleanLines(text + "  all of them: sluice incident\n")
	return n
}

// maxDigest is how many lines of a digest name somebody.
const maxDigest = 40

// testNotice is what sluice alert test sends.
func testNotice(node string, now time.Time) Notice {
	return Notice{ID: fmt.Sprintf("%s-test-%d", node, now.UnixNano()), At: now, Node: node, State: StateTest, Event: "test", Severity: incident.Info,
		Title: "a test: this is how you are told of incidents", Text: "Nothing has happened; somebody has run sluice alert test.\n"}
}
