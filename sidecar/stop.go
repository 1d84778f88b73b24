package sidecar

import "fmt"

// A stop is why nothing of a payer goes, whatever is counted.
type stop struct {
	action Action
	text   string
}

// stop finds what stops somebody: a suspension by the panel, then a lock by
// hand, then a hold by the panel. 550 speaks before 450.
func (p *Policy) stop(s *Settings, who identity) *stop {
	whose, by := s.stopOf(who)
	switch {
	case by.Suspended:
		return &stop{Reject, fmt.Sprintf(textSuspended, whose) + fmt.Sprintf(" [%s; sluice on %s]", by.Place, s.Node)}
	case who.domain != "" && p.lockedByHand(who.domain):
		return &stop{Defer, fmt.Sprintf(textLocked, who.domain)}
	case whose != "":
		return &stop{Defer, fmt.Sprintf(textHeld, whose) + fmt.Sprintf(" [%s; sluice on %s]", by.Place, s.Node)}
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
	p.log.Refused(q.Request, q.stopped.action, q.stopped.text)
	return Reply{Action: q.stopped.action, Text: q.stopped.text}
}
