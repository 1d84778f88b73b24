package sidecar

import (
	"errors"
	"fmt"
)

// ErrStopped is wrapped by errors about a domain that the panel goes on to stop.
var ErrStopped = errors.New("still stopped by the panel")

// verb is what a panel does to whom it stops.
func (s Stop) verb() string {
	if s.Suspended {
		return "suspends"
	}
	return "holds"
}

// Who stops somebody, as status shows it.
const (
	byPanel    = "panel"
	byOperator = "operator"
)

// A stop is why nothing of a payer goes, whatever is counted.
type stop struct {
	action Action
	text   string
	by     string // byPanel or byOperator
}

// stop finds what stops somebody: a suspension by the panel, then a lock by
// hand, then a hold by the panel. 550 speaks before 450.
func (p *Policy) stop(s *Settings, who identity) *stop {
	whose, by := s.stopOf(who)
	switch {
	case by.Suspended:
		return &stop{Reject, fmt.Sprintf(textSuspended, whose) + fmt.Sprintf(" [%s; sluice on %s]", by.Place, s.Node), byPanel}
	case who.domain != "" && p.lockedByHand(who.domain):
		return &stop{Defer, fmt.Sprintf(textLocked, who.domain), byOperator}
	case whose != "":
		return &stop{Defer, fmt.Sprintf(textHeld, whose) + fmt.Sprintf(" [%s; sluice on %s]", by.Place, s.Node), byPanel}
	}
	return nil
}

// stopOf is what the panel has stopped of somebody, and how refusals call it:
// suspended before on hold, and of those the most specific.
func (s *Settings) stopOf(who identity) (whose string, by Stop) {
	if len(s.stops) == 0 {
		return "", Stop{}
	}
	names := [...]string{who.mailbox, who.domain, ""}
	if who.account != "" {
		names[2] = accountPrefix + who.account
	}
	for _, name := range names {
		if st, stopped := s.stops[name]; name != "" && stopped && (whose == "" || st.Suspended && !by.Suspended) {
			whose, by = titleOf(name), st
		}
	}
	return whose, by
}

func (p *Policy) refuseStopped(q *question) Reply {
	p.totals.refused.Add(1)
	p.emitRefused(q.Request, q.stopped.action, q.stopped.text)
	return Reply{Action: q.stopped.action, Text: q.stopped.text}
}
