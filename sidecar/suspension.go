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

// Operators grep for these texts, like for those of package policy; cPanel words the
// first "has an outgoing mail suspension".
const (
	textSuspended = "%s has been suspended from sending.  Message discarded."
	textHeld      = "%s is on hold.  Message will be reattempted later"
)

// ErrStopped is wrapped by errors about a domain that the panel goes on to stop.
var ErrStopped = errors.New("still stopped by the panel")
