package sidecar

import (
	"errors"
	"fmt"
	"time"
)

// panelBlocker blocks whom the panel has suspended, or, with suspended false, has
// put on hold. A suspension is refused for good and speaks before a lock by hand.
type panelBlocker struct {
	settings  func() *Settings
	suspended bool
}

func (b panelBlocker) Block(_ time.Time, _ Author, who identity) (Block, bool) {
	s := b.settings()
	whose, by := s.stopOf(who)
	if whose == "" || by.Suspended != b.suspended {
		return Block{}, false
	}
	block := Block{SMTP: Defer, Local: Accept, By: ByPanel}
	text := textHeld
	if by.Suspended {
		block.SMTP, block.Local, text = Reject, Reject, textSuspended
	}
	block.Text = func(Action) string {
		return fmt.Sprintf(text, whose) + fmt.Sprintf(" [%s; sluice on %s]", by.Place, s.Node)
	}
	return block, true
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

// verb is what a panel does to whom it stops.
func (s Stop) verb() string {
	if s.Suspended {
		return "suspends"
	}
	return "holds"
}

// ErrStopped is wrapped by errors about a domain that the panel goes on to stop.
var ErrStopped = errors.New("still stopped by the panel")
