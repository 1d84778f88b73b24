package alert

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/incident"
)

// An item is a notice that is due about one incident.
type item struct {
	named
	state   State
	account string
	kind    sentKind
}

// writeDue writes the notices that are due on a channel. They are written before the record says so:
// after a crash in between they are sent twice rather than never.
func (a *Alerts) writeDue(q *queue, now time.Time, c *rule) error {
	before := q.record.Next
	q.record.forget(now)
	a.dropDelivered(q)
	err := a.writeNotices(q, now, c)
	if q.record.Next != before {
		a.forget(&q.record)
		err = errors.Join(err, q.save(now))
		q.deliverSoon()
	}
	return err
}

// forget drops the record of incidents that are not kept any more.
func (a *Alerts) forget(r *record) {
	if len(r.Last) <= 2*maxIncidents {
		return
	}
	kept := map[string]incident.Notified{}
	for _, i := range a.sorted {
		if t, is := r.Last[i.name]; is {
			kept[i.name] = t
		}
	}
	r.Last = kept
}

// writeNotices writes notices: of each incident by itself while there is room, and of what is left a
// digest.
func (a *Alerts) writeNotices(q *queue, now time.Time, c *rule) error {
	r, full := &q.record, a.full()
	var more, left []item // of accounts that have had theirs; for which there is no room
	for _, i := range a.sorted {
		a.adoptShared(q, i)
		x := item{named: i, state: r.due(now, c, i), kind: plain}
		if x.state == "" || !a.leads(i.ID) {
			continue
		}
		x.account = a.accountOf(i.Domain)
		if i.Severity == incident.Critical && x.state != StateClosed {
			x.kind = critical
		}
		switch {
		case r.accountFull(x.account):
			more = append(more, x)
		case full || !r.room(x.kind, c.perHour):
			left = append(left, x)
		default:
			if err := a.write(q, now, c, x, x.kind); err != nil {
				return err
			}
		}
	}
	if q.untold.moreSince = since(q.untold.moreSince, more, now); ripe(q.untold.moreSince, now, c) && r.room(accounts, 1) {
		if r.room(plain, c.perHour) && !full {
			if err := a.writeDigest(q, now, c, more, accounts); err != nil {
				return err
			}
			more = nil
		} else {
			left = append(left, more...)
		}
	}
	if q.untold.leftSince = since(q.untold.leftSince, left, now); ripe(q.untold.leftSince, now, c) && r.room(overflow, 1) && !full {
		return a.writeDigest(q, now, c, left, overflow)
	}
	return nil
}

// since is when the first of some items has begun to wait; zero if none waits.
func since(was time.Time, items []item, now time.Time) time.Time {
	switch {
	case len(items) == 0:
		return time.Time{}
	case was.IsZero():
		return now
	}
	return was
}

// ripe reports whether items have waited so long that others of the same flood are among them.
func ripe(since, now time.Time, c *rule) bool {
	return !since.IsZero() && now.Sub(since) >= c.wait
}

// accountOf returns by which name the notices about a domain are bounded: its account or, without an
// owner map, the domain with its forwarders. "" for an incident of the node, which has no such bound.
func (a *Alerts) accountOf(domain string) string {
	if domain == "" {
		return ""
	}
	if account := a.Account(domain); account != "" {
		return account
	}
	return strings.TrimPrefix(domain, sidecar.ForwardPrefix)
}

// write writes the notice about one incident, and records it as sent.
func (a *Alerts) write(q *queue, now time.Time, c *rule, x item, kind sentKind) error {
	i := x.Incident
	if current, known := a.Current(i.ID); known && current.Revision == i.Revision {
		i = &current
	}
	if err := q.add(a.notice(now, c, i, x.state, q.record.Last[x.name].Number+1)); err != nil {
		return err
	}
	q.record.noteSent(now, x, false)
	q.record.Sent = append(q.record.Sent, sent{now, kind, x.account})
	return nil
}

// writeDigest writes one notice about several incidents; about a single one, its own notice.
func (a *Alerts) writeDigest(q *queue, now time.Time, c *rule, items []item, kind sentKind) error {
	if len(items) == 1 {
		return a.write(q, now, c, items[0], kind)
	}
	if err := q.add(a.digest(now, fmt.Sprintf("%s-digest-%d-%d", a.Node, q.record.Since.Unix(), q.record.Next), items, kind)); err != nil {
		return err
	}
	for _, x := range items {
		q.record.noteSent(now, x, true)
	}
	q.record.Sent = append(q.record.Sent, sent{At: now, Kind: kind})
	return nil
}

// noteSent records the notice about an incident as sent.
func (r *record) noteSent(now time.Time, x item, digest bool) {
	t := incident.Notified{Number: r.Last[x.name].Number + 1, Severity: x.Severity, Culprit: culpritOf(x.Incident), Closed: x.state == StateClosed, At: now}
	t.Digest = digest && !t.Closed
	r.Last[x.name] = t
}
