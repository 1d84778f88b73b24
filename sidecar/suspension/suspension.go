package suspension

import (
	"fmt"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/settings"
)

// Blocker blocks payers that the panel has suspended, or, with Suspended false, has put
// on hold. Package engine adds one of each to the policy, and an operator's lock between
// them: a suspension refuses for good, so it must answer before the lock, which defers.
type Blocker struct {
	Settings  func() *settings.Settings
	Suspended bool
}

// Block implements policy.Blocker.
func (b Blocker) Block(_ time.Time, _ sidecar.Author, who sidecar.Payer) (sidecar.Block, bool) {
	s := b.Settings()
	whose, by := Of(s, who)
	if whose == "" || by.Suspended != b.Suspended {
		return sidecar.Block{}, false
	}
	block := sidecar.Block{SMTP: sidecar.Defer, Local: sidecar.Accept, By: sidecar.ByPanel}
	text := textHeld
	if by.Suspended {
		block.SMTP, block.Local, text = sidecar.Reject, sidecar.Reject, textSuspended
	}
	block.Text = func(sidecar.Action) sidecar.RefusalText {
		return sidecar.RefusalText{Text: fmt.Sprintf(text, whose), Where: fmt.Sprintf("%s; sluice on %s", by.Place, s.Node)}
	}
	return block, true
}

// Of finds which of a payer's mailbox, domain and account the panel blocks. It returns the
// name that refusals use, like "Domain example.com"; "" if none is blocked. A suspension
// wins over a hold, and between two of a kind the more specific scope wins.
func Of(s *settings.Settings, who sidecar.Payer) (whose string, by settings.PanelBlock) {
	if len(s.PanelBlocks) == 0 {
		return "", settings.PanelBlock{}
	}
	scopes := who.Scopes()
	for _, name := range scopes[:len(scopes)-1] { // a panel has no default scope
		if b, blocked := s.PanelBlocks[name]; blocked && (whose == "" || b.Suspended && !by.Suspended) {
			whose, by = sidecar.TitleOf(name), b
		}
	}
	return whose, by
}

// Operators grep for these texts. cPanel words the first "has an outgoing mail suspension".
const (
	textSuspended = "%s has been suspended from sending.  Message discarded."
	textHeld      = "%s is on hold.  Message will be reattempted later"
)
