package alert

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"sluice/sidecar/config"
)

// Alertmanager wants to be told of all that is open again and again, and groups and repeats by
// itself. So it has no queue: what is there now is posted every minute, and after each change.
const postEvery = time.Minute

// An alert is as Alertmanager's API v2 takes it.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt,omitzero"`
}

// postURL is where a webhook is posted to.
func postURL(c config.Channel) string {
	const api = "/api/v2/alerts"
	if c.Format != config.FormatAlertmanager || strings.HasSuffix(c.Target, api) {
		return c.Target
	}
	return strings.TrimSuffix(c.Target, "/") + api
}

// alertOf is an alert with what a notice says, about an incident that a node has numbered. Its labels
// are the same as long as it is there, whichever node tells of it.
func alertOf(n Notice, node string, opened time.Time) alert {
	name := "Sluice"
	for word := range strings.SplitSeq(n.Event, "-") {
		name += strings.ToUpper(word[:min(1, len(word))]) + word[min(1, len(word)):]
	}
	return alert{StartsAt: opened, EndsAt: n.Closed,
		Labels:      map[string]string{"alertname": name, "domain": n.Domain, "node": node, "severity": n.Severity.String(), "incident": n.Incident},
		Annotations: map[string]string{"summary": n.Title, "description": n.Text, "command": "sluice incident " + n.Incident}}
}

// offer has the channel's goroutine post all that is open, or was until an hour ago.
func (a *Alerts) offer(q *queue, now time.Time, c *rule) error {
	alerts := []alert{}
	for _, n := range a.sorted {
		i := n.Incident
		if !c.wants(i) || !i.Open() && now.Sub(i.Closed) > time.Hour || !a.leads(i.ID) {
			continue
		}
		state := StateOpen
		if !i.Open() {
			state = StateClosed
		}
		alerts = append(alerts, alertOf(a.notice(now, c, i, state, 1), i.ID.Node, i.Opened))
	}
	text, err := json.Marshal(alerts)
	if err != nil || len(alerts) == 0 {
		return err
	}
	select {
	case <-q.offer.notice: // nobody has taken it
	default:
	}
	q.offer.notice <- Notice{ID: a.Node, At: now, Node: a.Node, State: StateOpen, Text: string(text)}
	return nil
}

// runLatest posts the latest offer until ctx is done. One that fails is not tried again: the next
// one has all of it.
func (q *queue) runLatest(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-q.offer.notice:
			if err := q.send(ctx, q.configured(), n); ctx.Err() == nil {
				q.done(&pending{notice: n}, err)
			}
		}
	}
}

// testAlert is a test for Alertmanager: an alert that is over in a minute.
func testAlert(n Notice) ([]byte, error) {
	n.Closed = n.At.Add(time.Minute)
	return json.Marshal([]alert{alertOf(n, n.Node, n.At)})
}
