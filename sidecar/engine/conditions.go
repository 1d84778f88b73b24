package engine

import (
	"slices"
	"strings"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/logline"
	"sluice/sidecar/operator"
)

// conditions emits events about states of the node that would otherwise only be seen in sluice
// status: nodes whose files differ, a log that is far behind, an Exim that does not ask.
type conditions struct {
	events   event.Sink
	measures func(time.Time) operator.Measures
	checked  time.Time
	since    map[event.Kind]time.Time // when the condition began
	emitted  map[event.Kind]bool

	began       time.Time // first tick
	hour        time.Time // when late and asked were counted
	late, asked int64
	unasked     bool
}

const (
	conditionsEvery = time.Minute
	lastsFor        = 5 * time.Minute // before an event: nodes get a new configuration one after the other, and a log is caught up in the end
	farBehind       = 16 << 20        // bytes of log: about an hour of a busy server
	readUp          = 1 << 20         // bytes of log that are unread now and then, on a busy server
	unaskedSends    = 20              // in an hour, before the event that Exim does not ask
	signAge         = 60.0            // seconds: an older sign of a node says nothing
)

// ends has the kind of event that says that a condition is over.
var ends = map[event.Kind]event.Kind{event.NodesDiffer: event.NodesAgree, event.LogBehind: event.LogNotBehind, event.Unasked: event.Asked}

// tick checks the conditions once a minute.
func (c *conditions) tick(now time.Time) {
	if now.Sub(c.checked) < conditionsEvery {
		return
	}
	c.checked = now
	m := c.measures(now)
	c.update(now, event.NodesDiffer, lastsFor, "nodes", differing(m))
	file := ""
	for _, l := range m.Logs {
		if l.Trouble == "" && l.Size-l.Read > farBehind {
			file = l.File
		}
	}
	c.update(now, event.LogBehind, lastsFor, "file", file)
	late := ""
	if c.countAsked(now, m); c.unasked {
		late = "all of an hour"
	}
	c.update(now, event.Unasked, 0, "sends", late)
}

// differing returns the nodes that have other limits in their files than this one; "" if there are none.
func differing(m operator.Measures) string {
	if m.Shared == nil {
		return ""
	}
	var names []string
	for _, n := range m.Shared.Nodes {
		if n.Differs && n.SignAge < signAge {
			names = append(names, n.Node)
		}
	}
	return strings.Join(names, ", ")
}

// countAsked finds out, once an hour, whether Exim sends mail without asking. The hour begins when the
// log is read to its end: Exim could not ask about what it sent while sluice was down.
func (c *conditions) countAsked(now time.Time, m operator.Measures) {
	asked := m.Accepted + m.Refused + m.Exempt
	if asked > c.asked {
		c.unasked = false
	}
	if c.began.IsZero() {
		c.began = now
	}
	unread := slices.ContainsFunc(m.Logs, func(l logline.Progress) bool { return l.Size-l.Read > readUp })
	if unread || now.Sub(c.began) < lastsFor {
		c.hour, c.late, c.asked = now, m.Late, asked
		return
	}
	if now.Sub(c.hour) < time.Hour {
		return
	}
	c.unasked = asked == c.asked && m.Late-c.late >= unaskedSends
	c.hour, c.late, c.asked = now, m.Late, asked
}

// update emits an event when a condition has lasted for a while, and another when it is over. The
// condition holds if what, the value of the attribute key, is not empty.
func (c *conditions) update(now time.Time, kind event.Kind, lasts time.Duration, key, what string) {
	switch first, is := c.since[kind]; {
	case what == "":
		delete(c.since, kind)
		if c.emitted[kind] {
			c.events.Emit(event.Event{Kind: ends[kind], At: now})
		}
		c.emitted[kind] = false
	case !is:
		c.since[kind] = now
		if lasts == 0 {
			c.emit(now, kind, key, what)
		}
	case !c.emitted[kind] && now.Sub(first) >= lasts:
		c.emit(now, kind, key, what)
	}
}

func (c *conditions) emit(now time.Time, kind event.Kind, key, what string) {
	c.emitted[kind] = true
	c.events.Emit(event.Event{Kind: kind, At: now, Attrs: event.Attrs(key, what)})
}
