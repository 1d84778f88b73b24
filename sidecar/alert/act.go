package alert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/incident"
	"sluice/sidecar/printable"
)

// acts are what operators do, by a command or by a hand in the lock directory.
var acts = []event.Kind{event.Command, event.Changed, event.Stopped, event.Started, event.LockMade, event.LockTaken, event.LockRemoved, event.UsageRemoved}

// maxActed bounds the actions of operators that wait for a notice: beyond it the oldest are dropped.
const maxActed = 1000

// Event records what an operator has done on this node, for the channels that have tell_actions.
// All other events are ignored.
func (a *Alerts) Event(e event.Event) {
	on := e.Attr("node")
	if !slices.Contains(acts, e.Kind) || e.Attr("of") != "" || on != "" && !strings.EqualFold(on, a.Node) {
		return // also what Sluice has stopped by itself
	}
	a.mu.Lock()
	a.acted = append(a.acted, e)
	a.acted = a.acted[max(0, len(a.acted)-maxActed):]
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// takeActions returns and clears what operators have done since the last call.
func (a *Alerts) takeActions() []event.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	acted := a.acted
	a.acted = nil
	return acted
}

// writeActions writes one notice about what operators have done. It has a budget of its own, so that
// it takes no place from an alarm. What has no room waits.
func (a *Alerts) writeActions(q *queue, now time.Time, c *rule, acted []event.Event) error {
	if !c.Actions || c.Format == config.FormatAlertmanager {
		q.untold.acted = nil
		return nil
	}
	for _, e := range acted {
		if len(c.Domains) == 0 || slices.Contains(c.Domains, cmp.Or(e.Domain, e.Attr("scope"))) {
			q.untold.acted = append(q.untold.acted, e)
		}
	}
	q.untold.acted = q.untold.acted[max(0, len(q.untold.acted)-maxActed):]
	q.record.forget(now)
	if len(q.untold.acted) == 0 || !q.record.room(actions, c.perHour) || a.full() {
		return nil
	}
	id := fmt.Sprintf("%s-action-%d-%d", a.Node, q.record.Since.Unix(), q.record.Next)
	if err := q.add(a.actionNotice(now, id, q.untold.acted)); err != nil {
		return err
	}
	q.untold.acted = nil
	q.record.Sent = append(q.record.Sent, sent{At: now, Kind: actions})
	err := q.save(now)
	q.deliverSoon()
	return err
}

// actionNotice words what operators have done, a line for each.
func (a *Alerts) actionNotice(now time.Time, id string, acted []event.Event) Notice {
	var text strings.Builder
	for _, e := range acted {
		fmt.Fprintf(&text, "%s | %s\n", printable.DateTime(e.At), printable.Of(actionText(e)))
	}
	title := actionText(acted[0])
	if len(acted) > 1 {
		title = fmt.Sprintf("operators have done %d things", len(acted))
	}
	return Notice{ID: id, At: now, Node: a.Node, State: StateAction, Event: "action", Severity: incident.Info,
		Title: clean(title, maxTitle), Text: cleanLines(text.String() + "  more: sluice events, sluice history\n")}
}

// actionText says who has done what.
func actionText(e event.Event) string {
	what, details := string(e.Kind), e.Details("who", "node")
	if e.Kind == event.Command {
		what, details = "sluice "+e.Attr("command")+" "+e.Attr("scope"), e.Details("who", "command", "scope")
	}
	words := []string{cmp.Or(e.Attr("who"), "a hand") + ":", what, e.Domain, details}
	return strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), " ")
}
