package incident

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"
)

// Notified is the last notice about an incident that was delivered on a channel of alerts. Nodes share
// it, so that the one that takes over continues after it. A notice that is sent again, because it is
// not known whether it was delivered, has the same number.
type Notified struct {
	Number   int64     `json:"revision"` // of the notice, among those about the incident on this channel; an earlier version had a revision in its place
	Severity Severity  `json:"severity"`
	Culprit  string    `json:"culprit,omitempty"`
	Closed   bool      `json:"closed,omitempty"` // that it is over
	At       time.Time `json:"at"`
	Digest   bool      `json:"digest,omitempty"` // it was a line of a digest: no notice says that the incident is over
}

// maxChannels bounds the channels, of all nodes together, whose last notice is kept.
const maxChannels = 100

// receiveNotified stores the last notice of a channel, from the board; a nil value: it was removed.
func (s *shared) receiveNotified(channel, number string, value []byte) error {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || len(channel) > maxText {
		return errors.New("it is the number of no notice")
	}
	last := s.notified[channel]
	if value == nil {
		if last.Number == n {
			delete(s.notified, channel)
		}
		return nil
	}
	var t Notified
	if json.Unmarshal(value, &t) != nil || t.Number != n || t.Severity < Info || len(t.Culprit) > 2*maxText || len(s.notified) >= maxChannels {
		return errors.New("it is no notice about an incident")
	}
	if n > last.Number {
		s.notified[channel] = t
	}
	return nil
}

// Leads reports whether this node is to notify of an incident; true if it is not kept any more.
func (s *Incidents) Leads(id ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.all {
		if i.ID == id {
			return s.leads(i)
		}
	}
	return true
}

// LastNotified returns the last notice about an incident on a channel that any node has shared; false
// if no other node has a part in this incident.
func (s *Incidents) LastNotified(i *Incident, channel string) (t Notified, shared bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.shared[i.Domain]
	if of == nil || of.claim == nil || of.claim.ID != i.ID {
		return Notified{}, false
	}
	return of.notified[channel], true
}

// ShareNotified shares with the other nodes that a notice about an incident was delivered, if they
// have a part in it.
func (s *Incidents) ShareNotified(ctx context.Context, i *Incident, channel string, t Notified) error {
	before, shared := s.LastNotified(i, channel)
	if !shared || before.Number >= t.Number {
		return nil
	}
	value, err := json.Marshal(t)
	if err != nil {
		return err
	}
	key := func(n int64) string { return domainKey(i.Domain, toldKey, channel, strconv.FormatInt(n, 10)) }
	if _, err := s.Board.Post(ctx, key(t.Number), value); err != nil || before.Number == 0 {
		return err
	}
	return s.Board.Remove(ctx, key(before.Number))
}

// takeOver continues an incident that this node leads from now on, with the culprit of the former
// leader. If it is over and that was not notified yet, it is closed anew. s.mu is held.
func (s *Incidents) takeOver(now time.Time, i *state) {
	of := s.shared[i.Domain]
	if of != nil && i.Domain != "" && !i.alone {
		if p := of.parts[of.before()]; p != nil && p.ID == i.ID && p.Culprit.Author != "" {
			i.Culprit = p.Culprit
		}
		if !i.Open() && of.over().IsZero() {
			i.Closed, i.news = now, true
		}
	}
	i.news = i.news || i.Open()
}
