package alert

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/incident"
)

// maxShared bounds the notices that are shared at a time: each takes a round trip.
const maxShared = 50

// noticeID is the id of a notice about an incident: of so many on one channel.
func noticeID(of string, number int64, state State) string {
	return fmt.Sprintf("%s.%d.%s", of, number, state)
}

// of returns, from the name of a notice, which incident it is about and which of its notices it is;
// 0 if it is not about an incident of a domain.
func (n *Notice) of() (i incident.Incident, number int64) {
	at := strings.LastIndexByte(n.Incident, '-')
	if n.Domain == "" || at < 0 {
		return i, 0
	}
	i.Domain, i.Node = n.Domain, n.Incident[:at]
	text, _, _ := strings.Cut(strings.TrimPrefix(n.ID, n.Incident+"."), ".")
	var bad, err error
	i.Number, bad = strconv.ParseInt(n.Incident[at+1:], 10, 64)
	number, err = strconv.ParseInt(text, 10, 64)
	if bad != nil || err != nil {
		return i, 0
	}
	return i, number
}

// leads reports whether this node sends the notices about an incident.
func (a *Alerts) leads(id incident.ID) bool { return a.Shared == nil || a.Shared.Leads(id) }

// adoptShared takes over the number of the last notice, if another node has sent later ones about an
// incident than this one.
func (a *Alerts) adoptShared(q *queue, i named) {
	if a.Shared == nil || i.Domain == "" {
		return
	}
	if t, _ := a.Shared.LastNotified(i.Incident, q.configured().Key()); t.Number > q.record.Last[i.name].Number {
		q.record.Last[i.name] = t
	}
}

// dropDelivered drops notices from the queue that another node has delivered, for example while this
// one was down.
func (a *Alerts) dropDelivered(q *queue) {
	if a.Shared == nil {
		return
	}
	channel := q.configured().Key()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, func(p *pending) bool {
		i, number := p.notice.of()
		if number == 0 {
			return false
		}
		t, _ := a.Shared.LastNotified(&i, channel)
		if t.Number >= number {
			q.removeFile(p)
		}
		return t.Number >= number
	})
}

// Share lets other nodes know what was delivered, so that whichever takes over an incident repeats
// nothing. What was delivered but not shared when this node dies is sent again, under the same id.
func (a *Alerts) Share(ctx context.Context) {
	if a.Shared == nil {
		return
	}
	for _, c := range a.Config().Alert.To {
		a.queuesMu.Lock()
		q := a.queues[c.Key()]
		a.queuesMu.Unlock()
		if q == nil || c.Format == config.FormatAlertmanager {
			continue
		}
		if err := a.shareOf(ctx, q, c.Key()); err != nil {
			a.Events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
			return // the next step tries again
		}
	}
}

func (a *Alerts) shareOf(ctx context.Context, q *queue, channel string) error {
	waits := q.waitsAbout()
	left := maxShared
	for _, i := range a.sorted {
		t, known := q.record.Last[i.name]
		if !known || i.Domain == "" || waits[i.name] || left == 0 {
			continue
		}
		if there, shared := a.Shared.LastNotified(i.Incident, channel); !shared || there.Number >= t.Number {
			continue
		}
		left--
		if err := a.Shared.ShareNotified(ctx, i.Incident, channel, t); err != nil {
			return err
		}
	}
	return nil
}

// waitsAbout returns the incidents with a notice that is not delivered yet.
func (q *queue) waitsAbout() map[string]bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	about := map[string]bool{}
	for _, p := range q.waiting {
		for _, i := range p.notice.about() {
			about[i] = true
		}
	}
	return about
}
