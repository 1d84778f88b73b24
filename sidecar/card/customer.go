package card

import (
	"fmt"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/incident"
	"sluice/sidecar/printable"
)

// A Letter is what a customer may read of an incident: the names of its own account, no
// recipient, no other tenant, and no server.
type Letter struct {
	Title      string
	Paragraphs []string
	Todo       []string
}

// Letter words the incident for who owns the domain, of an account if that is known. It is
// false of an incident that is about a node.
func (c *Card) Letter(account string) (l Letter, ok bool) {
	if c.Domain == "" || !sidecar.IsDomain(c.Domain) {
		return l, false
	}
	name := c.own(account)
	l.Title = fmt.Sprintf("Mail of %s (reference %s)", c.Domain, c.ID)
	l.Paragraphs = append(l.Paragraphs, c.happened(name), c.consequence(name))
	l.Todo = todo(c.Culprit.Kind)
	return l, true
}

// own is the culprit's name if it is the customer's, else a description.
func (c *Card) own(account string) string {
	author := c.Culprit.Author
	address := strings.TrimPrefix(author, sidecar.ForwardPrefix)
	switch {
	case author == "":
		return "a sender of the domain"
	case strings.HasSuffix(address, "@"+c.Domain), account != "" && c.Culprit.Account == account:
		return author
	}
	return "a program on the server"
}

// happened is what was sent, and when.
func (c *Card) happened(name string) string {
	text := fmt.Sprintf("From %s on, %s tried to send mail to %s recipients.", printable.DateTime(c.Opened), name, count(c.Culprit.Count))
	if s := sumOf(&c.Incident); s.tried > 0 {
		text = fmt.Sprintf("Between %s and %s, %s tried to send mail to %s recipients; to %s of them it was sent.",
			printable.DateTime(c.Minutes.From), printable.DateTime(c.Minutes.Until), name, count(max(s.tried, s.sent)), count(s.sent))
	}
	if c.Culprit.Author == "" {
		text = fmt.Sprintf("From %s on, the domain %s has sent unusually much mail, or much that other servers did not take.", printable.DateTime(c.Opened), c.Domain)
	}
	if c.Culprit.Usual > 0 {
		text += fmt.Sprintf(" In its busiest hours it usually sends to %s.", count(c.Culprit.Usual))
	}
	if c.had(incident.CauseDeferfail) || c.had(incident.CauseCulprit) {
		text += " Other servers have refused much of it."
	}
	return text
}

// consequence is what was done.
func (c *Card) consequence(name string) string {
	stopped := c.StoppedAt()
	switch {
	case !stopped.IsZero():
		return fmt.Sprintf("At %s %s was stopped. The other senders of %s went on.", printable.DateTime(stopped), name, c.Domain)
	case c.had(incident.CauseDeferfail):
		return fmt.Sprintf("The mail of %s was refused for a time, to keep the server from being called a source of spam.", c.Domain)
	case c.had(incident.CauseLimit):
		return fmt.Sprintf("%s has used up what it may send; more mail is taken as soon as there is room again.", c.Domain)
	}
	return "Nothing was refused for it."
}

func (c *Card) had(cause string) bool {
	for _, one := range c.Causes {
		if one.Name == cause {
			return true
		}
	}
	return false
}

// todo is what a customer can do, by the kind of who has sent.
func todo(kind string) []string {
	tell := "If you have sent this mail yourself, tell us, with the reference above."
	switch kind {
	case "mailbox", "login":
		return []string{
			"Change the password of this login, to one that is used nowhere else, and then on each device that uses it.",
			"Look for malware on these devices: a password that was stolen there is stolen again.",
			"Look for forwardings, filters and vacation texts in the mailbox that you have not made.", tell}
	case "script":
		return []string{
			"Update the application in this directory, with all its plugins and themes.",
			"Remove files that you do not know, or restore the application from a backup of before.",
			"Change the passwords of its administrators, of its database, and of FTP.", tell}
	case "forward":
		return []string{"Mail from outside is forwarded by this address. Forward to a mailbox that you read, or collect the mail from there.", tell}
	}
	return []string{tell}
}

// Text is the letter as plain text.
func (l Letter) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", printable.TextOf(l.Title))
	for _, p := range l.Paragraphs {
		fmt.Fprintf(&b, "%s\n\n", printable.TextOf(p))
	}
	fmt.Fprintln(&b, "What you can do:")
	for _, p := range l.Todo {
		fmt.Fprintf(&b, "- %s\n", printable.TextOf(p))
	}
	return b.String()
}
