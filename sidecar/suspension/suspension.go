package suspension

import (
	"fmt"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/settings"
)

// panelBlocker blocks whom the panel has suspended, or, with suspended false, has
// put on hold. A suspension is refused for good and speaks before a lock by hand.
type Blocker struct {
	Settings  func() *settings.Settings
	Suspended bool
}

func (b Blocker) Block(_ time.Time, _ sidecar.Author, who sidecar.Payer) (sidecar.Block, bool) {
	s := b.Settings()
	whose, by := s.PanelBlockOf(who)
	if whose == "" || by.Suspended != b.Suspended {
		return sidecar.Block{}, false
	}
	block := sidecar.Block{SMTP: sidecar.Defer, Local: sidecar.Accept, By: sidecar.ByPanel}
	text := textHeld
	if by.Suspended {
		block.SMTP, block.Local, text = sidecar.Reject, sidecar.Reject, textSuspended
	}
	block.Text = func(sidecar.Action) string {
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
