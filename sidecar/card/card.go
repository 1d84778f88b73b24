package card

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/incident"
	"sluice/sidecar/printable"
)

// A Card is what is shown of an incident.
type Card struct {
	incident.Incident
	Deeds  []Deed  // what operators have done as root on this node, the first first
	Queued *Queued // nil: not known
}

// A Deed is something that an operator has done about an incident.
type Deed struct {
	At         time.Time
	What, Whom string
	By         string
	Undo       string // the command that takes it back; empty: there is none
	State      string // done, failed, undone by another one
}

// Queued is what of the culprit's mail is in the queue of a node.
type Queued struct {
	Node     string
	Messages int64
	Others   []string // nodes that have sent too, of which it is not known
}

// A Fact is a line of a card.
type Fact struct{ Label, Text string }

// About is whom or what the incident is about.
func (c *Card) About() string { return cmp.Or(c.Domain, c.Node+": "+string(c.Condition)) }

// When says since and until when there was the incident.
func (c *Card) When() string {
	if c.Open() {
		return "open since " + printable.DateTime(c.Opened)
	}
	return fmt.Sprintf("from %s to %s", printable.DateTime(c.Opened), printable.DateTime(c.Closed))
}

// Headline says that it was stopped, when and by whom, and whether it may send again; empty: it was not.
func (c *Card) Headline() string {
	stopped := c.StoppedAt()
	if stopped.IsZero() {
		return ""
	}
	text := fmt.Sprintf("STOPPED BY %s %s", strings.ToUpper(c.stoppedBy()), Clock(stopped, c.Opened))
	if first := began(&c.Minutes); !first.IsZero() && first.Before(stopped) {
		text += fmt.Sprintf(", %s after it began", until(first, stopped))
	}
	if is, at := c.lastStop(); !is && !at.IsZero() {
		text += ", and started again " + Clock(at, c.Opened)
	}
	return text
}

// stoppedBy is who stopped the culprit first.
func (c *Card) stoppedBy() string {
	for _, e := range c.Timeline {
		if e.Event == event.Stopped && e.Scope == c.Culprit.Author && e.By != "" {
			return e.By
		}
	}
	return "Sluice"
}

// Began is when it began, as far as is known.
func (c *Card) Began() time.Time {
	if first := began(&c.Minutes); !first.IsZero() {
		return first
	}
	return c.Opened
}

// IsStopped reports whether the culprit is stopped, as far as the timeline goes.
func (c *Card) IsStopped() bool {
	stopped, _ := c.lastStop()
	return stopped
}

// lastStop is what the timeline has last of the culprit's stops: that it was stopped or started, and
// when; the zero time: nothing.
func (c *Card) lastStop() (stopped bool, at time.Time) {
	for _, e := range c.Timeline {
		if e.Scope == c.Culprit.Author && (e.Event == event.Stopped || e.Event == event.Started) {
			stopped, at = e.Event == event.Stopped, e.At
		}
	}
	return stopped, at
}

// Chart is the picture; nil if nothing is known by the minute.
func (c *Card) Chart() *Chart { return newChart(&c.Incident) }

// Facts are the lines below the picture.
func (c *Card) Facts() []Fact {
	facts := append(c.sent(), c.who()...)
	if done := c.done(); done != "" {
		facts = append(facts, Fact{"DONE", done})
	}
	if q := c.Queued; q != nil {
		left := "nothing of it is in the queue of " + q.Node
		if q.Messages > 0 {
			left = fmt.Sprintf("%s of it in the queue of %s", printable.Count(q.Messages, "message", "messages"), q.Node)
		}
		if len(q.Others) > 0 {
			left += "; not known of " + strings.Join(q.Others, ", ")
		}
		facts = append(facts, Fact{"LEFT", left})
	}
	if without := c.without(); without != "" {
		facts = append(facts, Fact{"WITHOUT", without})
	}
	return facts
}

// sent is what was sent in the minutes of the chart, and after the stop.
func (c *Card) sent() []Fact {
	if len(c.Minutes.Tried) == 0 {
		return c.others()
	}
	s := sumOf(&c.Incident)
	facts := []Fact{{"SENT", fmt.Sprintf("%s tried %s and sent %s", c.Culprit.Author, count(s.tried), count(s.sent))}}
	if s.after {
		facts = append(facts, Fact{"AFTER", fmt.Sprintf("the stop it sent %s, and tried %s", count(s.afterSent), count(s.afterTried))})
	}
	others := fmt.Sprintf("%s sent, %s refused", count(s.othersSent), count(max(0, s.othersTried-s.othersSent)))
	if s.othersSent > 0 && s.othersTried <= s.othersSent {
		others += ": nobody else noticed"
	}
	return append(facts, Fact{"OTHERS", others})
}

// others are those who sent beside the culprit when it was worst, where nothing is known by the minute.
func (c *Card) others() []Fact {
	n, sent := int64(0), int64(0)
	for _, s := range c.Evidence.Who {
		if c.Culprit.Author != "" && s.Author != c.Culprit.Author {
			n, sent = n+1, sent+s.Sent
		}
	}
	if n == 0 {
		return nil
	}
	return []Fact{{"OTHERS", fmt.Sprintf("%s: %s sent when it was worst", printable.Count(n, "sender", "senders"), count(sent))}}
}

// who is the culprit, and what is known of it.
func (c *Card) who() []Fact {
	who := &c.Culprit
	if who.Author == "" {
		return nil
	}
	text := fmt.Sprintf("%s, %s of %s", who.Author, count(who.Count), count(who.Of))
	if i := slices.IndexFunc(c.Evidence.Who, func(s incident.Sender) bool { return s.Author == who.Author }); i >= 0 && len(c.Evidence.Who[i].Networks) > 0 {
		s := &c.Evidence.Who[i]
		more := ""
		if s.MoreNetworks {
			more = "more than "
		}
		text += fmt.Sprintf(", from %s%s", more, printable.Count(int64(len(s.Networks)), "network", "networks"))
	}
	if who.Usual > 0 {
		text += fmt.Sprintf(", usually %s in its busiest hours", count(who.Usual))
	}
	if who.Stopped {
		text += ", stopped alone"
	}
	return []Fact{{"WHO", fmt.Sprintf("%s   [%s]", text, who.Proof)}}
}

// done is what was done about it, by whom.
func (c *Card) done() string {
	type deed struct {
		at   time.Time
		text string
	}
	var all []deed
	words := map[event.Kind]string{event.Stopped: "stopped", event.Started: "started", event.Released: "held mail released", event.Command: "command", event.Changed: "limits changed"}
	for _, e := range c.Timeline {
		if word := words[e.Event]; word != "" {
			all = append(all, deed{e.At, fmt.Sprintf("%s (%s)", word, cmp.Or(e.By, "sluice"))})
		}
	}
	for _, d := range c.Deeds {
		text := d.What
		if d.State != "done" {
			text += ", " + d.State
		}
		all = append(all, deed{d.At, fmt.Sprintf("%s (%s)", text, d.By)})
	}
	slices.SortStableFunc(all, func(a, b deed) int { return a.at.Compare(b.at) })
	var texts []string
	for _, d := range all {
		texts = append(texts, Clock(d.at, c.Opened)+" "+d.text)
	}
	return strings.Join(texts, "  ")
}

// without is what a limit of the domain alone would have done.
func (c *Card) without() string {
	others := 0
	for _, s := range c.Evidence.Who {
		if s.Author != c.Culprit.Author {
			others++
		}
	}
	if e := c.Evidence; c.StoppedAt().IsZero() || e.Limit == 0 || e.Tried <= e.Limit || others == 0 {
		return ""
	}
	return fmt.Sprintf("Sluice: %s an hour for the whole domain, and its %s would have been refused too", count(c.Evidence.Limit),
		printable.Count(int64(others), "other sender", "other senders"))
}

// An Entry is a line of the timeline: an event, or what an operator did.
type Entry struct{ When, What, By, Text string }

// History is the timeline with what operators did, the first first.
func (c *Card) History() []Entry {
	type entry struct {
		at time.Time
		Entry
	}
	var all []entry
	for _, e := range c.Timeline {
		text := e.Text
		if e.Count > 1 {
			text = fmt.Sprintf("%d times until %s: %s", e.Count, Clock(e.Last, c.Opened), text)
		}
		all = append(all, entry{e.At, Entry{Clock(e.At, c.Opened), string(e.Event), e.By, text}})
	}
	for _, d := range c.Deeds {
		text := cmp.Or(d.Whom, "-") + ", " + d.State
		if d.Undo != "" {
			text += "; to take it back: " + d.Undo
		}
		all = append(all, entry{d.At, Entry{Clock(d.At, c.Opened), d.What, d.By, text}})
	}
	slices.SortStableFunc(all, func(a, b entry) int { return a.at.Compare(b.at) })
	entries := make([]Entry, len(all))
	for n := range all {
		entries[n] = all[n].Entry
	}
	return entries
}

// A Cause is why the incident was open, as it is shown.
type Cause struct{ Name, When string }

// Why lists the causes.
func (c *Card) Why() (all []Cause) {
	for _, cause := range c.Causes {
		when := "since " + Clock(cause.Since, c.Opened) + ", still so"
		if !cause.Gone.IsZero() {
			when = "since " + Clock(cause.Since, c.Opened) + ", until " + Clock(cause.Gone, c.Opened)
		}
		all = append(all, Cause{strings.TrimSpace(cause.Name + " " + cause.Scope), when})
	}
	return all
}
